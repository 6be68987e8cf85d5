// SPDX-License-Identifier: GPL-2.0

//! `VFIO_DEVICE_FEATURE`: what a device can do beyond the other ioctls.
//!
//! Each feature is a row of a table, [`OpenDevice::features`], and a function. All checks that
//! features share are made here, in the order in which C makes them, so a function sees only calls
//! that are well formed.
//!
//! Stands for vfio_ioctl_device_feature() of drivers/vfio/vfio_main.c and vfio_check_feature().

use kernel::prelude::*;
use vfio_kernel::{
    argsz::UserArg,
    uapi, //
};

use super::viability;
use crate::{
    core::OpenDevice,
    iommu_group::{
        Asker,
        Group, //
    },
    uapi::row::{
        self,
        Row, //
    },
};

/// The parts of the flags.
pub(super) const GET: u32 = uapi::VFIO_DEVICE_FEATURE_GET;
pub(super) const SET: u32 = uapi::VFIO_DEVICE_FEATURE_SET;
const PROBE: u32 = uapi::VFIO_DEVICE_FEATURE_PROBE;
const NUMBER: u32 = uapi::VFIO_DEVICE_FEATURE_MASK;

/// `VFIO_DEVICE_FEATURE`.
///
/// # Errors
///
/// `EINVAL` for a call that is malformed, asks for both ways or one that the feature does not have,
/// or has too little room; `ENOTTY` for a feature that the device does not have; what the feature
/// says.
pub(super) fn feature<O: OpenDevice>(open: &O, arg: UserArg) -> Result<isize> {
    let call = Call::read(arg)?;
    let number = call.number;
    if number == uapi::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 {
        // ERRNO: EINVAL where the device cannot migrate, as
        // vfio_ioctl_device_feature_migration_precopy_info_v2().
        return Err(EINVAL);
    }
    let feature = O::features()
        .iter()
        .find(|feature| feature.number == number && (feature.present)(open))
        .ok_or(ENOTTY)?;
    match call.run(feature.op, feature.size)? {
        Some(data) => (feature.run)(open, data, call.room),
        None => Ok(0),
    }
}

/// As [`feature`], for a device of `group` that its user is not bound to yet: what keeps them from
/// that can be asked for.
///
/// # Errors
///
/// `EINVAL` for all that is not `VFIO_DEVICE_FEATURE_VIABILITY`; as [`viability::get`].
pub(super) fn before_bind(group: &Group, arg: UserArg) -> Result<isize> {
    // Nor is anything else of a call looked at.
    let call = Call::read(arg).map_err(|_| EINVAL)?;
    if call.number != uapi::VFIO_DEVICE_FEATURE_VIABILITY {
        return Err(EINVAL);
    }
    if let Some(data) = call.run(GET, viability::MIN)? {
        viability::get(group, Asker::Other, data, call.room)?;
    }
    Ok(0)
}

/// A call that is well formed.
struct Call {
    number: u32,
    /// [`GET`], [`SET`].
    ops: u32,
    probe: bool,
    data: UserArg,
    /// Bytes that the user has for data.
    room: usize,
}

impl Call {
    fn read(arg: UserArg) -> Result<Self> {
        type Header = uapi::vfio_device_feature_header;

        let header: Header = row::read(arg)?;
        let call = Self {
            number: header.flags & NUMBER,
            ops: header.flags & (GET | SET),
            probe: header.flags & PROBE != 0,
            data: arg.at(Header::MIN),
            room: row::room(&header),
        };
        // Reading and writing at once can only be asked about.
        if !call.probe && call.ops == GET | SET {
            return Err(EINVAL);
        }
        Ok(call)
    }

    /// The data, if a feature that knows `ops` and wants `size` bytes is to be run, and not only
    /// asked for.
    fn run(&self, ops: u32, size: usize) -> Result<Option<UserArg>> {
        if self.ops & !ops != 0 {
            return Err(EINVAL);
        }
        if self.probe {
            return Ok(None);
        }
        if self.ops == 0 || self.room < size {
            return Err(EINVAL);
        }
        Ok(Some(self.data))
    }
}
