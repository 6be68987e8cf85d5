// SPDX-License-Identifier: GPL-2.0
//! What the host uses each PCI device for.
//!
//! | file         | has                                                       |
//! |--------------|-----------------------------------------------------------|
//! | `disks.rs`   | disks, file systems, swap, LVM, md, zfs                   |
//! | `network.rs` | interfaces, routes, the caller's ssh                      |
//! | `screens.rs` | displays, sound, USB devices, keyboards                   |

mod disks;
mod network;
mod screens;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::address::Address;
use crate::root::Root;

pub(crate) use self::disks::disk_name;

/// Whether the caller has come by ssh, and so needs neither display nor keyboard here.
#[must_use]
pub fn has_other_way_in(root: &Root) -> bool {
    network::ssh_client(root).is_some()
}

/// How a loss of the device would hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hurt {
    /// Not at all, or nobody knows.
    None,
    /// Data or a connection is lost, but the machine goes on.
    Data,
    /// The machine, or the way to it, is lost.
    Machine,
}

/// One thing that a device is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// `net`, `disk`, `display`, `sound`, `usb`, `input`, `infiniband`.
    pub kind: &'static str,
    /// What the host calls it, as `eno1`.
    pub name: String,
    /// What is known of it, as `up, default route`.
    pub what: Vec<String>,
    /// Why the host would miss it.
    pub busy: Vec<String>,
    /// And how much.
    pub hurt: Hurt,
}

impl Use {
    pub(crate) fn new(kind: &'static str, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            what: Vec::new(),
            busy: Vec::new(),
            hurt: Hurt::None,
        }
    }

    /// Adds a reason for which the host would miss it.
    pub(crate) fn missed(&mut self, why: impl Into<String>, hurt: Hurt) {
        let why = why.into();
        if !self.busy.contains(&why) {
            self.busy.push(why);
        }
        self.hurt = self.hurt.max(hurt);
    }

    /// In a few words.
    #[must_use]
    pub fn text(&self) -> String {
        let known: Vec<_> = self.busy.iter().chain(&self.what).cloned().collect();
        if known.is_empty() {
            return self.name.clone();
        }
        format!("{} ({})", self.name, known.join(", "))
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "kind": self.kind,
            "name": self.name,
            "what": self.what,
            "busy": self.busy,
        })
    }
}

/// What all devices are used for.
#[derive(Debug, Default)]
pub struct Uses(BTreeMap<Address, Vec<Use>>);

impl Uses {
    /// Looks at this machine.
    #[must_use]
    pub fn read(root: &Root) -> Self {
        let mut all = Self::default();
        disks::read(root, &mut all);
        network::read(root, &mut all);
        screens::read(root, &mut all);
        for uses in all.0.values_mut() {
            uses.sort_by_key(|used| (std::cmp::Reverse(used.hurt), used.kind != "usb"));
        }
        all
    }

    /// What `device` is used for.
    #[must_use]
    pub fn of(&self, device: Address) -> &[Use] {
        self.0.get(&device).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, device: Address, used: Use) {
        self.0.entry(device).or_default().push(used);
    }

    /// The device that has an interface, disk or card of this name, with or without `/dev/`.
    #[must_use]
    pub fn owner(&self, root: &Root, name: &str) -> Option<Address> {
        let name = name.rsplit('/').next().unwrap_or(name);
        let disk = disk_name(root, name);
        let is_it = |used: &Use| used.name == name || Some(&used.name) == disk.as_ref();
        let found = self.0.iter().find(|(_, uses)| uses.iter().any(is_it));
        found.map(|(address, _)| *address)
    }
}

/// The PCI device to which a class device belongs, and each of the class: names and owners.
pub(crate) fn class_devices(root: &Root, class: &str) -> Vec<(String, Option<Address>)> {
    let dir = format!("sys/class/{class}");
    let names = root.names(&dir);
    names
        .into_iter()
        .map(|name| {
            let target = root.link(&format!("{dir}/{name}"));
            (name, target.and_then(|path| Address::last_in(&path)))
        })
        .collect()
}
