// SPDX-License-Identifier: GPL-2.0

//! `VFIO_DEVICE_FEATURE`: what a device can do beyond the other ioctls.
//!
//! Each feature is a row of [`FEATURES`] and a function. All checks that features share are made
//! here, in the order in which C makes them, so a function sees only calls that are well formed.
//!
//! Stands for vfio_ioctl_device_feature() of drivers/vfio/vfio_main.c and vfio_check_feature().

use kernel::prelude::*;
use vfio_kernel::{
    argsz::UserArg,
    uapi, //
};

use super::offset_of_end;
use crate::pci::Open;

/// The parts of the flags.
const GET: u32 = uapi::VFIO_DEVICE_FEATURE_GET;
const SET: u32 = uapi::VFIO_DEVICE_FEATURE_SET;
const PROBE: u32 = uapi::VFIO_DEVICE_FEATURE_PROBE;
const NUMBER: u32 = uapi::VFIO_DEVICE_FEATURE_MASK;

/// What a user wants of a feature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// To read it.
    Get,
    /// To write it, or to make it happen.
    Set,
}

/// A call of a feature.
#[allow(dead_code)] // Until a feature reads all of it.
pub(crate) struct Call {
    /// One of the feature's `ops`.
    pub(crate) op: Op,
    /// The feature's own data, behind the header.
    pub(crate) data: UserArg,
}

/// One feature.
struct Feature {
    /// `VFIO_DEVICE_FEATURE_*`.
    number: u32,
    /// What may be asked: [`GET`], [`SET`] or both.
    ops: u32,
    /// Bytes of data that the user must have room for.
    size: usize,
    /// Whether this device has it; if not the feature is unknown, whatever is asked.
    present: fn(&Open) -> bool,
    /// Does it; what it returns is what `ioctl(2)` returns.
    run: fn(&Open, Call) -> Result<isize>,
}

/// All features, in any order.
const FEATURES: &[Feature] = &[];

/// `VFIO_DEVICE_FEATURE`.
///
/// # Errors
///
/// `EINVAL` for a call that is malformed, asks for both ways or one that the feature does not have,
/// or has too little room; `ENOTTY` for a feature that the device does not have; what the feature
/// says.
pub(super) fn feature(open: &Open, arg: UserArg) -> Result<isize> {
    type Header = uapi::vfio_device_feature_header;
    const MIN: usize = offset_of_end!(Header, flags);

    let header: Header = arg.read_min(MIN)?;
    let room = (header.argsz as usize).checked_sub(MIN).ok_or(EINVAL)?;
    let flags = header.flags;
    if flags & !(NUMBER | GET | SET | PROBE) != 0 {
        return Err(EINVAL);
    }
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
    let feature = FEATURES
        .iter()
        .find(|feature| feature.number == number && (feature.present)(open))
        .ok_or(ENOTTY)?;
    if ops & !feature.ops != 0 {
        return Err(EINVAL);
    }
    if probe {
        return Ok(0);
    }
    let op = match ops {
        GET => Op::Get,
        SET => Op::Set,
        _ => return Err(EINVAL),
    };
    if room < feature.size {
        return Err(EINVAL);
    }
    let data = arg.at(MIN);
    (feature.run)(open, Call { op, data })
}
