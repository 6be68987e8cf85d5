// SPDX-License-Identifier: GPL-2.0
//! Resets of all devices that share a bridge or a slot.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use vfio_client::sys;
use vfio_client::uapi::DEVICE_PCI_HOT_RESET;
use vfio_client::{Device, Group};

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
