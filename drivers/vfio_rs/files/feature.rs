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

use crate::{
    core::OpenDevice,
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
    type Header = uapi::vfio_device_feature_header;

    let header: Header = row::read(arg)?;
    let room = row::room(&header);
    let flags = header.flags;
    let probe = flags & PROBE != 0;
    let ops = flags & (GET | SET);
    // Reading and writing at once can only be asked about.
    if !probe && ops == GET | SET {
        return Err(EINVAL);
    }
    let number = flags & NUMBER;
    if number == uapi::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 {
        // ERRNO: EINVAL where the device cannot migrate, as
        // vfio_ioctl_device_feature_migration_precopy_info_v2().
        return Err(EINVAL);
    }
    let feature = O::features()
        .iter()
        .find(|feature| feature.number == number && (feature.present)(open))
        .ok_or(ENOTTY)?;
    if ops & !feature.op != 0 {
        return Err(EINVAL);
    }
    if probe {
        return Ok(0);
    }
    if ops == 0 || room < feature.size {
        return Err(EINVAL);
    }
    (feature.run)(open, arg.at(Header::MIN), room)
}
