// SPDX-License-Identifier: GPL-2.0
//! Addresses of PCI devices.

use std::fmt::{self, Display};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};

/// Domain, bus, device and function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// PCI domain, also called segment.
    pub domain: u32,
    /// Bus.
    pub bus: u8,
    /// Device, or slot.
    pub slot: u8,
    /// Function.
    pub function: u8,
}

impl Address {
    /// Without a domain that is 0, as lspci has it.
    #[must_use]
    pub fn short(&self) -> String {
        let full = self.to_string();
        full.strip_prefix("0000:")
            .map_or(full.clone(), str::to_owned)
    }

    /// The last address in a path of sysfs: that of the PCI device to which something belongs.
    #[must_use]
    pub fn last_in(path: &str) -> Option<Self> {
        path.rsplit('/').find_map(|part| {
            let is_full = part.matches(':').count() == 2;
            part.parse().ok().filter(|_| is_full)
        })
    }

    /// Bus, device and function as requests carry them.
    #[must_use]
    pub fn requester(&self) -> u32 {
        u32::from(self.bus) << 8 | u32::from(self.slot) << 3 | u32::from(self.function)
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            slot,
            function,
        } = self;
        f.pad(&format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"))
    }
}

impl FromStr for Address {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<_> = text.split(':').collect();
        let (domain, bus, rest) = match parts[..] {
            [bus, rest] => ("0", bus, rest),
            [domain, bus, rest] => (domain, bus, rest),
            _ => return Err(anyhow!("no address: {text}")),
        };
        let (slot, function) = rest.split_once('.').context("no function")?;
        if domain.len() > 8 || bus.len() != 2 || slot.len() != 2 || function.len() != 1 {
            return Err(anyhow!("no address: {text}"));
        }
        let hex = |digits| u32::from_str_radix(digits, 16);
        let (slot, function) = (hex(slot)?, hex(function)?);
        if slot > 31 || function > 7 {
            return Err(anyhow!("no address: {text}"));
        }
        Ok(Self {
            domain: hex(domain)?,
            bus: u8::try_from(hex(bus)?)?,
            slot: u8::try_from(slot)?,
            function: u8::try_from(function)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() -> Result<()> {
        let full: Address = "0000:01:1f.7".parse()?;
        assert_eq!(full, "01:1f.7".parse()?);
        assert_eq!(
            (full.to_string(), full.short()),
            ("0000:01:1f.7".into(), "01:1f.7".into())
        );
        let far: Address = "10001:00:00.0".parse()?;
        assert_eq!(
            (far.domain, far.short()),
            (0x10001, "10001:00:00.0".to_owned())
        );
        for wrong in [
            "",
            "1:0.0",
            "01:20.0",
            "01:00.8",
            "01:00",
            "zz:00.0",
            "10de:1b80",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn owner_of_a_path() {
        let path = "../../devices/pci0000:00/0000:00:1c.0/0000:03:00.0/net/eno1";
        let owner = Address::last_in(path).map(|a| a.short());
        assert_eq!(owner.as_deref(), Some("03:00.0"));
        assert_eq!(Address::last_in("../../devices/virtual/net/lo"), None);
        assert_eq!(Address::last_in("../devices/pci0000:00/x"), None);
    }
}
