// SPDX-License-Identifier: GPL-2.0
//! Names of devices, from pci.ids, and of classes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::root::Root;

/// Where distributions have the list.
const PLACES: [&str; 3] = [
    "usr/share/misc/pci.ids",
    "usr/share/hwdata/pci.ids",
    "var/lib/pciutils/pci.ids",
];

/// Names of some devices.
#[derive(Debug, Default)]
pub struct Names {
    vendors: BTreeMap<u16, String>,
    devices: BTreeMap<(u16, u16), String>,
}

impl Names {
    /// Those of the devices with these numbers, vendor and device, as far as they are known.
    #[must_use]
    pub fn read(root: &Root, wanted: &BTreeSet<(u16, u16)>) -> Self {
        let bytes = PLACES.iter().find_map(|place| root.bytes(place));
        let text = bytes.unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&text), wanted)
    }

    fn parse(text: &str, wanted: &BTreeSet<(u16, u16)>) -> Self {
        let vendors: BTreeSet<_> = wanted.iter().map(|(vendor, _)| *vendor).collect();
        let mut names = Self::default();
        let mut current = None;
        for line in text.lines() {
            match line.as_bytes() {
                [b'0'..=b'9' | b'a'..=b'f', ..] => {
                    current = number(line).filter(|vendor| vendors.contains(vendor));
                    if let Some(vendor) = current {
                        names.vendors.insert(vendor, name(line));
                    }
                }
                [b'\t', b'0'..=b'9' | b'a'..=b'f', ..] => {
                    let Some(vendor) = current else {
                        continue;
                    };
                    let rest = &line[1..];
                    let device = number(rest).filter(|d| wanted.contains(&(vendor, *d)));
                    if let Some(device) = device {
                        names.devices.insert((vendor, device), name(rest));
                    }
                }
                // The classes follow the devices.
                [b'C', b' ', ..] => break,
                [b'\t' | b'#', ..] | [] => {}
                _ => current = None,
            }
        }
        names
    }

    /// The vendor's name.
    #[must_use]
    pub fn vendor(&self, vendor: u16) -> Option<&str> {
        self.vendors.get(&vendor).map(String::as_str)
    }

    /// The device's name, without its vendor's.
    #[must_use]
    pub fn device(&self, vendor: u16, device: u16) -> Option<&str> {
        self.devices.get(&(vendor, device)).map(String::as_str)
    }

    /// Vendor and device, as short as can be, for a line of a table.
    #[must_use]
    pub fn short(&self, vendor: u16, device: u16) -> String {
        let Some(maker) = self.vendor(vendor) else {
            return format!("{vendor:04x}:{device:04x}");
        };
        // "Advanced Micro Devices, Inc. [AMD/ATI]": what is in brackets is what people say.
        let bracket = maker.rsplit_once('[').and_then(|(_, b)| b.split_once(']'));
        let maker = match bracket {
            Some((brand, _)) => brand,
            None => short_maker(maker),
        };
        match self.device(vendor, device) {
            Some(name) => format!("{maker} {}", short_name(name)),
            None => format!("{maker} {device:04x}"),
        }
    }

    /// These names in the form of pci.ids.
    #[must_use]
    pub fn list(&self) -> String {
        let mut out = String::new();
        for (vendor, name) in &self.vendors {
            let _ = writeln!(out, "{vendor:04x}  {name}");
            for ((_, device), name) in self.devices.range((*vendor, 0)..=(*vendor, u16::MAX)) {
                let _ = writeln!(out, "\t{device:04x}  {name}");
            }
        }
        out
    }
}

/// What is in brackets is what it is sold as: `GA104 [GeForce RTX 3070 Ti]`.
fn short_name(name: &str) -> &str {
    let bracket = name
        .rsplit_once(" [")
        .and_then(|(_, rest)| rest.split_once(']'));
    match bracket {
        // `6 port SATA Controller [AHCI mode]`
        Some((sold_as, _)) if !sold_as.ends_with(" mode") => sold_as,
        _ => name,
    }
}

/// Without what companies have behind their names.
fn short_maker(name: &str) -> &str {
    let end = [
        " Corporation",
        " Corp",
        ", Inc",
        " Inc",
        " Co.",
        " Co ",
        ", Ltd",
        " Ltd",
        " Semiconductor",
        " Electronics",
        " Technologies",
    ]
    .iter()
    .filter_map(|tail| name.find(tail))
    .min();
    end.map_or(name, |end| &name[..end])
}

fn number(line: &str) -> Option<u16> {
    u16::from_str_radix(line.get(..4)?, 16).ok()
}

fn name(line: &str) -> String {
    line.get(4..).unwrap_or_default().trim().to_owned()
}

/// One word for a class, and whether it is one that the table of the kernel's own names knows.
#[must_use]
pub fn class(class: u32) -> &'static str {
    match (class >> 16, class >> 8 & 0xff) {
        (0x01, 0x08) => "nvme",
        (0x01, 0x04) => "raid",
        (0x01, 0x06) => "sata",
        (0x01, _) => "storage",
        (0x02, 0x00) => "ethernet",
        (0x02, 0x07) => "infiniband",
        (0x02, 0x80) => "network",
        (0x02, _) => "network",
        (0x03, _) => "display",
        (0x04, 0x00) => "video",
        (0x04, 0x01 | 0x03) => "audio",
        (0x04, _) => "media",
        (0x05, _) => "memory",
        (0x06, 0x00) => "host",
        (0x06, 0x01) => "isa",
        (0x06, 0x04 | 0x09) => "bridge",
        (0x06, _) => "bridge",
        (0x07, 0x00) => "serial",
        (0x07, _) => "comm",
        (0x08, 0x05) => "sdcard",
        (0x08, 0x06) => "iommu",
        (0x08, _) => "system",
        (0x09, _) => "input",
        (0x0b, _) => "processor",
        (0x0c, 0x00) => "firewire",
        (0x0c, 0x03) => "usb",
        (0x0c, 0x05) => "smbus",
        (0x0c, _) => "bus",
        (0x0d, _) => "wireless",
        (0x10, _) => "crypto",
        (0x11, _) => "signal",
        (0x12, _) => "compute",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
# comment
1002  Advanced Micro Devices, Inc. [AMD/ATI]
\t67df  Ellesmere [Radeon RX 470/480]
\t\t1002 0b37  Radeon RX 480
\taaf0  Ellesmere HDMI Audio
8086  Intel Corporation
\t10c9  82576 Gigabit Network Connection
C 03  Display controller
\t00  VGA compatible controller
";

    #[test]
    fn names_are_found_and_shortened() {
        let wanted = BTreeSet::from([(0x1002, 0x67df), (0x8086, 0x10c9), (0x8086, 0xffff)]);
        let names = Names::parse(LIST, &wanted);
        let short = |vendor, device| names.short(vendor, device);
        assert_eq!(short(0x1002, 0x67df), "AMD/ATI Radeon RX 470/480");
        assert_eq!(
            short(0x8086, 0x10c9),
            "Intel 82576 Gigabit Network Connection"
        );
        assert_eq!(short(0x8086, 0xffff), "Intel ffff");
        assert_eq!(short(0x1234, 0x11e8), "1234:11e8");
        assert_eq!(names.device(0x1002, 0xaaf0), None);
    }

    #[test]
    fn a_list_is_read_back() {
        let wanted = BTreeSet::from([(0x1002, 0x67df), (0x8086, 0x10c9)]);
        let list = Names::parse(LIST, &wanted).list();
        assert_eq!(Names::parse(&list, &wanted).list(), list);
        assert_eq!(list.lines().count(), 4);
    }
}
