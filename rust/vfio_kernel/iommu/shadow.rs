// SPDX-License-Identifier: GPL-2.0

//! Pinned memory that comes and goes in many small parts, as a guest changes its I/O page table.
//!
//! [`ShadowPages`] are pinned, a [`ShadowExtent`] is mapped too. Unlike an
//! [`IoMapping`](super::IoMapping) an extent can be cut in two while devices reach it: no entry of
//! the IOMMU's page table is larger than its [`Largest`], so what stays does not have to be mapped
//! again. [`Arrivals`] and [`depart`] tell the IOMMU once for all that come or go by one call.

use core::mem::{
    forget,
    replace,
    size_of,
    ManuallyDrop, //
};
use kernel::{
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::Arc, //
};

use super::{
    domain::Prot,
    owned::OwnedSpace,
    space::{
        window,
        IoSpace, //
    },
};
use crate::{
    locked_vm::{
        LockedVm,
        Tenant, //
    },
    pin::{
        self,
        PinnedPages, //
    },
    runs::{
        Cursor,
        Runs, //
    },
    sched,
};

/// How large an entry of the IOMMU's page table may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Largest {
    /// 4 KiB.
    Page,
    /// 2 MiB.
    Large,
    /// 1 GiB.
    Huge,
}

impl Largest {
    /// The same in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Page => PAGE_SIZE,
            Self::Large => 1 << 21,
            Self::Huge => 1 << 30,
        }
    }

    /// The largest that is no larger than `bytes`.
    pub fn up_to(bytes: u64) -> Self {
        [Self::Huge, Self::Large]
            .into_iter()
            .find(|largest| largest.bytes() as u64 <= bytes)
            .unwrap_or(Self::Page)
    }

    /// What [`to_bits`](Self::to_bits) can return.
    const BITS: u64 = 3 << Self::SHIFT;
    const SHIFT: u32 = 8;

    fn to_bits(self) -> u64 {
        let bits = match self {
            Self::Page => 0u64,
            Self::Large => 1,
            Self::Huge => 2,
        };
        bits << Self::SHIFT
    }

    fn from_bits(bits: u64) -> Self {
        match (bits & Self::BITS) >> Self::SHIFT {
            0 => Self::Page,
            1 => Self::Large,
            _ => Self::Huge,
        }
    }
}

const _: () = assert!(Prot::BITS & Largest::BITS == 0);
const _: () = assert!(Prot::BITS | Largest::BITS < PAGE_SIZE as u64);

/// User pages that are pinned, and what is to become of them.
pub struct ShadowPages {
    pages: PinnedPages,
    prot: Prot,
    largest: Largest,
}

impl ShadowPages {
    /// No pages yet.
    pub fn none(prot: Prot, largest: Largest) -> Self {
        Self {
            pages: PinnedPages::none(prot.writable()),
            prot,
            largest,
        }
    }

    /// Pins pages of the current process, up to `npages` from the address `vaddr` on, behind those
    /// that there are; in the end there will be `total`. Returns how many it were, and why not all.
    ///
    /// # Errors
    ///
    /// As [`PinnedPages::pin`].
    pub fn pin(&mut self, vaddr: usize, npages: usize, total: usize) -> (usize, Result) {
        self.pages.pin_more(vaddr, npages, total)
    }

    /// How many there are.
    pub fn npages(&self) -> usize {
        self.pages.npages()
    }

    /// Makes the first `npages` pages, or all, one of their own.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; then nothing has changed.
    pub fn cut_front(&mut self, npages: usize) -> Result<Self> {
        Ok(Self {
            pages: self.pages.cut_front(npages)?,
            ..*self
        })
    }

    /// How large an entry of the IOMMU's page table may be.
    pub fn largest(&self) -> Largest {
        self.largest
    }

    /// Whether more pages for such a use may be added.
    pub fn is_for(&self, prot: Prot, largest: Largest) -> bool {
        self.prot == prot && self.largest == largest
    }

    /// As [`ShadowExtent::compare`].
    pub fn compare(&self, at: usize, new: &Self, new_at: usize, most: usize) -> (bool, usize) {
        if !new.is_for(self.prot, self.largest) {
            return (false, most);
        }
        let (mut mine, mut theirs) = (self.pages.frames(), new.pages.frames());
        mine.skip(at);
        theirs.skip(new_at);
        mine.compare(theirs, most)
    }

    /// Gives back room that is not needed.
    pub fn trim(&mut self) {
        self.pages.trim();
    }
}

/// Pinned memory at adjacent I/O addresses that devices reach.
///
/// Dropping it unmaps, unpins, and no longer counts it as locked; may sleep. The owner of its space
/// is alone in that: sees to it that no two are at the same addresses, and that nothing is mapped
/// or unmapped at those of one meanwhile.
///
/// # Invariants
///
/// `runs` came from [`PinnedPages`], writable ones if `place` lets devices write. Their pages stay
/// pinned while they are in `runs`, and are in no domain of the space when they are unpinned.
pub struct ShadowExtent {
    tenant: Arc<Tenant>,
    /// What is pinned and mapped.
    runs: Runs,
    /// First address, and in the bits that it does not need `Prot` and `Largest`.
    place: u64,
}

const _: () = assert!(size_of::<ShadowExtent>() == 32);

impl ShadowExtent {
    /// First address.
    #[inline]
    pub fn iova(&self) -> u64 {
        self.place & !(PAGE_SIZE as u64 - 1)
    }

    /// How many pages there are.
    #[inline]
    pub fn npages(&self) -> usize {
        self.runs.npages()
    }

    /// How large an entry of the IOMMU's page table may be. It can be cut at multiples of that.
    #[inline]
    pub fn largest(&self) -> Largest {
        Largest::from_bits(self.place)
    }

    /// What devices may do.
    #[inline]
    pub fn prot(&self) -> Prot {
        Prot::from_bits(self.place)
    }

    /// Whose pages they are.
    pub fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }

    pub(super) fn frames(&self) -> Cursor<'_> {
        self.runs.cursor()
    }

    pub(super) fn space(&self) -> &Arc<IoSpace> {
        &self.tenant.space
    }

    /// Compares `most` pages from number `at` on with those of `new` from number `new_at` on:
    /// whether the first are the same ones, for the same access, and for how many that is true.
    pub fn compare(
        &self,
        at: usize,
        new: &ShadowPages,
        new_at: usize,
        most: usize,
    ) -> (bool, usize) {
        if !new.is_for(self.prot(), self.largest()) {
            return (false, most);
        }
        let (mut mine, mut theirs) = (self.frames(), new.pages.frames());
        mine.skip(at);
        theirs.skip(new_at);
        mine.compare(theirs, most)
    }

    /// Makes the first `npages` pages an extent of their own, and ends before them. No device
    /// notices.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are not more pages, or it cannot be cut there; `ENOMEM`. Then nothing has
    /// changed.
    pub fn cut_front(&mut self, npages: usize) -> Result<Self> {
        let behind = self.iova().wrapping_add((npages as u64) << PAGE_SHIFT);
        if npages == 0 || npages >= self.npages() || behind % self.largest().bytes() as u64 != 0 {
            return Err(EINVAL);
        }
        let runs = self.runs.front(npages)?;
        // INVARIANT: Each page is in one of the two.
        self.runs.take_each(npages, |_, _| ());
        let front = Self {
            tenant: self.tenant.clone(),
            runs,
            place: self.place,
        };
        self.place = self.place.wrapping_add((npages as u64) << PAGE_SHIFT);
        Ok(front)
    }

    /// Unpins all pages, if they were unmapped; else they stay pinned, for good, as a device may
    /// still see them.
    fn unpin(&mut self, unmapped: bool) {
        let npages = self.npages();
        if !unmapped {
            let (iova, size) = (self.iova(), npages << PAGE_SHIFT);
            // LOG: a fault of the IOMMU's driver.
            pr_err!("IOVA {iova:#x}: {size:#x} bytes could not be unmapped\n");
            return self.runs.take_each(npages, |_, _| ());
        }
        let writable = self.prot().writable();
        // SAFETY: By the type invariant the runs came from `PinnedPages`, and were writable.
        // INVARIANT: The callers have unmapped them.
        unsafe { pin::unpin_runs(&mut self.runs, npages, writable) }
    }

    /// The tenant of an extent without pages.
    fn into_tenant(self) -> Arc<Tenant> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: Dropped once, as `this` is not dropped.
        unsafe { core::ptr::drop_in_place(&mut this.runs) };
        // SAFETY: Read once, as above.
        unsafe { core::ptr::read(&this.tenant) }
    }
}

impl Drop for ShadowExtent {
    fn drop(&mut self) {
        let npages = self.npages();
        if npages == 0 {
            return;
        }
        let unmapped = self.tenant.space.unmap_all(core::slice::from_ref(self));
        self.unpin(unmapped);
        self.tenant.uncharge(npages);
    }
}

/// Extents that come by one call. Must be [finished](Self::finish).
pub struct Arrivals {
    space: Arc<IoSpace>,
    tenant: Arc<Tenant>,
    /// What was mapped: the first address, and the first one behind.
    mapped: Option<(u64, u64)>,
}

impl Arrivals {
    /// None yet, in `space`, which is that of `tenant`.
    pub fn none(space: &OwnedSpace, tenant: Arc<Tenant>) -> Self {
        Self {
            space: (*space).clone(),
            tenant,
            mapped: None,
        }
    }

    /// Maps `pages` from `iova` on, where nothing may be mapped, and has `locked` pay for as many.
    /// No domain may come or go before [`finish`](Self::finish). May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are none, the address is not aligned, the tenant is of another space, or
    /// `locked` of another tenant or for fewer pages; what the IOMMU driver says; then they are not
    /// mapped.
    pub fn arrive(
        &mut self,
        locked: &mut LockedVm,
        iova: u64,
        pages: ShadowPages,
    ) -> Result<ShadowExtent> {
        let ShadowPages {
            pages,
            prot,
            largest,
        } = pages;
        let npages = pages.npages();
        if npages == 0
            || iova % PAGE_SIZE as u64 != 0
            || !Arc::ptr_eq(locked.tenant(), &self.tenant)
            || !Arc::ptr_eq(&self.tenant.space, &self.space)
            || (prot.writable() && !pages.writable())
        {
            return Err(EINVAL);
        }
        let locked = locked.split(npages).map_err(|_| EINVAL)?;
        let (mut done, largest_bytes) = (0, largest.bytes());
        let space = &self.tenant.space;
        if let Err(err) =
            space.map_limited(iova, pages.frames(), npages, prot, largest_bytes, &mut done)
        {
            if !space.unmap_windows(core::iter::once((iova, done))) {
                forget(pages);
            }
            return Err(err);
        }
        let end = iova.wrapping_add((npages as u64) << PAGE_SHIFT);
        let (first, last) = self.mapped.unwrap_or((iova, end));
        self.mapped = Some((first.min(iova), last.max(end)));
        // INVARIANT: `pages` were looked at above, as to whether they may be written.
        Ok(ShadowExtent {
            tenant: locked.into_tenant(),
            runs: pages.into_runs(),
            place: iova | prot.to_bits() | largest.to_bits(),
        })
    }

    /// Tells the IOMMU of all that was mapped. May sleep.
    ///
    /// # Errors
    ///
    /// What its driver says: then devices may not see it.
    pub fn finish(self) -> Result {
        match self.mapped {
            Some((first, end)) => self.tenant.space.sync_map(first, end.wrapping_sub(first)),
            None => Ok(()),
        }
    }
}

/// Extents that are unmapped and still pinned, until dropped.
pub struct Departed {
    extents: KVVec<ShadowExtent>,
    unmapped: bool,
}

/// Unmaps all, all of which `tenant` pays for, and waits until no device sees any of them. Returns
/// what paid for them, with which others may be [mapped](Arrivals::arrive). May sleep.
pub fn depart(tenant: &Arc<Tenant>, extents: KVVec<ShadowExtent>) -> (LockedVm, Departed) {
    let mut departed = Departed {
        extents,
        unmapped: true,
    };
    // Others leave by themselves.
    departed
        .extents
        .retain(|extent| Arc::ptr_eq(&extent.tenant, tenant));
    departed.unmapped = tenant.space.unmap_all(&departed.extents);
    let npages = departed.extents.iter().map(ShadowExtent::npages).sum();
    (LockedVm::from_tenant(tenant.clone(), npages), departed)
}

impl Drop for Departed {
    fn drop(&mut self) {
        for mut extent in replace(&mut self.extents, KVVec::new()) {
            extent.unpin(self.unmapped);
            drop(extent.into_tenant());
            sched::cond_resched();
        }
    }
}

impl IoSpace {
    /// Unmaps extents in all domains, which are told once. Returns whether all of them were mapped.
    fn unmap_all(&self, extents: &[ShadowExtent]) -> bool {
        let ranges = extents.iter();
        self.unmap_windows(ranges.map(|extent| (extent.iova(), extent.npages() << PAGE_SHIFT)))
    }

    /// The same for ranges, each with its first address and its bytes.
    fn unmap_windows(&self, ranges: impl Iterator<Item = (u64, usize)> + Clone) -> bool {
        let mut all = true;
        let windows = ranges.flat_map(|(iova, size)| {
            let mut done = 0usize;
            core::iter::from_fn(move || {
                let at = iova.wrapping_add(done as u64);
                let len = window(at, size.wrapping_sub(done));
                done = done.wrapping_add(len);
                sched::cond_resched();
                (len != 0).then_some((at, len))
            })
        });
        self.unmap_each(windows, |_| all = false);
        all
    }
}
