// SPDX-License-Identifier: GPL-2.0
//! Displays and what is connected to them, sound cards, USB devices, keyboards.

use std::collections::{BTreeMap, BTreeSet};

use crate::address::Address;
use crate::root::Root;

use super::{Hurt, Use, Uses, class_devices};

pub(super) fn read(root: &Root, all: &mut Uses) {
    displays(root, all);
    for (name, owner) in class_devices(root, "sound") {
        let (Some(number), Some(owner)) = (name.strip_prefix("card"), owner) else {
            continue;
        };
        let mut used = Use::new("sound", format!("hw:{number}"));
        used.what
            .extend(root.text(&format!("sys/class/sound/{name}/id")));
        all.add(owner, used);
    }
    usb(root, all);
    keyboards(root, all);
}

/// Cards, the connectors of which are `card1-DP-1` and so on.
fn displays(root: &Root, all: &mut Uses) {
    let entries = class_devices(root, "drm");
    let is_card = |name: &str| name.starts_with("card") && !name.contains('-');
    let mut lit = BTreeSet::new();
    let mut found = Vec::new();
    for (card, owner) in entries.iter().filter(|(name, _)| is_card(name)) {
        let Some(owner) = *owner else {
            continue;
        };
        let mut used = Use::new("display", card);
        for (name, _) in &entries {
            let Some(plug) = name.strip_prefix(&format!("{card}-")) else {
                continue;
            };
            let status = root.text(&format!("sys/class/drm/{name}/status"));
            if status.as_deref() == Some("connected") {
                used.what.push(plug.to_owned());
                lit.insert(owner);
            }
        }
        found.push((owner, used));
    }
    let only = match lit.iter().collect::<Vec<_>>()[..] {
        [only] => Some(*only),
        _ => None,
    };
    for (owner, mut used) in found {
        if Some(owner) == only {
            used.missed("the only display", Hurt::Machine);
        }
        all.add(owner, used);
    }
}

/// What is plugged into a USB controller; hubs do not count.
fn usb(root: &Root, all: &mut Uses) {
    let dir = "sys/bus/usb/devices";
    for name in root.names(dir) {
        // Interfaces have a colon, root hubs begin with usb.
        if name.contains(':') || name.starts_with("usb") {
            continue;
        }
        let at = format!("{dir}/{name}");
        let owner = root.link(&at).and_then(|path| Address::last_in(&path));
        let is_hub = root.text(&format!("{at}/bDeviceClass")).as_deref() == Some("09");
        let Some(owner) = owner.filter(|_| !is_hub) else {
            continue;
        };
        let product = root.text(&format!("{at}/product"));
        let product = product.unwrap_or_else(|| {
            let id = |part: &str| root.text(&format!("{at}/{part}")).unwrap_or_default();
            format!("{}:{}", id("idVendor"), id("idProduct"))
        });
        let mut used = Use::new("usb", name);
        used.what.push(product.trim().to_owned());
        all.add(owner, used);
    }
}

/// Keyboards by their handlers: only what has the keys for it has `sysrq`. `None` is one that is
/// behind no PCI device.
fn keyboards(root: &Root, all: &mut Uses) {
    let text = root.text("proc/bus/input/devices").unwrap_or_default();
    let mut found = BTreeMap::<Option<Address>, String>::new();
    for block in text.split("\n\n") {
        let field = |head: &str| block.lines().find_map(|line| line.strip_prefix(head));
        let handlers = field("H: Handlers=").unwrap_or_default();
        let path = field("S: Sysfs=").unwrap_or_default();
        if handlers.split_whitespace().any(|word| word == "sysrq") && !path.contains("/virtual/") {
            let name = field("N: Name=").unwrap_or_default().trim_matches('"');
            found.insert(Address::last_in(path), name.to_owned());
        }
    }
    let is_only = found.len() == 1;
    for (owner, name) in found {
        let Some(owner) = owner else {
            continue;
        };
        let mut used = Use::new("input", name);
        if is_only {
            used.missed("the only keyboard", Hurt::Machine);
        }
        all.add(owner, used);
    }
}
