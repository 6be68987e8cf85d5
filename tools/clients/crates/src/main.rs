// SPDX-License-Identifier: GPL-2.0
//! Two crates that use VFIO, as they are published: `vfio-ioctls`, which virtual machine monitors
//! have their devices by, and `pci-driver`. Both drive QEMU's `edu` to DMA and interrupts, and open
//! what other devices they are given:
//!
//! ```text
//! vfio-rs-crates FOLDER-OF-EDU-IN-SYSFS [FOLDER-OF-ANOTHER-DEVICE...]
//! ```
//!
//! Prints TAP.

mod by_pci_driver;
mod by_vfio_ioctls;
mod edu;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

/// Runs a test and prints its line.
fn test(number: usize, what: &str, body: impl FnOnce() -> Result<()>) -> bool {
    match body() {
        Ok(()) => {
            println!("ok {number} {what}");
            true
        }
        Err(err) => {
            println!("# {err:?}");
            println!("not ok {number} {what}");
            false
        }
    }
}

fn main() -> ExitCode {
    let devices: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let Some((edu, others)) = devices.split_first() else {
        eprintln!("usage: vfio-rs-crates FOLDER-OF-EDU-IN-SYSFS [FOLDER-OF-ANOTHER-DEVICE...]");
        return ExitCode::from(2);
    };
    type Test = fn(&Path) -> Result<()>;
    let of_edu: [(&str, Test); 2] = [
        (
            "vfio-ioctls: registers, DMA and MSI of edu",
            by_vfio_ioctls::drive,
        ),
        (
            "pci-driver: registers, DMA and MSI of edu",
            by_pci_driver::drive,
        ),
    ];
    let of_others: [(&str, Test); 2] = [
        ("vfio-ioctls: opens and resets", by_vfio_ioctls::open),
        ("pci-driver: opens and resets", by_pci_driver::open),
    ];
    let edu = of_edu.map(|(what, body)| (what.to_owned(), body, edu));
    let others = others.iter().flat_map(|device| {
        let name = device.file_name().unwrap_or_default().to_string_lossy();
        of_others.map(|(what, body)| (format!("{what} {name}"), body, device))
    });
    let mut number = 0;
    let mut good = true;
    for (what, body, device) in edu.into_iter().chain(others) {
        number += 1;
        good &= test(number, &what, || body(device));
    }
    println!("1..{number}");
    ExitCode::from(u8::from(!good))
}
