// SPDX-License-Identifier: GPL-2.0
//! What this project's modules say of groups, containers and mappings, to root, by debugfs.

use crate::address::Address;
use crate::root::Root;

const FOLDER: &str = "sys/kernel/debug/vfio_rs";

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// Its number.
    pub id: u32,
    /// The first process that has opened it.
    pub opener: Option<u32>,
    /// The container that it is in.
    pub container: Option<u64>,
    /// Somebody has it who is no container of these modules.
    pub owned_elsewhere: bool,
    /// Its devices, each with the verdict, in words.
    pub devices: Vec<(Address, String)>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// Its number.
    pub number: u64,
    /// The kind of its address space, as `type1v2`.
    pub kind: String,
    /// How many more mappings it may have.
    pub left: Option<u64>,
    /// What is mapped: first and last address, and what it is.
    pub ranges: Vec<(u64, u64, String)>,
    /// There are more than are shown.
    pub is_cut: bool,
}

impl ContainerState {
    /// Bytes that are mapped.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let size = |(first, last, _): &(u64, u64, String)| last.saturating_sub(*first) + 1;
        self.ranges.iter().map(size).sum()
    }
}

/// All groups and containers; nothing if the modules are not there or the caller is not root.
#[derive(Debug, Default)]
pub struct KernelState {
    /// The groups.
    pub groups: Vec<GroupState>,
    /// The containers that have groups.
    pub containers: Vec<ContainerState>,
}

impl KernelState {
    /// Reads both files.
    #[must_use]
    pub fn read(root: &Root) -> Self {
        let text = |name: &str| root.text(&format!("{FOLDER}/{name}")).unwrap_or_default();
        Self {
            groups: groups(&text("groups")),
            containers: containers(&text("mappings")),
        }
    }

    /// The group with this number.
    #[must_use]
    pub fn group(&self, id: u32) -> Option<&GroupState> {
        self.groups.iter().find(|group| group.id == id)
    }

    /// The container of a group.
    #[must_use]
    pub fn container_of(&self, group: u32) -> Option<&ContainerState> {
        let number = self.group(group)?.container?;
        self.containers.iter().find(|c| c.number == number)
    }

    /// The verdict on a device, in words.
    #[must_use]
    pub fn verdict(&self, device: Address) -> Option<&str> {
        let mut all = self.groups.iter().flat_map(|group| &group.devices);
        let found = all.find(|(address, _)| *address == device);
        found.map(|(_, verdict)| verdict.as_str())
    }
}

/// `group 8: viable, open by 4711, container 3, opens of devices 1`, and a line for each device.
fn groups(text: &str) -> Vec<GroupState> {
    let mut all = Vec::<GroupState>::new();
    for line in text.lines() {
        if let Some(device) = line.strip_prefix("  ") {
            let parsed = device.split_once(", ").and_then(|(address, rest)| {
                let (_, verdict) = rest.rsplit_once(": ")?;
                Some((address.parse().ok()?, verdict.to_owned()))
            });
            if let (Some(group), Some(device)) = (all.last_mut(), parsed) {
                group.devices.push(device);
            }
            continue;
        }
        let head = line
            .strip_prefix("group ")
            .and_then(|rest| rest.split_once(": "));
        let Some((Ok(id), rest)) = head.map(|(id, rest)| (id.parse(), rest)) else {
            continue;
        };
        let field = |name: &str| rest.split(", ").find_map(|part| part.strip_prefix(name));
        all.push(GroupState {
            id,
            opener: field("open by ").and_then(|pid| pid.parse().ok()),
            container: field("container ").and_then(|number| number.parse().ok()),
            owned_elsewhere: rest.split(", ").any(|part| {
                part == "owned elsewhere" || part == "iommufd" || part.starts_with("devices bound")
            }),
            devices: Vec::new(),
        });
    }
    all
}

/// `container 3: type1v2, groups 1, mappings left 65533`, and a line for each mapping.
fn containers(text: &str) -> Vec<ContainerState> {
    let mut all = Vec::<ContainerState>::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("  ") {
            let Some(container) = all.last_mut() else {
                continue;
            };
            match range(rest) {
                Some(range) => container.ranges.push(range),
                None => container.is_cut |= rest.starts_with("and "),
            }
            continue;
        }
        let head = line
            .strip_prefix("container ")
            .and_then(|rest| rest.split_once(": "));
        let Some((Ok(number), rest)) = head.map(|(number, rest)| (number.parse(), rest)) else {
            continue;
        };
        let mut parts = rest.split(", ");
        all.push(ContainerState {
            number,
            kind: parts.next().unwrap_or_default().to_owned(),
            left: parts.find_map(|part| part.strip_prefix("mappings left ")?.parse().ok()),
            ranges: Vec::new(),
            is_cut: false,
        });
    }
    all
}

fn range(text: &str) -> Option<(u64, u64, String)> {
    let (range, what) = text.split_once(' ')?;
    let (first, last) = range.split_once('-')?;
    let hex = |digits: &str| u64::from_str_radix(digits.strip_prefix("0x")?, 16).ok();
    Some((hex(first)?, hex(last)?, what.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_as_the_module_prints_them() -> anyhow::Result<()> {
        let all = groups(
            "group 8: viable, open by 4711, container 3, opens of devices 1\n  \
               0000:00:11.0, driver vfio-pci: viable\n  \
               0000:00:11.2, driver e1000e: used by the kernel\n\
             group 9: viable, closed, owned elsewhere, opens of devices 0\n\
             and 7 more\n",
        );
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].opener, all[0].container), (Some(4711), Some(3)));
        assert_eq!(
            all[0].devices[1],
            ("00:11.2".parse()?, "used by the kernel".to_owned())
        );
        assert!(all[1].owned_elsewhere && all[1].opener.is_none());
        Ok(())
    }

    #[test]
    fn mappings_as_the_module_prints_them() {
        let all = containers(
            "container 3: type1v2, groups 1, mappings left 65533\n  \
               0x100000-0x101fff memory\n  \
               0x400000-0x400fff memory of devices\n  \
               and more\n\
             container 4: no address space\n",
        );
        assert_eq!(
            (all[0].left, all[0].bytes(), all[0].is_cut),
            (Some(65533), 0x3000, true)
        );
        assert_eq!(
            all[0].ranges[1],
            (0x40_0000, 0x40_0fff, "memory of devices".to_owned())
        );
        assert_eq!(
            (all[1].kind.as_str(), all[1].ranges.len()),
            ("no address space", 0)
        );
    }
}
