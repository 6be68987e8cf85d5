// SPDX-License-Identifier: GPL-2.0
//! Tells the command which PCI address each device of the QEMU command line got.
//!
//! Addresses differ between IOMMUs (AMD's takes a slot), so tests look devices up by their QEMU id:
//! in the file `/run/vfio-rs/devices`, one line `id address` each, or in the environment,
//! `VFIO_RS_BDF_<ID>`.

use std::path::Path;
use std::{fmt::Write, fs};

use anyhow::Result;
use qmp::Qmp;
use serde_json::{Value, json};
use vm_init::{QMP_PORT, RUN_DIR};

use crate::ports;

/// Writes the table of devices and returns the variables for the command's environment.
pub(crate) fn publish() -> Result<Vec<(String, String)>> {
    let node = ports::find(QMP_PORT)?;
    let buses = Qmp::open_first(&node)?.call("query-pci", &json!({}))?;
    let mut found = Vec::new();
    for bus in buses.as_array().into_iter().flatten() {
        collect(&bus["devices"], &mut found);
    }
    let mut table = String::new();
    let mut env = vec![(
        "VFIO_RS_QMP".to_owned(),
        format!("/dev/virtio-ports/{QMP_PORT}"),
    )];
    for (id, address) in found {
        writeln!(table, "{id} {address}")?;
        let id = id
            .to_uppercase()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        env.push((format!("VFIO_RS_BDF_{id}"), address));
    }
    fs::write(Path::new(RUN_DIR).join("devices"), table)?;
    Ok(env)
}

/// Adds the named devices of one bus, and of the buses behind it.
fn collect(devices: &Value, found: &mut Vec<(String, String)>) {
    for device in devices.as_array().into_iter().flatten() {
        let number = |key: &str| device[key].as_u64().unwrap_or(0);
        if let Some(id) = device["qdev_id"].as_str().filter(|id| !id.is_empty()) {
            let address = format!(
                "0000:{:02x}:{:02x}.{:x}",
                number("bus"),
                number("slot"),
                number("function")
            );
            found.push((id.to_owned(), address));
        }
        collect(&device["pci_bridge"]["devices"], found);
    }
}
