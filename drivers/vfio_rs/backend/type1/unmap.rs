// SPDX-License-Identifier: GPL-2.0

//! `VFIO_IOMMU_UNMAP_DMA`: takes memory away from devices and unpins it.

use kernel::prelude::*;
use vfio_kernel::{
    argsz::UserArg,
    uapi, //
};

use super::{
    dirty::UserBitmap,
    maps::{
        self,
        Entry,
        Guard,
        Mapped, //
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
    /// without mappings is no error. With a bitmap of dirty pages also `EFAULT`; then some mappings
    /// may be gone.
    pub(super) fn unmap_dma(&self, arg: UserArg) -> Result {
        const MIN: usize = offset_of_end!(DmaUnmap, size);
        const KNOWN: u32 = uapi::VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
            | uapi::VFIO_DMA_UNMAP_FLAG_ALL
            | uapi::VFIO_DMA_UNMAP_FLAG_VADDR;

        let mut unmap: DmaUnmap = arg.read_min(MIN)?;
        let has = |flag| unmap.flags & flag != 0;
        let bitmap = has(uapi::VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP);
        let all = has(uapi::VFIO_DMA_UNMAP_FLAG_ALL);
        let vaddr = has(uapi::VFIO_DMA_UNMAP_FLAG_VADDR);
        if (unmap.argsz as usize) < MIN || has(!KNOWN) || (bitmap && (all || vaddr)) {
            return Err(EINVAL);
        }
        let bitmap = match bitmap {
            true => {
                if (unmap.argsz as usize) < MIN.wrapping_add(UserBitmap::SIZE) {
                    return Err(EINVAL);
                }
                let bitmap = arg.offset(MIN).read_min(UserBitmap::SIZE)?;
                Some(UserBitmap::new(bitmap, unmap.size)?)
            }
            false => None,
        };
        unmap.size = match vaddr {
            true => self.invalidate_vaddr(unmap.iova, unmap.size, all)?,
            false => self.unmap(unmap.iova, unmap.size, all, bitmap)?,
        };
        arg.write_prefix(&unmap, MIN)
    }

    /// Drops all mappings; nobody attaches groups any more.
    pub(super) fn unmap_all(&self) {
        let _ = self.drop_mapped(self.maps.lock(), IovaRange::ALL, None);
    }

    fn unmap(&self, iova: u64, size: u64, all: bool, bitmap: Option<UserBitmap>) -> Result<u64> {
        let (maps, range) = self.claim(iova, size, all)?;
        if bitmap.is_some_and(|bitmap| !maps.dirty || !bitmap.fits(&maps)) {
            return Err(EINVAL);
        }
        self.drop_mapped(maps, range, bitmap)
    }

    /// Checks a range that the user wants something done with all of, and waits until no part of
    /// it is busy.
    ///
    /// # Errors
    ///
    /// `EINVAL` (not aligned, no bytes), `EOVERFLOW` (wraps), `EINVAL` (v2: cuts a mapping in two).
    pub(super) fn claim(&self, iova: u64, size: u64, all: bool) -> Result<(Guard<'_>, IovaRange)> {
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
        Ok((maps, range))
    }

    /// Drops the mappings in `range` one by one, each without the lock; returns their bytes.
    ///
    /// # Errors
    ///
    /// `EFAULT` if a mapping's bits do not fit into `bitmap`; it and those behind it stay.
    fn drop_mapped<'a>(
        &'a self,
        mut maps: Guard<'a>,
        range: IovaRange,
        bitmap: Option<UserBitmap>,
    ) -> Result<u64> {
        let mut unmapped = 0u64;
        let mut left = Some(range);
        let had_vaddr = |entry: &Entry| match entry {
            Entry::Ready(mapped) => Some(!mapped.vaddr_invalid),
            Entry::Busy => None,
        };
        while let Some((found, had_vaddr)) =
            left.and_then(|left| maps.ranges.look_at_first(left, had_vaddr))
        {
            // v1: a mapping that starts before the range stays, and so does all behind it. In v2
            // such a one was made meanwhile, and is not this call's business.
            if found.start() < range.start() {
                break;
            }
            let Some(had_vaddr) = had_vaddr else {
                // Busy: made meanwhile.
                left = range.above(&found);
                continue;
            };
            if !maps.begin_leaving(found) {
                maps::wait(&mut maps, &self.idle);
                continue;
            }
            left = range.above(&found);
            let taken = maps.ranges.take(found);
            drop(maps);
            if let Some(Err(err)) = bitmap.map(|bitmap| bitmap.set(range.start(), found)) {
                let mut maps = self.maps.lock();
                if let Some(taken) = taken {
                    maps.ranges.put_back(taken);
                }
                maps.end_leaving(found);
                maps::end_busy(&mut maps, &self.idle);
                return Err(err);
            }
            drop(taken);
            maps = self.maps.lock();
            if !had_vaddr {
                maps.vaddr_invalid = maps.vaddr_invalid.saturating_sub(1);
            }
            maps.avail = maps.avail.saturating_add(1);
            maps.end_leaving(found);
            maps::end_busy(&mut maps, &self.idle);
            unmapped = unmapped.wrapping_add(found.size().unwrap_or(0));
        }
        Ok(unmapped)
    }

    /// Ends the work on a mapping that stays.
    pub(super) fn put_back(&self, range: IovaRange, mapped: Mapped) {
        let mut maps = self.maps.lock();
        if let Some(entry) = maps.ranges.get_mut(range) {
            *entry = Entry::Ready(mapped);
        }
        maps::end_busy(&mut maps, &self.idle);
    }
}
