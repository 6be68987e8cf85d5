// SPDX-License-Identifier: GPL-2.0
//! Why a device is not taken from the host, or from a user.

use crate::host::Host;
use crate::list;
use crate::machine::Device;
use crate::show::sriov;
use crate::uses::{Hurt, has_other_way_in};

/// A reason, and whether the caller may insist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) text: String,
    pub(crate) can_be_forced: bool,
}

/// What speaks against taking `devices` from the host.
pub(crate) fn bind(host: &Host, devices: &[&Device]) -> Vec<Refusal> {
    let mut all = Vec::new();
    // Who has come by ssh can do without display and keyboard.
    let remote = has_other_way_in(&host.root);
    for device in devices {
        let mut refuse = |text: String, can_be_forced: bool| {
            let text = format!("{}: {text}", device.address);
            all.push(Refusal {
                text,
                can_be_forced,
            });
        };
        if device.group.is_none() {
            refuse(
                "it has no IOMMU group: `vfio-rs doctor` says why".to_owned(),
                false,
            );
        }
        for used in host.uses.of(device.address) {
            if used.busy.is_empty() {
                continue;
            }
            let is_screen = matches!(used.kind, "display" | "input");
            let can_be_forced = used.hurt < Hurt::Machine || (is_screen && remote);
            let hint = if can_be_forced {
                "; --force=REASON insists"
            } else {
                ""
            };
            let text = format!(
                "{} {} is {}",
                used.kind,
                used.name,
                busy(used.kind, &used.busy)
            );
            refuse(text + hint, can_be_forced);
        }
        for function in sriov(&host.root, device).functions {
            let driver = host
                .root
                .link_name(&format!("sys/bus/pci/devices/{function}/driver"));
            if let Some(driver) = driver {
                let text = format!("its virtual function {function} is in use by {driver}");
                refuse(text, false);
            }
        }
    }
    all
}

fn busy(kind: &str, busy: &[String]) -> String {
    let list = busy.join(", ");
    match kind {
        "disk" => format!("in use ({list})"),
        "net" => format!("what carries {list}"),
        _ => list,
    }
}

/// Who still uses `devices` by VFIO, so that giving them back would wait for them.
pub(crate) fn restore(host: &Host, devices: &[&Device]) -> Vec<String> {
    let mut all = Vec::new();
    for device in devices.iter().filter(|device| device.has_vfio_driver) {
        // A group that is open, but the device not, does not hold the device.
        for process in host.users.of(device.address, None) {
            all.push(format!(
                "{}: in use by {}",
                device.address,
                list::user(process)
            ));
        }
    }
    all
}
