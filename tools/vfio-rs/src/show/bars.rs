// SPDX-License-Identifier: GPL-2.0
//! BARs, their sizes, and who has reserved them.

use serde_json::{Value, json};

use crate::machine::Device;
use crate::root::Root;

/// Flags of the kernel's resources.
const IO: u64 = 0x100;
const MEMORY: u64 = 0x200;
const PREFETCH: u64 = 0x2000;
const WIDE: u64 = 0x10_0000;

/// A BAR, or the expansion ROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) flags: u64,
    /// Names in /proc/iomem of what is reserved in it; `None` if that is not shown to us.
    pub(crate) holders: Option<Vec<String>>,
}

impl Bar {
    fn kind(&self) -> String {
        if self.flags & IO != 0 {
            return "ports".to_owned();
        }
        let wide = if self.flags & WIDE != 0 {
            "64-bit"
        } else {
            "32-bit"
        };
        let prefetch = if self.flags & PREFETCH != 0 {
            ", prefetchable"
        } else {
            ""
        };
        format!("{wide}{prefetch}")
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    pub(crate) fn text(&self) -> String {
        let at = match self.first {
            0 => String::new(),
            first => format!(" at {first:#x}"),
        };
        let held = match self.holders.as_deref() {
            None | Some([]) => String::new(),
            Some(names) => format!(", held by {}", names.join(", ")),
        };
        let size = super::bytes(self.bytes());
        format!("{} {size}{at}, {}{held}", self.name, self.kind())
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "address": format!("{:#x}", self.first),
            "size": self.bytes(),
            "io": self.flags & IO != 0,
            "prefetchable": self.flags & PREFETCH != 0,
            "wide": self.flags & WIDE != 0,
            "holders": self.holders,
        })
    }
}

/// The BARs of a device that have a size.
pub(crate) fn read(root: &Root, device: &Device) -> Vec<Bar> {
    let text = root
        .text(&format!("{}/resource", device.folder()))
        .unwrap_or_default();
    let names = ["BAR 0", "BAR 1", "BAR 2", "BAR 3", "BAR 4", "BAR 5", "ROM"];
    let memory = Reservations::parse(&root.text("proc/iomem").unwrap_or_default());
    let ports = Reservations::parse(&root.text("proc/ioports").unwrap_or_default());
    let parse = |(line, name): (&str, &str)| {
        let mut numbers = line
            .split_whitespace()
            .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap_or(0));
        let (first, last, flags) = (numbers.next()?, numbers.next()?, numbers.next()?);
        if flags & (IO | MEMORY) == 0 || (first == 0 && last == 0) {
            return None;
        }
        let map = if flags & IO != 0 { &ports } else { &memory };
        let own = device.address.to_string();
        Some(Bar {
            name: name.to_owned(),
            first,
            last,
            flags,
            holders: map.within(first, last, &own),
        })
    };
    text.lines().zip(names).filter_map(parse).collect()
}

/// /proc/iomem or /proc/ioports: first and last address, and whose it is.
struct Reservations(Vec<(u64, u64, String)>);

impl Reservations {
    fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let (range, name) = line.trim_start().split_once(" : ")?;
            let (first, last) = range.split_once('-')?;
            let hex = |digits| u64::from_str_radix(digits, 16).ok();
            Some((hex(first)?, hex(last)?, name.to_owned()))
        };
        Self(text.lines().filter_map(entry).collect())
    }

    /// Who has something between `first` and `last`, other than the device as such. To others than
    /// root all addresses are 0.
    fn within(&self, first: u64, last: u64, own: &str) -> Option<Vec<String>> {
        if self.0.iter().all(|(_, end, _)| *end == 0) {
            return None;
        }
        let mut names: Vec<String> = Vec::new();
        for (start, end, name) in &self.0 {
            if *start >= first && *end <= last && name != own && !names.contains(name) {
                names.push(name.clone());
            }
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IOMEM: &str = "\
c0000000-dfffffff : PCI Bus 0000:00
  c0000000-cfffffff : 0000:01:00.0
    c0000000-c07fffff : BOOTFB
  d0000000-d0003fff : 0000:02:00.0
    d0000000-d0003fff : nvme
";

    #[test]
    fn holders_of_a_range() {
        let map = Reservations::parse(IOMEM);
        let within = |first, last| map.within(first, last, "0000:01:00.0");
        assert_eq!(
            within(0xc000_0000, 0xcfff_ffff),
            Some(vec!["BOOTFB".to_owned()])
        );
        assert_eq!(within(0xe000_0000, 0xefff_ffff), Some(Vec::new()));
        let hidden = Reservations::parse("00000000-00000000 : PCI Bus 0000:00\n");
        assert_eq!(hidden.within(0xc000_0000, 0xcfff_ffff, ""), None);
    }
}
