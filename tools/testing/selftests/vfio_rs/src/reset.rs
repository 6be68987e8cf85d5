// SPDX-License-Identifier: GPL-2.0
//! Resets of all devices that share a bridge or a slot.

use std::os::fd::{AsRawFd, RawFd};
use std::{fs, io};

use vfio_client::sys;
use vfio_client::sysfs::{self, PciDevice};
use vfio_client::uapi::DEVICE_PCI_HOT_RESET;
use vfio_client::{Device, Group};

use crate::setup::EDU;
use crate::{Result, skip};

/// VFIO_DEVICE_PCI_HOT_RESET with these fields.
///
/// # Errors
/// The kernel's errno.
pub fn raw_reset(
    device: &Device,
    argsz: u32,
    flags: u32,
    count: u32,
    fds: &[RawFd],
) -> io::Result<()> {
    let mut buf = sys::buffer(12 + 4 * fds.len());
    let words = [argsz, flags, count].map(u32::to_ne_bytes);
    let words = words
        .into_iter()
        .chain(fds.iter().map(|fd| fd.to_ne_bytes()));
    for (at, word) in words.enumerate() {
        sys::bytes_mut(&mut buf)[4 * at..4 * at + 4].copy_from_slice(&word);
    }
    sys::with_buffer(device, DEVICE_PCI_HOT_RESET, &mut buf).map(drop)
}

/// VFIO_DEVICE_PCI_HOT_RESET.
///
/// # Errors
/// The kernel's errno.
pub fn hot_reset(device: &Device, groups: &[&Group]) -> io::Result<()> {
    let fds: Vec<_> = groups.iter().map(|g| g.as_raw_fd()).collect();
    raw_reset(device, 12 + 4 * fds.len() as u32, 0, fds.len() as u32, &fds)
}

/// Endpoints that share a bus below a bridge, and a group; skips if there are none.
///
/// # Errors
/// That of sysfs.
pub fn bridged() -> Result<Vec<PciDevice>> {
    for device in sysfs::find_all(EDU.id.0, EDU.id.1)? {
        let mut members = device.group_members();
        let bus = |d: &PciDevice| d.address.rsplit_once(':').map(|(bus, _)| bus.to_owned());
        members.retain(|d| !d.is_bridge() && bus(d) == bus(&device));
        if !device.address.starts_with("0000:00:") && members.len() > 1 {
            return Ok(members);
        }
    }
    skip!("no devices that share a bus below a bridge")
}

/// Has the PCI core reset a function, as an administrator does.
///
/// # Errors
/// The kernel's errno.
pub fn reset_by_sysfs(pci: &PciDevice) -> io::Result<()> {
    fs::write(pci.path().join("reset"), "1")
}

/// Has the PCI core reset all that is below the bridge above a device.
///
/// # Errors
/// The kernel's errno.
pub fn reset_bus_by_sysfs(pci: &PciDevice) -> io::Result<()> {
    let device = fs::canonicalize(pci.path())?;
    let bridge = device.parent().ok_or(io::ErrorKind::NotFound)?;
    fs::write(bridge.join("reset_subordinate"), "1")
}
