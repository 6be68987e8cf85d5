// SPDX-License-Identifier: GPL-2.0
//! Why a group can be used, or not: VFIO_GROUP_GET_VIABILITY and VFIO_DEVICE_FEATURE_VIABILITY of
//! `<linux/vfio_rs.h>`.

use std::ffi::c_char;
use std::io;
use std::os::fd::AsRawFd;

use crate::bindings::{vfio_group_viability, vfio_viability_dev};
use crate::device::Device;
use crate::group::Group;
use crate::sys;
use crate::uapi::*;

pub use crate::bindings::{
    VFIO_DEVICE_FEATURE_VIABILITY as FEATURE_VIABILITY,
    VFIO_GROUP_GET_VIABILITY as GROUP_GET_VIABILITY, VFIO_NOT_VIABLE_DRIVER as NOT_VIABLE_DRIVER,
    VFIO_NOT_VIABLE_NO_IOMMU as NOT_VIABLE_NO_IOMMU,
    VFIO_NOT_VIABLE_NO_ISOLATED_MSI as NOT_VIABLE_NO_ISOLATED_MSI, VFIO_VIABLE as VIABLE,
};

/// Bytes of the answer without its devices.
pub const HEADER: usize = size_of::<vfio_group_viability>();
/// Bytes of each of those.
pub const ROW: usize = size_of::<vfio_viability_dev>();
/// Bytes of the header of VFIO_DEVICE_FEATURE.
pub const FEATURE_HEADER: usize = size_of::<vfio_device_feature>();
/// Devices that the calls here have room for.
const ROOM: usize = 64;

/// A device of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// That of its driver, empty if none.
    pub driver: String,
    /// `enum vfio_viability_reason`.
    pub reason: u32,
}

/// What the kernel says of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viability {
    /// `enum vfio_viability_reason`.
    pub reason: u32,
    /// Its devices.
    pub devices: Vec<Member>,
}

/// The 32-bit number at byte `at`.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(word)
}

fn text(chars: &[c_char]) -> String {
    let bytes = chars.iter().map(|c| c.to_ne_bytes()[0]);
    let bytes: Vec<u8> = bytes.take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Viability {
    /// From a `struct vfio_group_viability` that the kernel filled in.
    ///
    /// # Panics
    /// If there are fewer bytes than it says.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let rows = bytes[HEADER..].chunks_exact(ROW);
        let head: vfio_group_viability = sys::read_struct(bytes).unwrap_or_default();
        let devices = rows
            .take(head.count as usize)
            .filter_map(sys::read_struct::<vfio_viability_dev>);
        Self {
            reason: head.reason,
            devices: devices
                .map(|row| Member {
                    name: text(&row.name),
                    driver: text(&row.driver),
                    reason: row.reason,
                })
                .collect(),
        }
    }

    /// What it says of the device `name`.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<&Member> {
        self.devices.iter().find(|member| member.name == name)
    }
}

impl Group {
    /// VFIO_GROUP_GET_VIABILITY.
    ///
    /// # Errors
    /// ENOTTY for stacks that have no such ioctl; ENODEV if the last device was unbound.
    pub fn viability(&self) -> io::Result<Viability> {
        let mut buffer = sys::buffer(HEADER + ROOM * ROW);
        let size = (buffer.len() * 8) as u32;
        sys::bytes_mut(&mut buffer)[..4].copy_from_slice(&size.to_ne_bytes());
        sys::with_buffer(self, GROUP_GET_VIABILITY, &mut buffer)?;
        Ok(Viability::parse(sys::bytes(&buffer)))
    }
}

impl Device {
    /// VFIO_DEVICE_FEATURE_VIABILITY.
    ///
    /// # Errors
    /// ENOTTY for stacks that have no such feature.
    pub fn viability(&self) -> io::Result<Viability> {
        let mut buffer = sys::buffer(FEATURE_HEADER + HEADER + ROOM * ROW);
        let size = (buffer.len() * 8) as u32;
        let words = [
            size,
            VFIO_DEVICE_FEATURE_GET | FEATURE_VIABILITY,
            size - FEATURE_HEADER as u32,
        ];
        let bytes = sys::bytes_mut(&mut buffer);
        for (at, word) in words.into_iter().enumerate() {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
        }
        sys::raw(
            self.as_raw_fd(),
            DEVICE_FEATURE,
            buffer.as_mut_ptr() as usize,
        )?;
        Ok(Viability::parse(&sys::bytes(&buffer)[FEATURE_HEADER..]))
    }
}
