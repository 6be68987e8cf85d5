// SPDX-License-Identifier: GPL-2.0

//! Mappings of user memory that shows devices (`VM_PFNMAP`), in part or as a whole.
//!
//! Only looked at after pinning has failed, so that mappings of ordinary memory pay nothing for it;
//! but for large ones, of which it is asked first whether all is a part of one BAR.
//! Maps of our own devices' files are mapped as what they are, parts of BARs, without a fault: see
//! `backend/p2p.rs` for when devices reach them. Of all other areas what the page tables say at
//! this moment is mapped; nobody tells when it changes, as in C. Neither counts as locked memory.

use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    few::Few,
    iommu::{
        Departures,
        DeviceMapping,
        IoMapping,
        Pieces,
        Prot,
        Replay, //
    },
    locked_vm::{
        self,
        LockedVm,
        Tenant, //
    },
    pin::PinnedPages,
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
    maps::RangeEntry,
    parts::Parts,
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

/// What a mapping consists of that has not only pinned pages.
pub(super) struct Mixed {
    memory: Few<IoMapping>,
    /// One for each device of ours.
    bars: Few<BarMapping>,
    /// Of devices that are not ours.
    devices: Option<Arc<DeviceMapping>>,
    page: Option<Arc<DeviceMapping>>,
    /// What counts as a mapping of its own.
    _parts: Parts,
    /// The user took the address back; see `vaddr.rs`.
    pub(super) vaddr_invalid: bool,
}

/// Memory of devices that was found and not mapped yet.
struct Found {
    bars: Few<BarPieces>,
    devices: Pieces,
}

impl Mixed {
    fn new(parts: Parts) -> Self {
        Self {
            memory: Few::None,
            bars: Few::None,
            devices: None,
            page: None,
            _parts: parts,
            vaddr_invalid: false,
        }
    }

    /// Maps the pinned pages in a new domain too.
    pub(super) fn replay(&self, replay: &Replay<'_>) -> Result {
        self.memory
            .as_slice()
            .iter()
            .try_for_each(|io| replay.add(io))
    }

    /// Maps the rest in domains that came since.
    pub(super) fn refill(&self) -> Result {
        for bar in self.bars.as_slice() {
            bar.mapping().refill()?;
        }
        for other in [&self.devices, &self.page].into_iter().flatten() {
            other.refill()?;
        }
        Ok(())
    }

    /// Has `tenant`, the current process, pay for the pinned pages.
    ///
    /// # Errors
    ///
    /// As [`LockedVm::charge`]; then nothing has changed.
    pub(super) fn pay_with(&mut self, tenant: Arc<Tenant>) -> Result {
        let others = self.memory.as_slice().iter();
        let others = others.filter(|io| !io.is_current());
        let npages = others.fold(0usize, |sum, io| sum.saturating_add(io.npages()));
        let mut locked = LockedVm::charge(tenant, npages)?;
        let others = self.memory.as_mut_slice().iter_mut();
        for io in others.filter(|io| !io.is_current()) {
            let part = locked.split(io.npages());
            // There is enough, and what paid so far gives back.
            let _ = part.and_then(|part| io.pay_with(part));
        }
        Ok(())
    }
}

impl Mixed {
    /// Whether there is so little memory in it that [`shorten`](Self::shorten) takes all of it.
    #[inline]
    pub(super) fn is_short(&self) -> bool {
        match self.memory.as_slice() {
            [] => true,
            [io] => io.is_short(),
            _ => false,
        }
    }

    /// Ends the mapping in part: takes the last pieces of memory away, as many as can leave
    /// together, or a part of one that is large. Returns whether there is more. What is not memory
    /// goes when this is dropped, all at once, as a device's BARs do that are switched off. May
    /// sleep.
    #[cold]
    pub(super) fn shorten(&mut self) -> bool {
        let mut departures = Departures::none();
        while let Some(io) = self.memory.as_mut_slice().last_mut() {
            if !departures.has_room_for(io) {
                if departures.count() == 0 {
                    // Too large to leave as a whole, so there is more of it.
                    let _ = io.shorten();
                }
                break;
            }
            if let Some(io) = self.memory.pop() {
                departures.join(io);
            }
        }
        departures.leave();
        !self.memory.as_slice().is_empty()
    }
}

impl Drop for Mixed {
    fn drop(&mut self) {
        if !self.memory.as_slice().is_empty() {
            while self.shorten() {
                sched::cond_resched();
            }
        }
    }
}

impl Found {
    const fn new() -> Self {
        Self {
            bars: Few::None,
            devices: Pieces::none(),
        }
    }

    /// Adds a part of a BAR at `iova`. Returns whether that is a piece of its own.
    fn push(&mut self, iova: u64, part: BarPart) -> Result<bool> {
        // As many as the user has devices.
        let mut bars = self.bars.as_mut_slice().iter_mut();
        if let Some(bar) = bars.find(|bar| bar.is_like(&part)) {
            return bar.push(iova, &part);
        }
        let bar = BarPieces::new(iova, part)?;
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
            .is_some_and(|mixed| mixed.page.is_some())
    }

    /// Maps `size` bytes of which some may be a device's, if `check` likes the pages of the rest.
    /// Holds no lock; the range is busy.
    ///
    /// # Errors
    ///
    /// `why`, with which pinning all of it failed, if no device is there either, with a log line if
    /// it was the limit of locked memory; else as for pinned memory.
    #[cold]
    pub(super) fn fill_mixed(
        &self,
        range: IovaRange,
        vaddr: usize,
        size: usize,
        prot: Prot,
        check: &dyn Fn(&PinnedPages) -> Result,
        (why, over_limit): (Error, bool),
    ) -> Result<RangeEntry> {
        let Some(memory) = user_area::memory_beside_devices(vaddr, size) else {
            if over_limit {
                locked_vm::warn(size >> PAGE_SHIFT);
            }
            return Err(why);
        };
        let mut locked = self.charge(memory >> PAGE_SHIFT)?;
        let mut parts = Parts::NONE;
        let mut memory = Few::None;
        let mut found = Found::new();
        let mut done = 0usize;
        while done < size {
            let at = vaddr.wrapping_add(done);
            let iova = range.start().wrapping_add(done as u64);
            let (len, own) = match (self.area_at)(at, size.wrapping_sub(done), prot.writable())? {
                UserArea::Own(part) => (part.len(), found.push(iova, part)?),
                UserArea::Device(part) => (part.len(), found.devices.push(iova, part)?),
                UserArea::Memory(len) => {
                    let npages = len >> PAGE_SHIFT;
                    // Less was charged if the user has changed the areas meanwhile.
                    let locked = locked.as_mut().ok_or(EFAULT)?.split(npages)?;
                    let pages = PinnedPages::pin(at, npages, prot.writable())?;
                    check(&pages)?;
                    let io = IoMapping::new(locked, iova, pages, prot)?;
                    memory.push(io, user_sized::gfp())?;
                    (len, true)
                }
            };
            if own {
                parts.add(&self.parts)?;
            }
            done = done.saturating_add(len);
            sched::cond_resched();
        }
        let mut mixed = Mixed::new(parts);
        mixed.memory = memory;
        self.map_found(range, mixed, found, prot)
    }

    /// Maps `size` bytes if all are a part of one BAR of a device of ours. Holds no lock; the range
    /// is busy.
    ///
    /// # Errors
    ///
    /// Why that could not be mapped.
    #[cold]
    pub(super) fn fill_bar(
        &self,
        range: IovaRange,
        vaddr: usize,
        size: usize,
        prot: Prot,
    ) -> Option<Result<RangeEntry>> {
        // What is wrong with anything else will be found.
        match (self.area_at)(vaddr, size, prot.writable()) {
            Ok(UserArea::Own(part)) if part.len() == size => Some(self.map_bar(range, part, prot)),
            _ => None,
        }
    }

    fn map_bar(&self, range: IovaRange, part: BarPart, prot: Prot) -> Result<RangeEntry> {
        let mut found = Found::new();
        found.push(range.start(), part)?;
        self.map_found(range, Mixed::new(Parts::NONE), found, prot)
    }

    /// Charges `npages` to the current process, which may be none.
    fn charge(&self, npages: usize) -> Result<Option<LockedVm>> {
        if npages == 0 {
            return Ok(None);
        }
        let tenant = self.maps.lock().tenant(&self.space)?;
        let locked = LockedVm::charge(tenant, npages).inspect_err(|err| {
            if *err == ENOMEM {
                locked_vm::warn(npages);
            }
        })?;
        Ok(Some(locked))
    }

    /// Maps what was found of devices, besides what is in `mixed` already.
    fn map_found(
        &self,
        range: IovaRange,
        mut mixed: Mixed,
        found: Found,
        prot: Prot,
    ) -> Result<RangeEntry> {
        found.bars.try_each(|bar| {
            let bar = bar.map(&self.space, prot)?;
            mixed.bars.push(bar, user_sized::gfp())
        })?;
        if found.devices.count() != 0 {
            let mapping = DeviceMapping::new(&self.space, found.devices, prot)?;
            mapping.switch_on(Stop::WhenKilled)?;
            mixed.devices = Some(mapping);
        }
        let mixed = KBox::new(mixed, GFP_KERNEL_ACCOUNT)?;
        Ok(RangeEntry::mixed(range.start(), mixed))
    }

    /// Maps a page of the kernel's at `iova`. Holds no lock; the range is busy.
    pub(in crate::backend) fn fill_page(
        &self,
        iova: u64,
        page: Arc<SharedPage>,
        prot: Prot,
    ) -> Result<RangeEntry> {
        let mapping = DeviceMapping::of_page(&self.space, iova, page, prot)?;
        mapping.switch_on(Stop::WhenKilled)?;
        let mut mixed = Mixed::new(Parts::NONE);
        mixed.page = Some(mapping);
        let mixed = KBox::new(mixed, GFP_KERNEL_ACCOUNT)?;
        Ok(RangeEntry::mixed(iova, mixed))
    }
}
