// SPDX-License-Identifier: GPL-2.0

//! Pinned memory in an I/O address space.
//!
//! [`IoMapping`] is one mapping, and is small, as users may have millions of them; [`Departures`]
//! are mappings that leave together, so that the IOMMU is told once for all of them.

use core::mem::{
    forget,
    replace,
    size_of,
    ManuallyDrop,
    MaybeUninit, //
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
    space::{
        window,
        IoSpace,
        WINDOW, //
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
    ranges::{
        IovaClaim,
        IovaRange,
        Left,
        SpaceId, //
    },
    runs::{
        Cursor,
        Runs, //
    },
    sched,
};

/// Pinned memory that the groups of a space reach; dropping it unmaps, unpins, and no longer counts
/// it as locked. May sleep.
///
/// # Invariants
///
/// `runs` came from [`PinnedPages`], writable ones if `place` lets devices write. Their pages stay
/// pinned while they are in `runs`, and are in no domain of the space when they are unpinned. As
/// many bytes from the first address on belong to this: it has the claim to them, or is a part of
/// something that has. There is a page at least, but while this is dropped.
pub struct IoMapping {
    tenant: Arc<Tenant>,
    /// What is pinned and mapped.
    runs: Runs,
    /// First address, and in the bits that it does not need `Prot` and `MARK`.
    place: u64,
}

const _: () = assert!(size_of::<IoMapping>() == 32);

/// See [`IoMapping::mark`].
const MARK: u64 = PAGE_SIZE as u64 / 2;
const _: () = assert!(Prot::BITS < MARK);

impl IoMapping {
    /// Makes `pages`, for all of which `locked` pays, reachable at the addresses that `claim` is
    /// about, for all groups of the space.
    ///
    /// The list of domains may change while it runs: the range must be kept from being replayed.
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the claim is to another space, or its range not aligned or of another size than
    /// the pages, `locked` is for another number of pages or the pages may not be written; `EEXIST`
    /// or `EADDRINUSE` if something is mapped there, `ENOMEM`, `EINTR` if the task is being killed;
    /// then nothing is mapped. With the claim.
    #[inline(always)]
    pub fn new(
        claim: IovaClaim,
        locked: LockedVm,
        pages: PinnedPages,
        prot: Prot,
    ) -> Result<Self, Unmapped> {
        if claim.space() != locked.tenant().space.id() {
            return Err((EINVAL, claim));
        }
        // INVARIANT: The claim is given to the mapping.
        Self::part(claim.range(), locked, pages, prot).map_err(|err| (err, claim))
    }

    /// As [`new`](Self::new), where `range` of the tenant's space belongs to the caller.
    #[inline(always)]
    pub(super) fn part(
        range: IovaRange,
        locked: LockedVm,
        pages: PinnedPages,
        prot: Prot,
    ) -> Result<Self> {
        let npages = pages.npages();
        let iova = range.start();
        if iova % PAGE_SIZE as u64 != 0
            || range.size() != Some((npages as u64) << PAGE_SHIFT)
            || locked.npages() != npages
            || (prot.writable() && !pages.writable())
        {
            return Err(EINVAL);
        }
        let space = &locked.tenant().space;
        let mut done = 0;
        if let Err(err) = space.map(iova, pages.frames(), npages, prot, &mut done) {
            let mut all = true;
            if done != 0 {
                space.unmap_each(core::iter::once((iova, done)), |_| all = false);
            }
            if !all {
                lose(iova, done, pages);
            }
            return Err(err);
        }
        // INVARIANT: `pages` were looked at above, as to whether they may be written, and as to how
        // many they are: a range is not empty.
        Ok(Self {
            tenant: locked.into_tenant(),
            runs: pages.into_runs(),
            place: iova | prot.to_bits(),
        })
    }

    /// Unmaps all of it, and gives the claim back. May sleep.
    pub fn end(self) -> IovaClaim {
        // SAFETY: By the type invariant there is a page.
        let (space, range) = unsafe { self.claim().unwrap_unchecked() };
        drop(self);
        // What had the claim is gone.
        IovaClaim::again(space, range)
    }

    /// The claim that it has; `None` for one without pages, which none is by the type invariant.
    #[inline(always)]
    pub(super) fn claim(&self) -> Option<(SpaceId, IovaRange)> {
        let start = self.iova();
        let last = start.wrapping_add(self.size() as u64).wrapping_sub(1);
        Some((self.tenant.space.id(), IovaRange::from_last(start, last)?))
    }

    /// First address.
    #[inline]
    pub fn iova(&self) -> u64 {
        self.place & !(PAGE_SIZE as u64 - 1)
    }

    /// Bytes.
    #[inline]
    pub fn size(&self) -> usize {
        self.npages() << PAGE_SHIFT
    }

    /// Pages.
    #[inline]
    pub fn npages(&self) -> usize {
        self.runs.npages()
    }

    /// Whether there is no multiple of 1 GiB inside of it.
    #[inline]
    pub fn is_short(&self) -> bool {
        window(self.iova(), self.size()) == self.size()
    }

    /// A bit for the owner's use, as there is room for one; `false` at first.
    #[inline]
    pub fn mark(&self) -> bool {
        self.place & MARK != 0
    }

    /// Sets [`mark`](Self::mark).
    pub fn set_mark(&mut self, mark: bool) {
        self.place = self.place & !MARK | if mark { MARK } else { 0 };
    }

    /// Whether the current process pays for the pages.
    #[inline]
    pub fn is_current(&self) -> bool {
        self.tenant.is_current()
    }

    /// Has `locked` pay from now on. Returns what paid so far.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is for another number of pages, or another space.
    pub fn pay_with(&mut self, locked: LockedVm) -> Result<LockedVm> {
        let npages = self.npages();
        let space = &locked.tenant().space;
        if locked.npages() != npages || !Arc::ptr_eq(space, &self.tenant.space) {
            return Err(EINVAL);
        }
        let old = replace(&mut self.tenant, locked.into_tenant());
        Ok(LockedVm::from_tenant(old, npages))
    }

    pub(super) fn space(&self) -> &Arc<IoSpace> {
        &self.tenant.space
    }

    pub(super) fn frames(&self) -> Cursor<'_> {
        self.runs.cursor()
    }

    pub(super) fn prot(&self) -> Prot {
        Prot::from_bits(self.place)
    }

    /// Ends the mapping in part, up to the first multiple of 1 GiB inside of it, and returns
    /// `true`; does nothing if there is none. May sleep.
    pub fn shorten(&mut self) -> bool {
        let more = !self.is_short();
        if more {
            // INVARIANT: There are pages beyond.
            self.cut();
        }
        more
    }

    /// Ends it up to the first multiple of 1 GiB inside of it, or as a whole.
    #[inline(always)]
    fn cut(&mut self) {
        let iova = self.iova();
        let len = window(iova, self.size());
        let mut all = true;
        self.tenant
            .space
            .unmap_each(core::iter::once((iova, len)), |_| all = false);
        let npages = len >> PAGE_SHIFT;
        self.unpin(npages, all);
        self.tenant.uncharge(npages);
        self.place = self.place.wrapping_add(len as u64);
    }

    /// The tenant of a mapping without pages.
    #[inline]
    fn into_tenant(self) -> Arc<Tenant> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: Dropped once, as `this` is not dropped.
        unsafe { core::ptr::drop_in_place(&mut this.runs) };
        // SAFETY: Read once, as above.
        unsafe { core::ptr::read(&this.tenant) }
    }

    /// Unpins the first pages, if they were `all` unmapped.
    #[inline]
    fn unpin(&mut self, npages: usize, all: bool) {
        if !all {
            lose(self.iova(), npages << PAGE_SHIFT, ());
            // INVARIANT: A device may still see them, so they stay pinned, for good.
            return self.runs.take_each(npages, |_, _| ());
        }
        let writable = self.prot().writable();
        // SAFETY: By the type invariant the runs came from `PinnedPages`, and were writable.
        // INVARIANT: The callers have unmapped them.
        unsafe { pin::unpin_runs(&mut self.runs, npages, writable) }
    }
}

impl Drop for IoMapping {
    fn drop(&mut self) {
        while !self.is_short() {
            self.cut();
            sched::cond_resched();
        }
        self.cut();
    }
}

/// Why something could not be mapped, and the claim to where it should have been.
pub type Unmapped = (Error, IovaClaim);

/// Never unpins `pages`, as a device may still see some: losing them is better than giving them to
/// others.
#[cold]
fn lose<T>(iova: u64, size: usize, pages: T) {
    forget(pages);
    // LOG: a fault of the IOMMU's driver.
    pr_err!("IOVA {iova:#x}: {size:#x} bytes could not be unmapped\n");
}

/// How many mappings leave together at most.
const MOST: usize = 32;

/// Mappings that leave together, at the latest when this is dropped. May sleep.
///
/// # Invariants
///
/// The first `len` of `mappings` are there, and are this one's to drop. If there is a `range`, they
/// are all that left the space with it.
pub struct Departures {
    mappings: [MaybeUninit<IoMapping>; MOST],
    len: usize,
    /// Bytes that they have; no more than fit into a `WINDOW`.
    size: usize,
    /// See [`Ranges::leave_together`](super::Ranges::leave_together).
    range: Option<IovaRange>,
}

impl Departures {
    /// None yet.
    #[inline]
    pub fn none() -> Self {
        Self {
            mappings: [const { MaybeUninit::uninit() }; MOST],
            len: 0,
            size: 0,
            range: None,
        }
    }

    /// How many there are.
    #[inline]
    pub fn count(&self) -> usize {
        self.len
    }

    /// Bytes that they have.
    #[inline]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether `mapping` may join: there is room, it is not too large, and has the same tenant as
    /// the others.
    #[inline]
    pub(super) fn has_room_for(&self, mapping: &IoMapping) -> bool {
        let size = mapping.size();
        self.len < MOST
            && size <= WINDOW as usize - self.size
            && self
                .all()
                .first()
                .is_none_or(|first| Arc::ptr_eq(&first.tenant, &mapping.tenant))
    }

    /// Has `mapping` join; without room for it, it leaves alone and at once.
    #[inline]
    pub(super) fn join(&mut self, mapping: IoMapping) {
        if self.has_room_for(&mapping) {
            self.size += mapping.size();
            self.mappings[self.len].write(mapping);
            // INVARIANT: Written above, behind those that are there.
            self.len += 1;
        }
    }

    /// All that joined left with `range`.
    #[inline]
    pub(super) fn leave_as(&mut self, range: IovaRange) {
        self.range = Some(range);
    }

    /// Unmaps them, unpins their pages, and no longer counts these as locked. None are left. Proves
    /// that they are gone, if they left a space together. May sleep.
    pub fn leave(&mut self) -> Option<Left> {
        let first = self.all().first()?;
        let mut short = 0u32;
        first
            .tenant
            .space
            .unmap_each(Spans(self.all()), |number| short |= 1 << number);
        let mut tenant = None;
        let mut span = 0;
        let mut end = first.iova();
        // INVARIANT: None is there from here on.
        for number in 0..replace(&mut self.len, 0) {
            // SAFETY: By the type invariant all were there, and each is taken once.
            let mut mapping = unsafe { self.mappings[number].assume_init_read() };
            if mapping.iova() != end {
                span += 1;
            }
            end = mapping.iova().wrapping_add(mapping.size() as u64);
            // Of a span that was not all unmapped, nobody knows which mapping's it was.
            mapping.unpin(mapping.npages(), short & 1 << span == 0);
            tenant = Some(mapping.into_tenant());
        }
        let tenant = tenant?;
        tenant.uncharge(replace(&mut self.size, 0) >> PAGE_SHIFT);
        let range = self.range.take()?;
        Some(Left::new(tenant.space.id(), range))
    }

    #[inline]
    fn all(&self) -> &[IoMapping] {
        // SAFETY: By the type invariant the first `len` are there.
        unsafe { core::slice::from_raw_parts(self.mappings.as_ptr().cast(), self.len) }
    }
}

/// First address and bytes of mappings, those that continue each other together.
#[derive(Clone)]
struct Spans<'a>(&'a [IoMapping]);

impl Iterator for Spans<'_> {
    type Item = (u64, usize);

    #[inline]
    fn next(&mut self) -> Option<(u64, usize)> {
        let (first, mut rest) = self.0.split_first()?;
        let iova = first.iova();
        let mut size = first.size();
        while let Some((next, others)) = rest.split_first() {
            if next.iova() != iova.wrapping_add(size as u64) {
                break;
            }
            // All together are no more than a window.
            size += next.size();
            rest = others;
        }
        self.0 = rest;
        Some((iova, size))
    }
}

impl Drop for Departures {
    #[inline]
    fn drop(&mut self) {
        let _ = self.leave();
    }
}
