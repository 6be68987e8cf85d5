// SPDX-License-Identifier: GPL-2.0

//! `VFIO_IOMMU_MAP_DMA`: pins user memory and lets devices reach it.

use kernel::{
    page::PAGE_SHIFT,
    prelude::*, //
};
use vfio_kernel::{
    argsz::UserArg,
    iommu::Prot,
    locked_vm::LockedVm,
    pin::PinnedPages,
    uapi, //
};

use super::{
    maps::{
        self,
        Content,
        Entry,
        Mapped, //
    },
    Type1,
};
use crate::{
    iova::{
        IovaRange,
        Slot, //
    },
    uapi::offset_of_end,
};

type DmaMap = uapi::vfio_iommu_type1_dma_map;

impl Type1 {
    /// The ioctl.
    ///
    /// # Errors
    ///
    /// In this order, as vfio_dma_do_map(): `EFAULT`, `EINVAL` (size of the struct, flags),
    /// `EINVAL` (no bytes), `EOVERFLOW` (wraps), `EINVAL` (neither read nor write; a new address as
    /// well, for which see [`update_vaddr`](Self::update_vaddr)), `EINVAL` (not aligned),
    /// `EEXIST` (overlaps), `ENOSPC` (too many), `EINVAL` (not translated or reserved), `ENOMEM`
    /// (also: locked memory), `EFAULT` (no memory there).
    pub(super) fn map_dma(&self, arg: UserArg) -> Result {
        const MIN: usize = offset_of_end!(DmaMap, size);
        const PROT: u32 = uapi::VFIO_DMA_MAP_FLAG_READ | uapi::VFIO_DMA_MAP_FLAG_WRITE;
        const KNOWN: u32 = PROT | uapi::VFIO_DMA_MAP_FLAG_VADDR;

        let map: DmaMap = arg.read_min(MIN)?;
        if (map.argsz as usize) < MIN || map.flags & !KNOWN != 0 {
            return Err(EINVAL);
        }
        if map.size == 0 {
            return Err(EINVAL);
        }
        let range = IovaRange::from_size(map.iova, map.size).map_err(|_| EOVERFLOW)?;
        IovaRange::from_size(map.vaddr, map.size).map_err(|_| EOVERFLOW)?;
        let set_vaddr = map.flags & uapi::VFIO_DMA_MAP_FLAG_VADDR != 0;
        if set_vaddr == (map.flags & PROT != 0) {
            return Err(EINVAL);
        }
        if set_vaddr {
            return self.update_vaddr(range, map.vaddr);
        }
        let prot = Prot::new(
            map.flags & uapi::VFIO_DMA_MAP_FLAG_READ != 0,
            map.flags & uapi::VFIO_DMA_MAP_FLAG_WRITE != 0,
        );

        self.reserve(range, map.vaddr)?;
        let filled = self.fill(range, map.vaddr, prot);
        let mut maps = self.maps.lock();
        let result = match filled {
            Ok(mapped) => {
                if let Some(entry) = maps.ranges.get_mut(range) {
                    *entry = Entry::Ready(mapped);
                }
                Ok(())
            }
            Err(err) => {
                let _ = maps.ranges.remove(range);
                maps.avail = maps.avail.saturating_add(1);
                Err(err)
            }
        };
        maps::end_busy(&mut maps, &self.idle);
        result
    }

    /// Takes `range`, empty and busy.
    fn reserve(&self, range: IovaRange, vaddr: u64) -> Result {
        let slot = Slot::new()?;
        let mut maps = self.maps.lock();
        if !range.is_aligned(maps.granule()) || !maps.aligned(vaddr) {
            return Err(EINVAL);
        }
        if maps.ranges.first_overlap(range).is_some() || maps.is_leaving(range) {
            return Err(EEXIST);
        }
        let avail = maps.avail.checked_sub(1).ok_or(ENOSPC)?;
        if !maps
            .allowed
            .as_ref()
            .is_some_and(|allowed| allowed.contains(&range))
        {
            return Err(EINVAL);
        }
        maps.avail = avail;
        maps.busy = maps.busy.saturating_add(1);
        maps.ranges.insert(range, Entry::Busy, slot);
        Ok(())
    }

    /// Pins, accounts and maps the memory at `vaddr`. Holds no lock.
    fn fill(&self, range: IovaRange, vaddr: u64, prot: Prot) -> Result<Mapped> {
        let vaddr: usize = vaddr.try_into().map_err(|_| EOVERFLOW)?;
        let size: usize = range
            .size()
            .ok_or(EOVERFLOW)?
            .try_into()
            .map_err(|_| EOVERFLOW)?;
        let npages = size >> PAGE_SHIFT;
        let charged = LockedVm::charge(npages);
        let over_limit = charged.as_ref().is_err_and(|err| *err == ENOMEM);
        let pinned = charged.and_then(|locked| {
            let pages = PinnedPages::pin(vaddr, npages, prot.writable())?;
            Ok((locked, pages))
        });
        match pinned {
            Ok((locked, pages)) => Ok(Mapped {
                content: Content::Pages(self.space.map(range.start(), pages, prot)?),
                locked,
                vaddr_invalid: false,
            }),
            Err(why) => self.fill_mixed(range, vaddr, size, prot, why, over_limit),
        }
    }
}
