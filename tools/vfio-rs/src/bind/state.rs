// SPDX-License-Identifier: GPL-2.0
//! What devices had before they were bound: /run/vfio-rs/bound.json.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use crate::address::Address;
use crate::json::SCHEMA;
use crate::machine::Device;
use crate::root::Root;

const FOLDER: &str = "run/vfio-rs";
const FILE: &str = "run/vfio-rs/bound.json";

/// What a device had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Before {
    /// Its driver.
    pub(crate) driver: Option<String>,
    /// The only driver that was to take it.
    pub(crate) only: Option<String>,
}

impl Before {
    /// What it has now.
    pub(crate) fn of(device: &Device) -> Self {
        Self {
            driver: device.driver.clone(),
            only: device.only.clone(),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct State(BTreeMap<Address, (Before, Option<String>)>);

impl State {
    /// One at a time.
    pub(crate) fn lock() -> Result<Flock<File>> {
        let folder = Path::new("/").join(FOLDER);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let file = File::create(folder.join("lock"))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| anyhow!("lock: {e}"))
    }

    /// That of this machine.
    pub(crate) fn read() -> Result<Self> {
        Self::read_from(&Root::real())
    }

    /// That of the machine at `root`.
    pub(crate) fn read_from(root: &Root) -> Result<Self> {
        match root.text(FILE) {
            Some(text) => Self::parse(&text).with_context(|| format!("/{FILE}")),
            None => Ok(Self::default()),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let devices = value["devices"].as_object().context("no devices")?;
        let mut state = Self::default();
        for (address, value) in devices {
            let word = |name: &str| value[name].as_str().map(str::to_owned);
            let before = Before {
                driver: word("driver"),
                only: word("override"),
            };
            state.0.insert(address.parse()?, (before, word("forced")));
        }
        Ok(state)
    }

    fn text(&self) -> String {
        let devices: BTreeMap<_, _> = self
            .0
            .iter()
            .map(|(address, (before, forced))| {
                let value = json!({
                    "driver": before.driver,
                    "override": before.only,
                    "forced": forced,
                });
                (address.to_string(), value)
            })
            .collect();
        json!({ "schema": SCHEMA, "devices": devices }).to_string()
    }

    /// Replaces the file as a whole.
    pub(crate) fn write(&self) -> Result<()> {
        let path = Path::new("/").join(FILE);
        let new = path.with_extension("new");
        let mut file = File::create(&new).with_context(|| new.display().to_string())?;
        file.write_all(self.text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path).with_context(|| path.display().to_string())
    }

    /// What `device` had, if that is known.
    pub(crate) fn before(&self, device: Address) -> Option<&Before> {
        self.0.get(&device).map(|(before, _)| before)
    }

    /// Writes down what a device has; what is known already counts, unless the device has got a
    /// driver of the host since.
    pub(crate) fn note(&mut self, device: &Device, before: Before, forced: Option<&str>) {
        let is_back = device.driver.is_some() && device.only.is_none();
        if is_back || !self.0.contains_key(&device.address) {
            let entry = (before, forced.map(str::to_owned));
            self.0.insert(device.address, entry);
        }
    }

    /// Strikes out those that `is_done` says.
    pub(crate) fn forget(&mut self, is_done: impl Fn(Address) -> bool) {
        self.0.retain(|address, _| !is_done(*address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(driver: Option<&str>, only: Option<&str>) -> Result<Device> {
        Ok(Device {
            address: "01:00.0".parse()?,
            class: 0x02_0000,
            id: (0x8086, 0x10c9),
            subsystem: (0, 0),
            driver: driver.map(str::to_owned),
            only: only.map(str::to_owned),
            group: Some(1),
            has_vfio_driver: false,
        })
    }

    #[test]
    fn what_is_written_is_read() -> Result<()> {
        let mut state = State::default();
        let igb = device(Some("igb"), None)?;
        state.note(&igb, Before::of(&igb), Some("a test"));
        let again = State::parse(&state.text())?;
        assert_eq!(again.0, state.0);
        assert_eq!(again.before(igb.address), Some(&Before::of(&igb)));
        Ok(())
    }

    #[test]
    fn what_a_device_had_first_counts() -> Result<()> {
        let mut state = State::default();
        let (igb, cut_short) = (device(Some("igb"), None)?, device(None, Some("vfio-pci"))?);
        let other = device(Some("igb-next"), None)?;
        let mut note = |device: &Device| {
            state.note(device, Before::of(device), None);
            state.before(device.address).and_then(|b| b.driver.clone())
        };
        assert_eq!(note(&igb).as_deref(), Some("igb"));
        assert_eq!(note(&cut_short).as_deref(), Some("igb"));
        assert_eq!(note(&other).as_deref(), Some("igb-next"));
        Ok(())
    }
}
