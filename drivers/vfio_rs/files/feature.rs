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
    dma_buf,
    uapi,
    user_sized, //
};
use zerocopy::IntoBytes;

use super::{
    low_power,
    viability, //
};
use crate::{
    pci::{
        Open,
        Uuid, //
    },
    uapi::offset_of_end,
};

/// The parts of the flags.
const GET: u32 = uapi::VFIO_DEVICE_FEATURE_GET;
const SET: u32 = uapi::VFIO_DEVICE_FEATURE_SET;
const PROBE: u32 = uapi::VFIO_DEVICE_FEATURE_PROBE;
const NUMBER: u32 = uapi::VFIO_DEVICE_FEATURE_MASK;

/// One feature.
struct Feature {
    /// `VFIO_DEVICE_FEATURE_*`.
    number: u32,
    /// What may be asked, [`GET`] or [`SET`]: to read it, or to write it or make it happen.
    op: u32,
    /// Bytes of data that the user must have room for.
    size: usize,
    /// Whether this device has it; if not the feature is unknown, whatever is asked.
    present: fn(&Open) -> bool,
    /// Does it, with the data behind the header and the bytes that the user has room for there;
    /// what it returns is what `ioctl(2)` returns.
    run: fn(&Open, UserArg, usize) -> Result<isize>,
}

/// All features, in any order.
const FEATURES: &[Feature] = &[
    Feature {
        number: uapi::VFIO_DEVICE_FEATURE_DMA_BUF,
        op: GET,
        size: DMA_BUF_SIZE,
        present: |_| dma_buf::works(),
        run: export_dma_buf,
    },
    Feature {
        number: uapi::VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,
        // Not to be read: it may be the token of the user before.
        op: SET,
        size: size_of::<Uuid>(),
        present: Open::has_vf_token,
        run: set_vf_token,
    },
    Feature {
        number: uapi::VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
        op: SET,
        size: 0,
        present: always,
        run: low_power::enter,
    },
    Feature {
        number: uapi::VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
        op: SET,
        size: low_power::WAKEUP_SIZE,
        present: always,
        run: low_power::enter_with_wakeup,
    },
    Feature {
        number: uapi::VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
        op: SET,
        size: 0,
        present: always,
        run: low_power::leave,
    },
    Feature {
        number: uapi::VFIO_DEVICE_FEATURE_VIABILITY,
        op: GET,
        size: viability::MIN,
        present: always,
        run: viability::feature,
    },
];

/// The part of `struct vfio_device_feature_dma_buf` before the ranges.
const DMA_BUF_SIZE: usize = size_of::<[u32; 4]>();

/// `VFIO_DEVICE_FEATURE_DMA_BUF`: the data says what to export, the result is a descriptor.
fn export_dma_buf(open: &Open, data: UserArg, _room: usize) -> Result<isize> {
    let [bar, open_flags, flags, count]: [u32; 4] = data.read_min(DMA_BUF_SIZE)?;
    if count == 0 || flags != 0 {
        return Err(EINVAL);
    }
    open.check_bar(bar)?;
    // The room that the user says he has does not tell how much this may be.
    let mut parts = KVec::from_elem([0u64; 2], count as usize, user_sized::gfp())?;
    let bytes = parts.as_mut_bytes();
    data.slice(DMA_BUF_SIZE, bytes.len())
        .reader()
        .read_slice(bytes)?;
    Ok(open.export_bar(bar, open_flags, &parts)? as isize)
}

/// For what every device has.
fn always(_: &Open) -> bool {
    true
}

/// `VFIO_DEVICE_FEATURE_PCI_VF_TOKEN`: the data is the token.
fn set_vf_token(open: &Open, data: UserArg, _: usize) -> Result<isize> {
    let token: [u8; 16] = data.read_min(size_of::<Uuid>())?;
    open.set_vf_token(Uuid(token));
    Ok(0)
}

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
    if ops & !feature.op != 0 {
        return Err(EINVAL);
    }
    if probe {
        return Ok(0);
    }
    if ops == 0 || room < feature.size {
        return Err(EINVAL);
    }
    (feature.run)(open, arg.at(MIN), room)
}
