// SPDX-License-Identifier: GPL-2.0
//! Why a group can be used, or not: VFIO_GROUP_GET_VIABILITY and VFIO_DEVICE_FEATURE_VIABILITY of `<linux/vfio_rs.h>`.

use std::io;
use std::os::fd::AsRawFd;

use crate::device::Device;
use crate::group::Group;
use crate::sys;
use crate::uapi::*;

/// `_IO(VFIO_TYPE, VFIO_BASE + 67)`.
pub const GROUP_GET_VIABILITY: u32 = ((VFIO_TYPE as u32) << 8) | (VFIO_BASE + 67);
/// Number of the feature.
pub const FEATURE_VIABILITY: u32 = 0x8001;

/// `enum vfio_viability_reason`.
pub const VIABLE: u32 = 0;
pub const NOT_VIABLE_DRIVER: u32 = 1;
pub const NOT_VIABLE_NO_ISOLATED_MSI: u32 = 4;
pub const NOT_VIABLE_NO_IOMMU: u32 = 6;

/// Bytes of `struct vfio_group_viability` without its devices, and of each of those.
pub const HEADER: usize = 16;
pub const ROW: usize = 72;
/// Bytes of the header of VFIO_DEVICE_FEATURE.
pub const FEATURE_HEADER: usize = 8;
/// Devices that the calls here have room for.
const ROOM: usize = 64;

/// A device of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, and that of its driver, empty if none.
    pub name: String,
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

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

impl Viability {
    /// From a `struct vfio_group_viability` that the kernel filled in.
    ///
    /// # Panics
    /// If there are fewer bytes than it says.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let rows = bytes[HEADER..].chunks_exact(ROW);
        Self {
            reason: word(bytes, 12),
            devices: rows
                .take(word(bytes, 8) as usize)
                .map(|row| Member {
                    name: text(&row[..32]),
                    driver: text(&row[32..64]),
                    reason: word(row, 64),
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
