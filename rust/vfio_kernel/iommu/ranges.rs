// SPDX-License-Identifier: GPL-2.0

//! Which ranges of an [`IoSpace`](super::IoSpace) are taken, and what is in each.
//!
//! [`Ranges`] comes with its space, once, and its owner puts a lock around it: whoever wants a
//! range takes it under that lock ([`Ranges::free`]), fills it without, by the [`IovaClaim`] that
//! they got, and puts the [`Content`] back or ends the claim. So whoever changes the page tables of
//! a range is alone in it, as `include/linux/generic_pt/iommu.h` asks, whatever the owner does:
//! only claims lead to page tables, and only this file gives them. A claim, or what was made of it,
//! that is lost leaves its range busy for ever, and does no other harm.

use core::mem::{
    replace,
    size_of, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    mapping::{
        Departures,
        IoMapping, //
    },
    mixed::MixedMapping,
};
use crate::{
    locked_vm::{
        LockedVm,
        Tenant, //
    },
    ranges::{
        Free,
        IovaClaim,
        IovaRange,
        Leaving,
        Left,
        RangeMap,
        Slot,
        SpaceId,
        Starts,
        Value, //
    },
};

/// What fills a range. It holds the claim to it.
pub enum Content<M> {
    /// Pinned pages, the rule.
    Pages(IoMapping),
    /// All else.
    Mixed(KBox<MixedMapping<M>>),
}

impl<M> Content<M> {
    /// Whether it is marked, for a use of the owner's.
    #[inline]
    pub fn mark(&self) -> bool {
        match self {
            Self::Pages(io) => io.mark(),
            Self::Mixed(mixed) => mixed.mark,
        }
    }

    /// Marks it or not.
    pub fn set_mark(&mut self, mark: bool) {
        match self {
            Self::Pages(io) => io.set_mark(mark),
            Self::Mixed(mixed) => mixed.mark = mark,
        }
    }

    /// Has `tenant`, the current process, pay for what is pinned.
    ///
    /// # Errors
    ///
    /// As [`LockedVm::charge`]; then nothing has changed.
    pub fn pay_with(&mut self, tenant: Arc<Tenant>) -> Result {
        match self {
            Self::Pages(io) if io.is_current() => Ok(()),
            Self::Pages(io) => {
                let locked = LockedVm::charge(tenant, io.npages())?;
                // What paid so far gives back.
                drop(io.pay_with(locked)?);
                Ok(())
            }
            Self::Mixed(mixed) => mixed.pay_with(tenant),
        }
    }

    /// Ends it in part; returns whether there is more that can end in parts. May sleep.
    pub fn shorten(&mut self) -> bool {
        match self {
            Self::Pages(io) => io.shorten(),
            Self::Mixed(mixed) => mixed.shorten(),
        }
    }

    /// Unmaps all of it, and gives the claim back. May sleep.
    pub fn end(self) -> IovaClaim {
        match self {
            Self::Pages(io) => io.end(),
            Self::Mixed(mixed) => MixedMapping::end(mixed),
        }
    }
}

/// What a range has that is taken. Users may have millions.
pub enum RangeEntry<M> {
    /// Pinned pages.
    Pages(IoMapping),
    /// What is rarer.
    Other(OtherRange<M>),
}

/// See [`RangeEntry::Other`].
pub struct OtherRange<M> {
    start: u64,
    /// Nothing while the range is busy.
    mixed: Option<KBox<MixedMapping<M>>>,
}

// With key and links of the tree's node 64 bytes.
const _: () = assert!(size_of::<RangeEntry<()>>() == 32);

impl<M> RangeEntry<M> {
    /// Whether somebody is filling or emptying the range.
    #[inline]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Other(OtherRange { mixed: None, .. }))
    }

    /// What it has besides pinned pages.
    #[inline]
    pub fn as_mixed(&self) -> Option<&MixedMapping<M>> {
        match self {
            Self::Pages(_) => None,
            Self::Other(other) => other.mixed.as_deref(),
        }
    }

    /// Whether the content is [marked](Content::mark).
    pub fn mark(&self) -> bool {
        match self {
            Self::Pages(io) => io.mark(),
            Self::Other(other) => other.mixed.as_ref().is_some_and(|mixed| mixed.mark),
        }
    }
}

impl<M> Starts for RangeEntry<M> {
    #[inline(always)]
    fn start(&self) -> u64 {
        match self {
            Self::Pages(io) => io.iova(),
            Self::Other(other) => other.start,
        }
    }
}

impl<M> Value for RangeEntry<M> {
    #[inline]
    fn busy(start: u64) -> Self {
        Self::Other(OtherRange { start, mixed: None })
    }

    #[inline]
    fn is_busy(&self) -> bool {
        RangeEntry::is_busy(self)
    }

    #[inline(always)]
    fn claim(&self) -> Option<(SpaceId, IovaRange)> {
        match self {
            Self::Pages(io) => io.claim(),
            Self::Other(other) => other.mixed.as_ref().map(|mixed| mixed.claim()),
        }
    }
}

impl<M> From<Content<M>> for RangeEntry<M> {
    #[inline(always)]
    fn from(content: Content<M>) -> Self {
        match content {
            Content::Pages(io) => Self::Pages(io),
            Content::Mixed(mixed) => Self::Other(OtherRange {
                start: mixed.claim().1.start(),
                mixed: Some(mixed),
            }),
        }
    }
}

/// Memory for one more range, allocated before a lock is taken.
pub type RangeSlot<M> = Slot<RangeEntry<M>>;

/// See the module's documentation.
pub struct Ranges<M> {
    map: RangeMap<RangeEntry<M>>,
    /// How many have [`Content::Mixed`].
    mixed: usize,
}

impl<M> Ranges<M> {
    /// For the new `space`, and once.
    pub(super) fn new(space: SpaceId) -> Self {
        Self {
            map: RangeMap::new(space),
            mixed: 0,
        }
    }

    /// The first range that has an address in `range`, and is not leaving.
    #[inline]
    pub fn first_overlap(&self, range: IovaRange) -> Option<IovaRange> {
        self.map.map().first_overlap(range)
    }

    /// Calls `f` for ranges that are not leaving, from the first that has an address in `range` to
    /// the last one, in order, as long as it returns `true`.
    #[inline]
    pub fn each_in(&mut self, range: IovaRange, mut f: impl FnMut(IovaRange) -> bool) {
        self.map.each_in(range, |found, _| f(found));
    }

    /// Whether `range` cuts some range in two: contains a part of it, but not all.
    #[inline]
    pub fn cuts(&self, range: IovaRange) -> bool {
        self.map.map().cuts(range)
    }

    /// What the range has that ends where `range` does.
    #[inline]
    pub fn get(&self, range: IovaRange) -> Option<&RangeEntry<M>> {
        self.map.map().get(range)
    }

    /// All ranges in order, but for those that are leaving.
    pub fn iter(&self) -> impl Iterator<Item = (IovaRange, &RangeEntry<M>)> {
        self.map.map().iter()
    }

    /// Whether any range has something else than pinned pages.
    #[inline]
    pub fn has_mixed(&self) -> bool {
        self.mixed != 0
    }

    /// How many ranges are busy or leaving.
    #[inline]
    pub fn busy(&self) -> usize {
        self.map.busy()
    }

    /// Whether an address in `range` is in a range that is leaving, or may be.
    #[inline]
    pub fn is_leaving(&self, range: IovaRange) -> bool {
        self.map.is_leaving(range)
    }

    /// Whether an address in `range` is in a range that is busy or leaving, or may be.
    #[inline]
    pub fn is_busy(&self, range: IovaRange) -> bool {
        self.map.is_busy(range)
    }

    /// `range`, to be taken, if no address in it is.
    #[inline(always)]
    pub fn free(&mut self, range: IovaRange) -> Option<FreeRange<'_, M>> {
        self.map.free(range).map(FreeRange)
    }

    /// Puts content where its claim is from, which is busy no more. Content of another space is
    /// dropped, and its range stays busy.
    #[inline(always)]
    pub fn put(&mut self, content: Content<M>) {
        let mixed = matches!(content, Content::Mixed(_));
        match self.map.put(content.into()) {
            Ok(()) => self.mixed = self.mixed.wrapping_add(mixed.into()),
            Err(_) => mismatch(),
        }
    }

    /// Frees the busy range that `claim` is from, if it is of this space.
    #[inline]
    pub fn end(&mut self, claim: IovaClaim) {
        if !self.map.end(claim) {
            mismatch();
        }
    }

    /// Takes the content out of the range that ends where `range` does, which is busy from now on;
    /// `None` if it is already.
    #[inline]
    pub fn take(&mut self, range: IovaRange) -> Option<Content<M>> {
        match self.map.take(range)? {
            RangeEntry::Pages(io) => Some(Content::Pages(io)),
            RangeEntry::Other(other) => {
                self.mixed = self.mixed.wrapping_sub(1);
                other.mixed.map(Content::Mixed)
            }
        }
    }

    /// Marks the content of the range that ends where `range` does, or not.
    pub fn set_mark(&mut self, range: IovaRange, mark: bool) {
        self.map.change(range, |entry| match entry {
            RangeEntry::Pages(io) => io.set_mark(mark),
            RangeEntry::Other(other) => {
                if let Some(mixed) = &mut other.mixed {
                    mixed.mark = mark;
                }
            }
        });
    }

    /// Has exactly `range` leave, if it is not busy and `leaves`; with memory for another range.
    #[inline(always)]
    pub fn leave_exact(
        &mut self,
        range: IovaRange,
        leaves: impl FnOnce(&RangeEntry<M>) -> bool,
    ) -> Option<(LeavingRange<M>, Option<RangeSlot<M>>)> {
        let mut mixed = 0;
        let (leaving, slot) = self.map.leave_exact(range, |entry| {
            mixed = usize::from(matches!(entry, RangeEntry::Other(_)));
            leaves(entry)
        })?;
        self.mixed = self.mixed.wrapping_sub(mixed);
        Some((LeavingRange(leaving), slot))
    }

    /// Has ranges leave together, the first ones with an address in `range`, as long as each has
    /// nothing but pinned pages and room in `departures`, and `leaves`. Returns from the first of
    /// them to the last one, with memory for another range.
    #[inline]
    pub fn leave_together(
        &mut self,
        range: IovaRange,
        departures: &mut Departures,
        mut leaves: impl FnMut(IovaRange, &IoMapping) -> bool,
    ) -> Option<(IovaRange, Option<RangeSlot<M>>)> {
        if departures.count() != 0 {
            return None;
        }
        let (all, slot) = self.map.leave_while(range, |found, entry| {
            match entry {
                RangeEntry::Pages(io) if departures.has_room_for(io) && leaves(found, io) => (),
                _ => return false,
            }
            if let RangeEntry::Pages(io) = replace(entry, RangeEntry::busy(found.start())) {
                departures.join(io);
            }
            true
        })?;
        departures.leave_as(all);
        Some((all, slot))
    }

    /// What had left is gone.
    #[inline(always)]
    pub fn left(&mut self, left: Left) {
        self.map.left(left);
    }
}

/// Says that something was given back to a space that it is not from.
#[cold]
fn mismatch() {
    // LOG: a fault of the module.
    pr_err!("A range of I/O addresses was given back to another space\n");
}

/// A range that is not taken.
pub struct FreeRange<'a, M>(Free<'a, RangeEntry<M>>);

impl<M> FreeRange<'_, M> {
    /// Takes it; it is busy from now on.
    #[inline(always)]
    pub fn claim(self, slot: RangeSlot<M>) -> IovaClaim {
        self.0.claim(slot)
    }
}

/// What leaves a range.
#[must_use = "the range stays busy"]
pub struct LeavingRange<M>(Leaving<RangeEntry<M>>);

impl<M> LeavingRange<M> {
    /// Unmaps all of it. May sleep.
    #[inline(always)]
    pub fn leave(self) -> Left {
        self.0.leave()
    }
}
