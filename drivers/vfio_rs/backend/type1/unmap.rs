// SPDX-License-Identifier: GPL-2.0

//! `VFIO_IOMMU_UNMAP_DMA`: takes memory away from devices and unpins it.

use core::mem;
use kernel::prelude::*;
use vfio_kernel::{
    argsz::UserArg,
    uapi, //
};

use super::{
    maps::{
        self,
        Entry,
        Guard, //
    },
    Type1,
    Version, //
};
use crate::{
    iova::IovaRange,
    uapi::offset_of_end, //
};

type DmaUnmap = uapi::vfio_iommu_type1_dma_unmap_header;

impl Type1 {
    /// The ioctl; tells in `size` how many bytes were unmapped.
    ///
    /// # Errors
    ///
    /// In this order, as vfio_dma_do_unmap(): `EFAULT`, `EINVAL` (size of the struct, flags, not
    /// aligned, no bytes), `EOVERFLOW` (wraps), `EINVAL` (v2: cuts a mapping in two). A range
    /// without mappings is no error.
    pub(super) fn unmap_dma(&self, arg: UserArg) -> Result {
        const MIN: usize = offset_of_end!(DmaUnmap, size);

        let mut unmap: DmaUnmap = arg.read_min(MIN)?;
        if (unmap.argsz as usize) < MIN || unmap.flags & !uapi::VFIO_DMA_UNMAP_FLAG_ALL != 0 {
            return Err(EINVAL);
        }
        let all = unmap.flags & uapi::VFIO_DMA_UNMAP_FLAG_ALL != 0;
        unmap.size = self.unmap(unmap.iova, unmap.size, all)?;
        arg.write_prefix(&unmap, MIN)
    }

    /// Drops all mappings; nobody attaches groups any more.
    pub(super) fn unmap_all(&self) {
        self.drop_mapped(self.maps.lock(), IovaRange::ALL);
    }

    fn unmap(&self, iova: u64, size: u64, all: bool) -> Result<u64> {
        let mut maps = self.maps.lock();
        if !maps.aligned(iova) {
            return Err(EINVAL);
        }
        let range = if all {
            if iova != 0 || size != 0 {
                return Err(EINVAL);
            }
            IovaRange::ALL
        } else {
            if size == 0 || !maps.aligned(size) {
                return Err(EINVAL);
            }
            IovaRange::from_size(iova, size).map_err(|_| EOVERFLOW)?
        };
        maps::wait_idle(&mut maps, &self.idle, range);
        if self.version == Version::V2 && maps.ranges.cuts(range) {
            return Err(EINVAL);
        }
        Ok(self.drop_mapped(maps, range))
    }

    /// Drops the mappings in `range` one by one, each without the lock; returns their bytes.
    fn drop_mapped<'a>(&'a self, mut maps: Guard<'a>, range: IovaRange) -> u64 {
        let mut unmapped = 0u64;
        let mut left = Some(range);
        while let Some(found) = left.and_then(|left| maps.ranges.first_overlap(left)) {
            // v1: a mapping that starts before the range stays, and so does all behind it. In v2
            // such a one was made meanwhile, and is not this call's business.
            if found.start() < range.start() {
                break;
            }
            left = range.above(&found);
            let Some(Entry::Ready(mapped)) = maps
                .ranges
                .get_mut(found)
                .map(|entry| mem::replace(entry, Entry::Busy))
            else {
                // Busy: made meanwhile.
                continue;
            };
            maps.busy = maps.busy.saturating_add(1);
            drop(maps);
            drop(mapped);
            maps = self.maps.lock();
            let _ = maps.ranges.remove(found);
            maps.avail = maps.avail.saturating_add(1);
            maps.busy = maps.busy.saturating_sub(1);
            self.idle.notify_all();
            unmapped = unmapped.wrapping_add(found.size().unwrap_or(0));
        }
        unmapped
    }
}
