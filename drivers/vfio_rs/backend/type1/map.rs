// SPDX-License-Identifier: GPL-2.0

//! `VFIO_IOMMU_MAP_DMA`: pins user memory and lets devices reach it.

use core::ops::ControlFlow;
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc, //
    },
};
use vfio_kernel::{
    argsz::UserArg,
    iommu::{
        IoMapping,
        Prot,
        RangeSlot, //
    },
    lockdep::Held,
    locked_vm::{
        LockedVm,
        Tenant, //
    },
    pin::PinnedPages,
    ranges::IovaClaim, //
};

use super::{
    maps::{
        tenant,
        Guard,
        MapContent, //
    },
    mixed::{
        More,
        NotFilled, //
    },
    Type1,
};
use crate::{
    backend::Refused,
    iova::{
        turns::Ticket,
        IovaRange, //
    },
    uapi::dma::{
        self,
        MapDma, //
    },
};

/// From so many pages on it is asked first whether they are a BAR's: that costs next to nothing of
/// what pinning them does, and to fail to pin a BAR would cost as much as to map it.
const LOOK_FIRST: usize = 2048;

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
        let (range, vaddr, prot) = match MapDma::read(arg, dma::VADDR)? {
            MapDma::Memory { range, vaddr, prot } => (range, vaddr, prot),
            MapDma::Vaddr { range, vaddr } => return self.update_vaddr(range, vaddr),
            MapDma::Msi { .. } => return Err(EINVAL),
        };
        let (held, (claim, tenant)) = self.in_turn(range, |held, ticket| {
            self.reserve(held, ticket, range, range, vaddr)
        })?;
        let filled = self.fill(claim, vaddr, prot, tenant, |_| Ok(()));
        self.settle(&held, filled)
    }

    /// Ends the work on a busy range: it holds what it was filled with or what is left of that, or
    /// is free.
    ///
    /// # Errors
    ///
    /// Why it could not be filled.
    #[inline]
    pub(in crate::backend) fn settle(
        &self,
        _held: &Held<'_>,
        filled: Result<MapContent, NotFilled>,
    ) -> Result {
        let mut maps = self.maps.lock();
        let result = match filled {
            Ok(content) => {
                maps.ranges.put(content);
                Ok(())
            }
            Err(NotFilled::Empty((err, claim))) => {
                maps.ranges.end(claim);
                maps.avail = maps.avail.saturating_add(1);
                Err(err)
            }
            Err(NotFilled::Rest(rest)) => {
                maps.ranges.put(MapContent::Mixed(rest));
                Err(EINTR)
            }
        };
        self.wake(&maps);
        result
    }

    /// Takes `range`, empty and busy, for the current process. All of `around`, which contains it,
    /// must be what groups can have mapped. Waits for nobody; see [`in_turn`](Self::in_turn).
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINVAL` (not aligned), [`Refused::Busy`], `EEXIST`, `ENOSPC`, `EINVAL` (not
    /// translated or reserved).
    #[inline]
    pub(in crate::backend) fn reserve(
        &self,
        _held: &Held<'_>,
        ticket: Ticket,
        range: IovaRange,
        around: IovaRange,
        vaddr: u64,
    ) -> Result<(IovaClaim, Arc<Tenant>), Refused> {
        let (mut guard, slot) = self.lock_with_slot()?;
        let maps = &mut *guard;
        if !range.is_aligned(maps.granule()) || !maps.aligned(vaddr) {
            return Err(EINVAL.into());
        }
        if maps.is_contended(ticket, range) {
            return Err(Refused::Busy);
        }
        let Some(free) = maps.ranges.free(range) else {
            return Err(EEXIST.into());
        };
        let Some(avail) = maps.avail.checked_sub(1) else {
            drop(guard);
            self.parts.warn_full("mappings");
            return Err(ENOSPC.into());
        };
        if !maps
            .allowed
            .as_ref()
            .is_some_and(|allowed| allowed.contains(&around))
        {
            return Err(EINVAL.into());
        }
        let tenant = tenant(&mut maps.tenant, &self.space)?;
        maps.avail = avail;
        Ok((free.claim(slot), tenant))
    }

    /// Takes the lock, with memory for one more range.
    #[inline]
    fn lock_with_slot(&self) -> Result<(Guard<'_>, RangeSlot<More>)> {
        if self.has_spare.load(Relaxed) {
            let mut maps = self.maps.lock();
            if let Some(slot) = maps.spare.take() {
                self.has_spare.store(false, Relaxed);
                return Ok((maps, slot));
            }
        }
        let slot = RangeSlot::new()?;
        Ok((self.maps.lock(), slot))
    }

    /// Pins, accounts and maps the memory at `vaddr`, if `check` likes the pages. Holds no lock.
    ///
    /// # Errors
    ///
    /// Why that could not be done, with the claim.
    #[inline]
    pub(in crate::backend) fn fill(
        &self,
        claim: IovaClaim,
        vaddr: u64,
        prot: Prot,
        tenant: Arc<Tenant>,
        check: impl Fn(&PinnedPages) -> Result,
    ) -> Result<MapContent, NotFilled> {
        let size = claim.range().size().map(usize::try_from);
        let (Ok(vaddr), Some(Ok(size))) = (usize::try_from(vaddr), size) else {
            return Err(NotFilled::Empty((EOVERFLOW, claim)));
        };
        let npages = size >> PAGE_SHIFT;
        let claim = match npages >= LOOK_FIRST {
            true => match self.fill_bar(claim, vaddr, size, prot) {
                ControlFlow::Break(filled) => return filled,
                ControlFlow::Continue(claim) => claim,
            },
            false => claim,
        };
        let mut over_limit = false;
        let pinned = match LockedVm::charge(tenant, npages) {
            Ok(locked) => {
                PinnedPages::pin(vaddr, npages, prot.writable()).map(|pages| (locked, pages))
            }
            Err(err) => {
                over_limit = err == ENOMEM;
                Err(err)
            }
        };
        match pinned {
            Ok((locked, pages)) => match check(&pages) {
                Ok(()) => match IoMapping::new(claim, locked, pages, prot) {
                    Ok(io) => Ok(MapContent::Pages(io)),
                    Err(unmapped) => Err(NotFilled::Empty(unmapped)),
                },
                Err(err) => Err(NotFilled::Empty((err, claim))),
            },
            Err(why) => self.fill_mixed(claim, vaddr, size, prot, &check, (why, over_limit)),
        }
    }
}
