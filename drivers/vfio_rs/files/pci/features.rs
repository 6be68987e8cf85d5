// SPDX-License-Identifier: GPL-2.0

//! What PCI devices can do beyond the other ioctls.

use kernel::prelude::*;
use vfio_kernel::{
    argsz::UserArg,
    dma_buf,
    uapi,
    user_sized, //
};
use zerocopy::IntoBytes;

use super::low_power;
use crate::{
    core::Feature,
    files::{
        feature::{
            GET,
            SET, //
        },
        viability,
    },
    pci::{
        Open,
        Uuid, //
    },
};

/// All features, in any order.
pub(super) const FEATURES: &[Feature<Open>] = &[
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
    // The room that users say they have does not tell how much this may be.
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
