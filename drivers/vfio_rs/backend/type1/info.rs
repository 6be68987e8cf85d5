// SPDX-License-Identifier: GPL-2.0

//! `VFIO_IOMMU_GET_INFO`: page sizes and limits.

use kernel::prelude::*;
use vfio_kernel::{
    argsz::UserArg,
    uapi, //
};
use zerocopy::IntoBytes;

use super::{
    dirty,
    Type1, //
};
use crate::uapi::{
    caps::CapChain,
    row, //
};

impl Type1 {
    /// The ioctl; without the capability that says what tracking of dirty pages can do if there is
    /// no such.
    ///
    /// # Errors
    ///
    /// `EFAULT`, `EINVAL` (size of the struct), `ENOMEM`.
    pub(in crate::backend) fn get_info(&self, arg: UserArg, tracks_dirty: bool) -> Result {
        type Info = uapi::vfio_iommu_type1_info;

        let user: Info = row::read(arg)?;
        let mut caps = CapChain::after(size_of::<Info>());
        let maps = self.maps.lock();
        let pgsizes = maps.pgsizes as u64;
        if tracks_dirty {
            // `flags`, padding, `pgsize_bitmap`, `max_dirty_bitmap_size`
            caps.push(
                uapi::VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
                1,
                &[
                    0u64.as_bytes(),
                    maps.granule().as_bytes(),
                    dirty::BITMAP_MAX.as_bytes(),
                ],
            )?;
        }
        caps.push(
            uapi::VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
            1,
            &[maps.avail.as_bytes()],
        )?;
        caps.push_iova_ranges(maps.allowed.as_ref())?;
        drop(maps);
        caps.write(arg, user.argsz, user.argsz as usize, |argsz, cap_offset| {
            Info {
                argsz,
                flags: uapi::VFIO_IOMMU_INFO_PGSIZES | uapi::VFIO_IOMMU_INFO_CAPS,
                iova_pgsizes: pgsizes,
                cap_offset,
                pad: 0,
            }
        })
    }
}
