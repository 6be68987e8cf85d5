// SPDX-License-Identifier: GPL-2.0
//! Checks of one device.

use super::Check;
use crate::config::Config;
use crate::host::Host;
use crate::list;
use crate::machine::{Device, VFIO_PCI};
use crate::show::{bars, nodes, numa, sriov};
use crate::verdict::Mark;

pub(super) fn all(host: &Host, device: &Device) -> Vec<Check> {
    if device.is_bridge() {
        return vec![Check::pass(
            "bridge",
            "a bridge stays with its driver, and is no obstacle",
        )];
    }
    let mut checks = vec![
        group(host, device),
        company(host, device),
        driver(host, device),
        uses(host, device),
        reset(host, device),
        power(host, device),
        memory(host, device),
        functions(host, device),
        node(host, device),
    ];
    checks.extend(numa_node(host, device));
    checks
}

fn group(host: &Host, device: &Device) -> Check {
    const NAME: &str = "group";
    let address = device.address.short();
    let Some(group) = device.group else {
        return Check::fail(
            NAME,
            "it has no IOMMU group",
            "read the check `iommu` above",
        );
    };
    match (host.judgement(device).mark, host.group_verdict(group)) {
        (Mark::Open, _) => Check::pass(NAME, format!("group {group} is in use")),
        (_, "viable") => Check::pass(NAME, format!("group {group} is viable")),
        (Mark::Host | Mark::Group, verdict) => Check::fail(
            NAME,
            format!("group {group}: {verdict}"),
            format!("vfio-rs bind {address}"),
        ),
        (_, verdict) => Check::fail(
            NAME,
            format!("group {group}: {verdict}"),
            "read Documentation/groups.rst",
        ),
    }
}

/// Who has to come along.
fn company(host: &Host, device: &Device) -> Check {
    const NAME: &str = "company";
    let others: Vec<_> = host.machine.companions(device);
    let others: Vec<_> = others
        .into_iter()
        .filter(|d| d.address != device.address)
        .collect();
    let is_far = |other: &&&Device| {
        (other.address.bus, other.address.slot) != (device.address.bus, device.address.slot)
    };
    let far: Vec<_> = others
        .iter()
        .filter(is_far)
        .map(|d| d.address.short())
        .collect();
    match (others.is_empty(), far.is_empty()) {
        (true, _) => Check::pass(NAME, "it is alone in its group"),
        (_, true) => Check::pass(
            NAME,
            format!(
                "{} other functions of the same card are in its group",
                others.len()
            ),
        ),
        _ => Check::warn(
            NAME,
            format!(
                "other cards are in its group, as nothing on the way keeps them apart (ACS): {}",
                far.join(", ")
            ),
            "move the card to another slot",
        ),
    }
}

fn driver(host: &Host, device: &Device) -> Check {
    const NAME: &str = "driver";
    let address = device.address.short();
    match (&device.driver, &device.only) {
        (Some(driver), _) if device.has_vfio_driver => Check::pass(NAME, driver.as_str()),
        (None, Some(only)) if only == VFIO_PCI => Check::fail(
            NAME,
            "it is meant for vfio-pci, but has no driver: the log says why, or vfio-pci is not loaded",
            format!("vfio-rs bind {address}"),
        ),
        (None, _) => Check::warn(NAME, "none", format!("vfio-rs bind {address}")),
        (Some(driver), _) => {
            let _ = host;
            Check::warn(
                NAME,
                format!("{driver}, a driver of the host"),
                format!("vfio-rs bind {address}"),
            )
        }
    }
}

fn uses(host: &Host, device: &Device) -> Check {
    const NAME: &str = "use";
    let mut texts = Vec::new();
    for member in host.machine.companions(device) {
        let busy = host
            .uses
            .of(member.address)
            .iter()
            .filter(|used| !used.busy.is_empty());
        texts.extend(busy.map(|used| format!("{} {}", member.address.short(), used.text())));
    }
    match texts.is_empty() {
        true => Check::pass(NAME, "the host does not need it"),
        false => Check::warn(
            NAME,
            format!("the host would miss it: {}", texts.join("; ")),
            format!("vfio-rs bind --dry-run {}", device.address.short()),
        ),
    }
}

fn reset(host: &Host, device: &Device) -> Check {
    const NAME: &str = "reset";
    let methods = host.root.text(&format!("{}/reset_method", device.folder()));
    match methods.as_deref() {
        Some("") | None => Check::warn(
            NAME,
            "no way to reset it alone: what a user leaves in it, the next one finds",
            "read Documentation/howto/gpu.rst",
        ),
        Some(methods) => Check::pass(NAME, methods),
    }
}

fn power(host: &Host, device: &Device) -> Check {
    const NAME: &str = "power";
    let state = host.root.text(&format!("{}/power_state", device.folder()));
    if Config::read(&host.root, device).is_dead() {
        return Check::fail(
            NAME,
            "its configuration reads as ff: it is gone, or does not wake up",
            format!(
                "echo 1 > /sys/bus/pci/devices/{}/remove, then rescan",
                device.address
            ),
        );
    }
    match state.as_deref() {
        Some("D3cold") => Check::warn(
            NAME,
            "it is switched off (D3cold); some devices do not come back well",
            format!(
                "echo 0 > /sys/bus/pci/devices/{}/d3cold_allowed",
                device.address
            ),
        ),
        Some(state) => Check::pass(NAME, state),
        None => Check::unknown(NAME, "the kernel does not say in which state it is"),
    }
}

/// Whether somebody else has reserved its memory.
fn memory(host: &Host, device: &Device) -> Check {
    const NAME: &str = "memory";
    let bars = bars::read(&host.root, device);
    let driver = device.driver.clone().unwrap_or_default();
    let mut held = Vec::new();
    for bar in &bars {
        let Some(holders) = &bar.holders else {
            return Check::unknown(NAME, "who has reserved its memory is known to root only");
        };
        let others = holders
            .iter()
            .filter(|name| **name != driver && !name.starts_with("vfio"));
        held.extend(others.map(|name| format!("{} by {name}", bar.name)));
    }
    match held.is_empty() {
        true => Check::pass(NAME, "nobody else has reserved its memory"),
        false => Check::fail(
            NAME,
            format!("reserved: {}; using it is EBUSY", held.join(", ")),
            "read Documentation/howto/gpu.rst, \"boot framebuffer\"",
        ),
    }
}

fn functions(host: &Host, device: &Device) -> Check {
    const NAME: &str = "sr-iov";
    let sriov = sriov(&host.root, device);
    match (sriov.functions.len(), sriov.physical) {
        (0, None) => Check::pass(NAME, "no virtual functions"),
        (0, Some(physical)) => Check::pass(NAME, format!("a virtual function of {physical}")),
        (some, _) => Check::warn(
            NAME,
            format!("{some} virtual functions, which go when it is taken from its driver"),
            format!(
                "echo 0 > /sys/bus/pci/devices/{}/sriov_numvfs",
                device.address
            ),
        ),
    }
}

fn node(host: &Host, device: &Device) -> Check {
    const NAME: &str = "permission";
    let nodes = nodes(&host.root, device);
    let Some(node) = nodes.first() else {
        return match device.has_vfio_driver {
            true => Check::unknown(NAME, "its node is not to be seen"),
            false => Check::pass(NAME, "a node comes when it is bound"),
        };
    };
    let users: Vec<_> = host.users_of(device).map(list::user).collect();
    match (node.uid, users.is_empty()) {
        (_, false) => Check::pass(
            NAME,
            format!("{} is open by {}", node.path, users.join(", ")),
        ),
        (0, _) => Check::warn(
            NAME,
            format!("{} is root's alone", node.path),
            format!("vfio-rs allow USER {}", device.address.short()),
        ),
        _ => Check::pass(NAME, format!("{} is {}'s", node.path, node.user)),
    }
}

/// Only where there is a choice.
fn numa_node(host: &Host, device: &Device) -> Option<Check> {
    let nodes = host.root.names("sys/devices/system/node");
    let count = nodes.iter().filter(|name| name.starts_with("node")).count();
    let node = numa(&host.root, device).filter(|_| count > 1)?;
    let text = format!("near to node {node} of {count}: the client is best kept there");
    Some(Check::pass("numa", text))
}
