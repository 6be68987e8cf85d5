// SPDX-License-Identifier: GPL-2.0
//! `vfio-rs qemu` and `vfio-rs libvirt`: the lines that give a device to a guest.

use std::fmt::Write;

use anyhow::Result;

use crate::host::Host;
use crate::machine::Device;

/// The devices that go together: those named, and the other functions of their groups.
fn together<'a>(host: &'a Host, words: &[String]) -> Result<Vec<&'a Device>> {
    let mut all = Vec::new();
    for word in words {
        all.extend(host.machine.companions(host.one(word)?));
    }
    all.retain(|device| !device.is_bridge());
    all.sort_by_key(|device| device.address);
    all.dedup_by_key(|device| device.address);
    Ok(all)
}

/// Arguments of QEMU. Functions of one card stay functions of one card.
///
/// # Errors
/// If a word means no device, or several.
pub fn qemu(host: &Host, words: &[String]) -> Result<String> {
    let devices = together(host, words)?;
    let mut out = String::new();
    let slot = |device: &Device| {
        (
            device.address.domain,
            device.address.bus,
            device.address.slot,
        )
    };
    let mut cards: Vec<_> = devices.iter().map(|d| slot(d)).collect();
    cards.dedup();
    for device in &devices {
        let same: Vec<_> = devices.iter().filter(|d| slot(d) == slot(device)).collect();
        let mut line = format!("-device vfio-pci,host={}", device.address);
        if let (Some(first), true) = (same.first(), same.len() > 1) {
            // Any slot of the guest that is free does; QEMU gives those from the first on.
            let is_first = first.address == device.address;
            let function = same
                .iter()
                .position(|d| d.address == device.address)
                .unwrap_or(0);
            let slot = 0x10
                + cards
                    .iter()
                    .position(|card| *card == slot(device))
                    .unwrap_or(0);
            let _ = write!(line, ",addr={slot:#x}.{function}");
            line += if is_first { ",multifunction=on" } else { "" };
        }
        let _ = writeln!(out, "{line}");
    }
    Ok(out)
}

/// Elements for libvirt's XML: `virsh attach-device`, or below `<devices>`.
///
/// # Errors
/// If a word means no device, or several.
pub fn libvirt(host: &Host, words: &[String]) -> Result<String> {
    let mut out = String::new();
    for device in together(host, words)? {
        let at = device.address;
        let _ = writeln!(
            out,
            "<hostdev mode='subsystem' type='pci' managed='yes'>\n  <source>\n    \
             <address domain='{:#06x}' bus='{:#04x}' slot='{:#04x}' function='{:#x}'/>\n  \
             </source>\n</hostdev>",
            at.domain, at.bus, at.slot, at.function
        );
    }
    Ok(out)
}
