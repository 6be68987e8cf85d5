// SPDX-License-Identifier: GPL-2.0
//! The steps of binding and restoring, and what one would type for them.

use std::fmt::Write;

use crate::address::Address;
use crate::machine::{Device, VFIO_PCI};
use crate::root::Root;

use super::state::Before;

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A module, by name or alias, is loaded.
    Load(String),
    /// Only this driver may take the device; any, if there is none.
    Override(Address, Option<String>),
    /// The device leaves its driver.
    Unbind(Address),
    /// The kernel looks for a driver.
    Probe(Address),
    /// The device has this driver, if it has to be a certain one.
    Verify(Address, Option<String>),
}

impl Step {
    /// What one would type.
    fn shell(&self) -> String {
        let at = |address: &Address| format!("/sys/bus/pci/devices/{address}");
        match self {
            Self::Load(module) => format!("modprobe {module}"),
            Self::Override(address, driver) => {
                let driver = driver
                    .as_deref()
                    .map_or(String::new(), |name| format!(" {name}"));
                format!("echo{driver} > {}/driver_override", at(address))
            }
            Self::Unbind(address) => format!("echo {address} > {}/driver/unbind", at(address)),
            Self::Probe(address) => format!("echo {address} > /sys/bus/pci/drivers_probe"),
            Self::Verify(address, Some(driver)) => {
                format!(
                    "[ \"$(basename \"$(readlink {}/driver)\")\" = {driver} ]",
                    at(address)
                )
            }
            Self::Verify(address, None) => format!("readlink {}/driver || true", at(address)),
        }
    }
}

/// Steps, in their order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    /// A device goes to vfio-pci.
    pub(crate) fn bind(&mut self, device: &Device) {
        let (address, vfio) = (device.address, Some(VFIO_PCI.to_owned()));
        if device.only != vfio {
            self.steps.push(Step::Override(address, vfio.clone()));
        }
        if device.driver.is_some() {
            self.steps.push(Step::Unbind(address));
        }
        self.steps
            .extend([Step::Probe(address), Step::Verify(address, vfio)]);
    }

    /// A device gets what it had; the driver that the kernel finds, if nobody knows.
    pub(crate) fn restore(&mut self, root: &Root, device: &Device, before: Option<&Before>) {
        let address = device.address;
        let only = before.and_then(|before| before.only.clone());
        if device.only != only {
            self.steps.push(Step::Override(address, only));
        }
        let wanted = before.map(|before| before.driver.clone());
        if wanted.as_ref() == Some(&device.driver)
            || (wanted.is_none() && device.driver.is_some() && !device.has_vfio_driver)
        {
            return;
        }
        if device.driver.is_some() {
            self.steps.push(Step::Unbind(address));
        }
        let wanted = match wanted {
            // It had none.
            Some(None) => return,
            Some(driver) => driver,
            None => None,
        };
        let is_there = |name: &str| root.exists(&format!("sys/bus/pci/drivers/{name}"));
        if wanted.as_deref().is_some_and(|name| !is_there(name)) {
            self.steps.extend(
                root.text(&format!("{}/modalias", device.folder()))
                    .map(Step::Load),
            );
        }
        self.steps
            .extend([Step::Probe(address), Step::Verify(address, wanted)]);
    }

    /// What one would paste into a root shell.
    pub(crate) fn shell(&self) -> String {
        let mut out = String::new();
        for step in &self.steps {
            let _ = writeln!(out, "{}", step.shell());
        }
        out
    }
}
