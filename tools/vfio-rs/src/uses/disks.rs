// SPDX-License-Identifier: GPL-2.0
//! Disks: what is mounted of them, or kept on them by LVM, md, zfs or the swap.

use std::collections::{BTreeMap, BTreeSet};

use crate::address::Address;
use crate::root::Root;

use super::{Hurt, Use, Uses};

/// Without these the machine does not go on.
const SYSTEM: [&str; 8] = [
    "/",
    "/usr",
    "/var",
    "/boot",
    "/boot/efi",
    "/efi",
    "/etc",
    "/nix",
];
/// Who else may have a disk, by the type that udev has found on it.
const MEMBERS: [(&str, &str); 4] = [
    ("LVM2_member", "LVM"),
    ("linux_raid_member", "md"),
    ("zfs_member", "zfs"),
    ("ddf_raid_member", "md"),
];

/// The disk of a partition or disk `name`; a link of /dev/disk is followed.
pub(crate) fn disk_name(root: &Root, name: &str) -> Option<String> {
    let name = ["by-id", "by-uuid", "by-label", "by-path", "by-partuuid"]
        .iter()
        .find_map(|by| root.link_name(&format!("dev/disk/{by}/{name}")))
        .unwrap_or_else(|| name.to_owned());
    let target = root.link(&format!("sys/class/block/{name}"))?;
    if !root.exists(&format!("sys/class/block/{name}/partition")) {
        return Some(name);
    }
    target.rsplit('/').nth(1).map(str::to_owned)
}

/// Where block devices are mounted or used as swap, by number and by name.
#[derive(Debug, Default)]
struct Mounts {
    by_number: BTreeMap<String, Vec<String>>,
    by_name: BTreeMap<String, Vec<String>>,
}

impl Mounts {
    fn read(root: &Root) -> Self {
        let mut mounts = Self::default();
        for line in root.text("proc/self/mountinfo").unwrap_or_default().lines() {
            let words: Vec<_> = line.split(' ').collect();
            let (Some(number), Some(place)) = (words.get(2), words.get(4)) else {
                continue;
            };
            let source = line
                .split_once(" - ")
                .and_then(|(_, s)| s.split(' ').nth(1));
            let place = place.replace("\\040", " ");
            if let Some(name) = source.and_then(|s| s.strip_prefix("/dev/")) {
                // What device mapper makes is known by its name there.
                let name = name.strip_prefix("mapper/").unwrap_or(name).to_owned();
                mounts.by_name.entry(name).or_default().push(place.clone());
            }
            mounts
                .by_number
                .entry((*number).to_owned())
                .or_default()
                .push(place);
        }
        for line in root.text("proc/swaps").unwrap_or_default().lines().skip(1) {
            if let Some(name) = line
                .split_whitespace()
                .next()
                .and_then(|p| p.strip_prefix("/dev/"))
            {
                mounts
                    .by_name
                    .entry(name.to_owned())
                    .or_default()
                    .push("swap".to_owned());
            }
        }
        for pool in root.names("sys/fs/btrfs") {
            let devices = root.names(&format!("sys/fs/btrfs/{pool}/devices"));
            let mounted = devices
                .iter()
                .find_map(|name| mounts.by_name.get(name).cloned());
            for name in devices {
                let places = mounted.clone().unwrap_or_else(|| vec!["btrfs".to_owned()]);
                mounts.by_name.insert(name, places);
            }
        }
        mounts
    }

    /// Where the block device `name` is used.
    fn of(&self, root: &Root, name: &str) -> BTreeSet<String> {
        let dir = format!("sys/class/block/{name}");
        let number = root.text(&format!("{dir}/dev")).unwrap_or_default();
        let mapped = root.text(&format!("{dir}/dm/name")).unwrap_or_default();
        let lists = [
            self.by_number.get(&number),
            self.by_name.get(name),
            self.by_name.get(&mapped),
        ];
        lists.into_iter().flatten().flatten().cloned().collect()
    }
}

pub(super) fn read(root: &Root, all: &mut Uses) {
    let mounts = Mounts::read(root);
    let mut disks = BTreeMap::<String, (Address, Use)>::new();
    let mut parts = Vec::new();
    for name in root.names("sys/class/block") {
        let Some(target) = root.link(&format!("sys/class/block/{name}")) else {
            continue;
        };
        let Some(owner) = owner(root, &target) else {
            continue;
        };
        // nvme0c0n1 is a path to nvme0n1 and no disk.
        if root
            .text(&format!("sys/class/block/{name}/hidden"))
            .as_deref()
            == Some("1")
        {
            continue;
        }
        match disk_name(root, &name) {
            Some(disk) if disk != name => parts.push((disk, name)),
            _ => {
                let used = disk(root, &name, &mounts);
                disks.insert(name, (owner, used));
            }
        }
    }
    for (disk, part) in parts {
        if let Some((_, used)) = disks.get_mut(&disk) {
            look(root, &part, &mounts, used, 0);
        }
    }
    for (_, (owner, used)) in disks {
        all.add(owner, used);
    }
}

/// The PCI device of a block device; those of NVMe with several ways to it are virtual.
fn owner(root: &Root, target: &str) -> Option<Address> {
    if let Some(address) = Address::last_in(target) {
        return Some(address);
    }
    let is_system = |part: &&str| {
        let number = part.strip_prefix("nvme-subsys");
        number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    };
    let system = target.split('/').find(is_system)?;
    let dir = format!("sys/class/nvme-subsystem/{system}");
    root.names(&dir)
        .iter()
        .filter(|name| name.starts_with("nvme"))
        .find_map(|name| Address::last_in(&root.link(&format!("sys/class/nvme/{name}"))?))
}

fn disk(root: &Root, name: &str, mounts: &Mounts) -> Use {
    let mut used = Use::new("disk", name);
    let sectors = root
        .number(&format!("sys/class/block/{name}/size"))
        .unwrap_or(0);
    let bytes = u64::try_from(sectors).unwrap_or(0) * 512;
    if bytes > 0 {
        used.what.push(crate::text::size_round(bytes));
    }
    look(root, name, mounts, &mut used, 0);
    used
}

/// Adds what `name` and all that is made of it is used for.
fn look(root: &Root, name: &str, mounts: &Mounts, used: &mut Use, depth: u32) {
    for place in mounts.of(root, name) {
        let hurt = if place == "swap" || SYSTEM.contains(&place.as_str()) {
            Hurt::Machine
        } else {
            Hurt::Data
        };
        used.missed(place, hurt);
    }
    let dir = format!("sys/class/block/{name}");
    let holders = root.names(&format!("{dir}/holders"));
    for holder in &holders {
        let label = root.text(&format!("sys/class/block/{holder}/dm/name"));
        used.missed(label.unwrap_or_else(|| holder.clone()), Hurt::Data);
        if depth < 8 {
            look(root, holder, mounts, used, depth + 1);
        }
    }
    if holders.is_empty() {
        let number = root.text(&format!("{dir}/dev")).unwrap_or_default();
        let known = root
            .text(&format!("run/udev/data/b{number}"))
            .unwrap_or_default();
        let kind = known
            .lines()
            .find_map(|line| line.strip_prefix("E:ID_FS_TYPE="));
        if let Some((_, who)) = MEMBERS.iter().find(|(member, _)| Some(*member) == kind) {
            used.missed(format!("{who} member"), Hurt::Data);
        }
    }
}
