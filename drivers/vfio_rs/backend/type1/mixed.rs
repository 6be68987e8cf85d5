// SPDX-License-Identifier: GPL-2.0

//! Mappings of user memory that shows devices (`VM_PFNMAP`), in part or as a whole.
//!
//! Only looked at after pinning has failed, so that mappings of ordinary memory pay nothing for it;
//! but for large ones, of which it is asked first whether all is a part of one BAR.
//! Maps of our own devices' files are mapped as what they are, parts of BARs, without a fault: see
//! `backend/p2p.rs` for when devices reach them. Of all other areas what the page tables say at
//! this moment is mapped; nobody tells when it changes, as in C. Neither counts as locked memory.

use core::ops::ControlFlow;
use kernel::{
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    few::Few,
    iommu::{
        MixedMapping,
        Pieces,
        Prot,
        RangeEntry,
        RangePart,
        Unmapped, //
    },
    locked_vm::{
        self,
        LockedVm, //
    },
    pin::PinnedPages,
    ranges::IovaClaim,
    sched::{
        self,
        Stop, //
    },
    shared_page::SharedPage,
    user_area::{
        self,
        UserArea, //
    },
    user_sized, //
};

use super::{
    maps::{
        tenant,
        MapContent, //
    },
    parts::PartsCount,
    Type1, //
};
use crate::{
    backend::p2p::{
        BarMapping,
        BarPart,
        BarPieces, //
    },
    iova::IovaRange,
};

/// What goes with a mapping that has not only pinned pages.
pub(in crate::backend) struct More {
    /// One for each device of ours.
    bars: Few<BarMapping>,
    /// Whether it shows a page of the kernel's.
    page: bool,
    /// What counts as a mapping of its own.
    parts: PartsCount,
}

type Mixed = MixedMapping<More>;

/// Why a range was not filled.
pub(in crate::backend) enum NotFilled {
    /// An error, with the claim to the range, in which there is nothing.
    Empty(Unmapped),
    /// The task is being killed. This is left of what was mapped before it failed; who unmaps the
    /// range, or closes the container, ends it.
    Rest(KBox<Mixed>),
}

impl NotFilled {
    /// Takes away what is in `mixed`, because of `err`.
    pub(in crate::backend) fn after(err: Error, mut mixed: KBox<Mixed>) -> Self {
        while mixed.shorten() {
            if sched::pause().is_err() {
                return Self::Rest(mixed);
            }
        }
        Self::Empty((err, MixedMapping::end(mixed)))
    }

    /// The error.
    pub(in crate::backend) fn errno(&self) -> Error {
        match self {
            Self::Empty((err, _)) => *err,
            Self::Rest(_) => EINTR,
        }
    }
}

impl From<Unmapped> for NotFilled {
    #[inline]
    fn from(unmapped: Unmapped) -> Self {
        Self::Empty(unmapped)
    }
}

/// Memory of devices that was found and not mapped yet.
struct FoundMemory {
    bars: Few<BarPieces>,
    devices: Pieces,
}

impl More {
    const fn new(page: bool) -> Self {
        Self {
            bars: Few::None,
            page,
            parts: PartsCount::NONE,
        }
    }
}

impl FoundMemory {
    const fn new() -> Self {
        Self {
            bars: Few::None,
            devices: Pieces::none(),
        }
    }

    /// Adds a part of a BAR at `place`. Returns whether that is a piece of its own.
    fn push(&mut self, place: RangePart, part: BarPart) -> Result<bool> {
        // As many as the user has devices.
        let mut bars = self.bars.as_mut_slice().iter_mut();
        if let Some(bar) = bars.find(|bar| bar.is_like(&part)) {
            return bar.push(place, &part);
        }
        let bar = BarPieces::new(place, part)?;
        self.bars.push(bar, user_sized::gfp())?;
        Ok(true)
    }
}

impl Type1 {
    /// Whether exactly `range` has a page of the kernel's; see [`fill_page`](Self::fill_page).
    pub(in crate::backend) fn has_page(&self, range: IovaRange) -> bool {
        let maps = self.maps.lock();
        maps.ranges
            .get(range)
            .and_then(RangeEntry::as_mixed)
            .is_some_and(|mixed| mixed.more.page)
    }

    /// Maps `size` bytes of which some may be a device's, if `check` likes the pages of the rest.
    /// Holds no lock.
    ///
    /// # Errors
    ///
    /// `why`, with which pinning all of it failed, if no device is there either, with a log line if
    /// it was the limit of locked memory; else as for pinned memory. `EINTR` if the task is being
    /// killed.
    #[cold]
    pub(super) fn fill_mixed(
        &self,
        claim: IovaClaim,
        vaddr: usize,
        size: usize,
        prot: Prot,
        check: &dyn Fn(&PinnedPages) -> Result,
        (why, over_limit): (Error, bool),
    ) -> Result<MapContent, NotFilled> {
        let Some(memory) = user_area::memory_beside_devices(vaddr, size) else {
            if over_limit {
                locked_vm::warn(size >> PAGE_SHIFT);
            }
            return Err(NotFilled::Empty((why, claim)));
        };
        self.mixed(claim, More::new(false), |mixed| {
            let mut locked = self.charge(memory >> PAGE_SHIFT)?;
            let mut found = FoundMemory::new();
            let mut done = 0usize;
            while done < size {
                let at = vaddr.wrapping_add(done);
                let left = size.wrapping_sub(done);
                let (len, own) = match (self.area_at)(at, left, prot.writable())? {
                    UserArea::Own(part) => {
                        let len = part.len();
                        (len, found.push(mixed.part(len)?, part)?)
                    }
                    UserArea::Device(part) => {
                        let len = part.len();
                        (len, found.devices.push(mixed.part(len)?, part)?)
                    }
                    UserArea::Memory(len) => {
                        let npages = len >> PAGE_SHIFT;
                        // Less was charged if the user has changed the areas meanwhile.
                        let locked = locked.as_mut().ok_or(EFAULT)?.split(npages)?;
                        let pages = PinnedPages::pin(at, npages, prot.writable())?;
                        check(&pages)?;
                        let place = mixed.part(len)?;
                        mixed.add_memory(place, locked, pages, prot)?;
                        (len, true)
                    }
                };
                if own {
                    mixed.more.parts.add(&self.parts)?;
                }
                done = done.saturating_add(len);
                sched::pause()?;
            }
            map_found(mixed, found, prot)
        })
    }

    /// Maps `size` bytes if all are a part of one BAR of a device of ours: breaks with that, or why
    /// it could not be done, and goes on with the claim otherwise. Holds no lock.
    #[cold]
    pub(super) fn fill_bar(
        &self,
        claim: IovaClaim,
        vaddr: usize,
        size: usize,
        prot: Prot,
    ) -> ControlFlow<Result<MapContent, NotFilled>, IovaClaim> {
        // What is wrong with anything else will be found.
        let part = match (self.area_at)(vaddr, size, prot.writable()) {
            Ok(UserArea::Own(part)) if part.len() == size => part,
            _ => return ControlFlow::Continue(claim),
        };
        ControlFlow::Break(self.mixed(claim, More::new(false), |mixed| {
            let bar = BarPieces::new(mixed.part(size)?, part)?;
            let bar = bar.map(|pieces| mixed.add_devices(pieces, prot))?;
            mixed.more.bars = Few::One(bar);
            Ok(())
        }))
    }

    /// Makes a mapping of what `fill` puts into it. If that fails there is none, or what is left of
    /// it.
    #[inline]
    fn mixed(
        &self,
        claim: IovaClaim,
        more: More,
        fill: impl FnOnce(&mut Mixed) -> Result,
    ) -> Result<MapContent, NotFilled> {
        let mut mixed = MixedMapping::new(&self.space, claim, more)?;
        match fill(&mut mixed) {
            Ok(()) => Ok(MapContent::Mixed(mixed)),
            Err(err) => Err(NotFilled::after(err, mixed)),
        }
    }

    /// Charges `npages` to the current process, which may be none.
    fn charge(&self, npages: usize) -> Result<Option<LockedVm>> {
        if npages == 0 {
            return Ok(None);
        }
        let tenant = tenant(&mut self.maps.lock().tenant, &self.space)?;
        let locked = LockedVm::charge(tenant, npages).inspect_err(|err| {
            if *err == ENOMEM {
                locked_vm::warn(npages);
            }
        })?;
        Ok(Some(locked))
    }

    /// Maps a page of the kernel's. Holds no lock.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the claim is not to one page; `ENOMEM`; what the IOMMU driver says. With the
    /// claim.
    pub(in crate::backend) fn fill_page(
        &self,
        claim: IovaClaim,
        page: Arc<SharedPage>,
        prot: Prot,
    ) -> Result<MapContent, NotFilled> {
        self.mixed(claim, More::new(true), |mixed| {
            let place = mixed.part(PAGE_SIZE)?;
            mixed
                .add_page(place, page, prot)?
                .switch_on(Stop::WhenKilled)
        })
    }
}

/// Maps what was found of devices, besides what is in `mixed` already.
fn map_found(mixed: &mut Mixed, found: FoundMemory, prot: Prot) -> Result {
    found.bars.try_each(|bar| {
        let bar = bar.map(|pieces| mixed.add_devices(pieces, prot))?;
        mixed.more.bars.push(bar, user_sized::gfp())
    })?;
    if found.devices.count() != 0 {
        mixed
            .add_devices(found.devices, prot)?
            .switch_on(Stop::WhenKilled)?;
    }
    Ok(())
}
