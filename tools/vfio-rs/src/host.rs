// SPDX-License-Identifier: GPL-2.0
//! All that is known of a machine, and how the devices of a command line are found in it.

use anyhow::Result;

use crate::address::Address;
use crate::errors::Stop;
use crate::kernel::KernelState;
use crate::machine::{Device, Machine};
use crate::root::Root;
use crate::users::{Process, Users};
use crate::uses::Uses;
use crate::verdict::{Judgement, Judgements};

/// A machine.
#[derive(Debug)]
pub struct Host {
    /// Its files.
    pub root: Root,
    /// Its devices.
    pub machine: Machine,
    /// What it uses them for.
    pub uses: Uses,
    /// Who has them by VFIO.
    pub users: Users,
    /// What the module says.
    pub kernel: KernelState,
    judgements: Judgements,
}

impl Host {
    /// Reads everything.
    #[must_use]
    pub fn read(root: Root) -> Self {
        let machine = Machine::read(&root);
        let uses = Uses::read(&root);
        let users = Users::read(&root, &machine);
        let kernel = KernelState::read(&root);
        let judgements = Judgements::new(&root, &machine, &users, &kernel);
        Self {
            root,
            machine,
            uses,
            users,
            kernel,
            judgements,
        }
    }

    /// Reads everything again.
    #[must_use]
    pub fn again(self) -> Self {
        Self::read(self.root)
    }

    /// Who has a device open, or its group if the device is bound.
    pub fn users_of(&self, device: &Device) -> impl Iterator<Item = &Process> {
        let group = device.group.filter(|_| device.has_vfio_driver);
        self.users.of(device.address, group)
    }

    /// The judgement on a device.
    #[must_use]
    pub fn judgement(&self, device: &Device) -> Judgement {
        self.judgements.of(device)
    }

    /// What is in the way of a group, in words.
    #[must_use]
    pub fn group_verdict(&self, group: u32) -> &'static str {
        self.judgements.group(group)
    }

    /// The devices that `word` means: an address, a driver, an interface, a disk, a card, numbers
    /// as `10de:` or `10de:1b80`, or a group as `group:14`.
    #[must_use]
    pub fn select(&self, word: &str) -> Vec<&Device> {
        let devices = &self.machine.devices;
        if let Ok(address) = word.parse::<Address>() {
            return devices.iter().filter(|d| d.address == address).collect();
        }
        if let Some(Ok(group)) = word.strip_prefix("group:").map(str::parse::<u32>) {
            return self.machine.members(group).collect();
        }
        if let Some((vendor, device)) = numbers(word) {
            let fits = |d: &&Device| d.id.0 == vendor && device.is_none_or(|n| d.id.1 == n);
            return devices.iter().filter(fits).collect();
        }
        if let Some(address) = self.uses.owner(&self.root, word) {
            return devices.iter().filter(|d| d.address == address).collect();
        }
        let by_driver = |d: &&Device| d.driver.as_deref() == Some(word);
        let by_class = |d: &&Device| d.class_name() == word;
        let found: Vec<_> = devices.iter().filter(by_driver).collect();
        match found.is_empty() {
            false => found,
            true => devices.iter().filter(by_class).collect(),
        }
    }

    /// The one device that `word` means.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn one(&self, word: &str) -> Result<&Device> {
        match self.select(word)[..] {
            [one] => Ok(one),
            [] => Err(unknown(word)),
            ref many => {
                let names: Vec<_> = many.iter().map(|d| d.address.short()).collect();
                Err(Stop::Usage(format!("{word}: which of {}?", names.join(", "))).into())
            }
        }
    }

    /// All that `words` mean, each device once; all devices if there are no words.
    ///
    /// # Errors
    /// If a word means none.
    pub fn all(&self, words: &[String]) -> Result<Vec<&Device>> {
        if words.is_empty() {
            return Ok(self.machine.devices.iter().collect());
        }
        let mut found = Vec::<&Device>::new();
        for word in words {
            let more = self.select(word);
            if more.is_empty() {
                return Err(unknown(word));
            }
            found.extend(more);
        }
        found.sort_by_key(|device| device.address);
        found.dedup_by_key(|device| device.address);
        Ok(found)
    }
}

fn unknown(word: &str) -> anyhow::Error {
    let text = format!("{word}: no such device; `vfio-rs list --all` has all of them");
    Stop::Usage(text).into()
}

fn numbers(word: &str) -> Option<(u16, Option<u16>)> {
    let (vendor, device) = word.split_once(':')?;
    let hex = |digits: &str| match digits.len() {
        4 => u16::from_str_radix(digits, 16).ok(),
        _ => None,
    };
    match device {
        "" => Some((hex(vendor)?, None)),
        _ => Some((hex(vendor)?, Some(hex(device)?))),
    }
}
