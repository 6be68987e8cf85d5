// SPDX-License-Identifier: GPL-2.0

//! What of a shadow has to change so that it shows what a walk found.
//!
//! Pure. The record is a [`Map`] of extents: pages at adjacent I/O addresses that were mapped in
//! one go. What a walk found for a range comes in ascending order, as [`FoundExtent`]; what it did
//! not find is not to be mapped. [`Change::of`] compares, cuts extents where only a part of them
//! differs, and says which are to leave and what is to enter. Cutting changes nothing that a device
//! sees, so on failure nothing has happened.
//!
//! An extent can be cut at multiples of its *unit*: a page of the IOMMU's table is never larger, so
//! what stays need not be mapped again. A unit of which a part differs leaves as a whole.

use kernel::prelude::*;
use vfio_kernel::user_sized;

use crate::iova::{
    IovaRange,
    Map,
    Slot,
    Starts, //
};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Where an extent can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// At multiples of so many bytes, a power of two.
    Bytes(u64),
    /// Nowhere.
    Whole,
}

/// Pages that are to be mapped.
pub(crate) trait Pages: Sized {
    /// Takes the first `npages`, and not all, out.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; then nothing has changed.
    fn cut_front(&mut self, npages: usize) -> Result<Self>;
}

/// Pages that are mapped.
pub(crate) trait Extent: Starts + Sized {
    /// What may take their place.
    type New: Pages;

    /// Where it can be cut.
    fn unit(&self) -> Unit;

    /// As [`Pages::cut_front`]; what is left starts later.
    fn cut_front(&mut self, npages: usize) -> Result<Self>;

    /// Compares the pages from number `at` on, of which there are `most`, with those of `new` from
    /// number `new_at` on: how many at the start are the same ones, for the same access, or how
    /// many are not until the first that is. Not 0.
    fn compare(&self, at: usize, new: &Self::New, new_at: usize, most: usize) -> Compared;
}

/// What pages at the start are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// So many are the same.
    Same(usize),
    /// So many differ.
    Other(usize),
}

/// What a walk found in a range.
pub(crate) enum FoundExtent<N> {
    /// What is there already.
    Same,
    /// These pages.
    New(N),
}

/// What is to be done.
pub(crate) struct Change<E: Extent> {
    /// Extents that are to leave.
    pub(crate) leaving: KVVec<IovaRange>,
    /// What is to enter then, with memory for each in the record.
    pub(crate) entering: KVVec<Entering<E>>,
}

/// An extent that is to enter.
pub(crate) struct Entering<E: Extent> {
    pub(crate) range: IovaRange,
    pub(crate) pages: E::New,
    pub(crate) slot: Slot<E>,
}

/// The pages of a range that is aligned to them.
pub(crate) fn npages(range: IovaRange) -> usize {
    (range.last().wrapping_sub(range.start()) / PAGE).wrapping_add(1) as usize
}

/// `range`, and all of the units of the record that it has a part of.
pub(crate) fn widened<E: Extent>(record: &Map<E>, range: IovaRange) -> IovaRange {
    let (mut start, mut last) = (range.start(), range.last());
    for edge in [range.start(), range.last()] {
        let unit = IovaRange::from_last(edge, edge).and_then(|edge| unit_at(record, edge));
        if let Some(unit) = unit {
            start = start.min(unit.start());
            last = last.max(unit.last());
        }
    }
    IovaRange::from_last(start, last).unwrap_or(range)
}

/// The unit that has the first address of `range` that is mapped.
fn unit_at<E: Extent>(record: &Map<E>, range: IovaRange) -> Option<IovaRange> {
    let extent = record.first_overlap(range)?;
    let at = range.start().max(extent.start());
    Some(unit_of(record.get(extent)?.unit(), extent, at))
}

/// The part of an extent that has `at` and cannot be cut.
fn unit_of(unit: Unit, extent: IovaRange, at: u64) -> IovaRange {
    let Unit::Bytes(unit) = unit else {
        return extent;
    };
    let mask = unit.wrapping_sub(1);
    let part = IovaRange::from_last(at & !mask, at | mask);
    part.and_then(|part| part.intersection(&extent))
        .unwrap_or(extent)
}

/// Whether exactly `new` is what is mapped in `range`.
pub(crate) fn is_same<E: Extent>(record: &Map<E>, range: IovaRange, new: &E::New) -> bool {
    let mut left = Some(range);
    while let Some(rest) = left {
        match stretch(record, rest, range, new) {
            Some((Stretch::Same, part)) if part.start() == rest.start() => {
                left = range.above(&part);
            }
            _ => return false,
        }
    }
    true
}

/// What is to be done with a part of an extent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stretch {
    /// It stays.
    Same,
    /// It leaves.
    Other,
}

/// The first part of an extent that has an address in `rest`, itself the end of `range`, for which
/// there is `new`; in whole units, so it may reach beyond `range`.
fn stretch<E: Extent>(
    record: &Map<E>,
    rest: IovaRange,
    range: IovaRange,
    new: &E::New,
) -> Option<(Stretch, IovaRange)> {
    let place = record.first_overlap(rest)?;
    let extent = record.get(place)?;
    let at = rest.start().max(place.start());
    let first = unit_of(extent.unit(), place, at);
    let compare = |part: IovaRange| {
        extent.compare(
            pages_between(place.start(), part.start()),
            new,
            pages_between(range.start(), part.start()),
            npages(part),
        )
    };
    let common = place.intersection(&rest)?;
    if extent.unit() == Unit::Bytes(PAGE) {
        let (what, count) = match compare(common) {
            Compared::Same(count) => (Stretch::Same, count),
            Compared::Other(count) => (Stretch::Other, count),
        };
        let bytes = (count.max(1) as u64).saturating_mul(PAGE);
        let part = IovaRange::from_size(common.start(), bytes).ok()?;
        return Some((what, part.intersection(&common)?));
    }
    let whole = rest.contains(&first) && compare(first) == Compared::Same(npages(first));
    let what = if whole { Stretch::Same } else { Stretch::Other };
    Some((what, first))
}

/// How many pages lie between two addresses.
fn pages_between(start: u64, end: u64) -> usize {
    (end.wrapping_sub(start) / PAGE) as usize
}

impl<E: Extent> Change<E> {
    /// Nothing.
    pub(crate) fn none() -> Self {
        Self {
            leaving: KVVec::new(),
            entering: KVVec::new(),
        }
    }

    /// What has to change in `range` so that it has what was `found`, in ascending order, and
    /// nothing else. `range` is [`widened`]. In ranges that were found [`Same`](Found::Same)
    /// nothing is looked at.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn of(
        record: &mut Map<E>,
        range: IovaRange,
        found: impl IntoIterator<Item = (IovaRange, FoundExtent<E::New>)>,
    ) -> Result<Self> {
        let mut change = Self::none();
        let mut left = Some(range);
        for (part, found) in found {
            if let Some(gap) = left.and_then(|left| left.below(&part)) {
                change.clear(record, gap)?;
            }
            if let FoundExtent::New(pages) = found {
                change.replace(record, part, pages)?;
            }
            left = left.and_then(|left| left.above(&part));
        }
        if let Some(left) = left {
            change.clear(record, left)?;
        }
        Ok(change)
    }

    /// Has all units leave that have a part of `range`.
    fn clear(&mut self, record: &mut Map<E>, range: IovaRange) -> Result {
        let mut left = self.still_there(range);
        while let Some(extent) = left.and_then(|left| record.first_overlap(left)) {
            let Some(rest) = left else { break };
            let Some(unit) = record.get(extent).map(E::unit) else {
                break;
            };
            let first = unit_of(unit, extent, rest.start().max(extent.start()));
            let last = unit_of(unit, extent, rest.last().min(extent.last()));
            let part = IovaRange::from_last(first.start(), last.last()).unwrap_or(extent);
            self.leave(record, extent, part)?;
            left = rest.above(&part);
        }
        Ok(())
    }

    /// What of `range` lies above all that leaves.
    fn still_there(&self, range: IovaRange) -> Option<IovaRange> {
        match self.leaving.last() {
            Some(last) if last.last() >= range.start() => range.above(last),
            _ => Some(range),
        }
    }

    /// Has `new` in `range`, and nothing else.
    fn replace(&mut self, record: &mut Map<E>, range: IovaRange, new: E::New) -> Result {
        let mut new = new;
        // What of `range` is not settled, for which `new` are the pages; and from where on the
        // record is to be looked at.
        let mut rest = range;
        let mut look = self.still_there(range);
        loop {
            let found = look.and_then(|look| stretch(record, look, rest, &new));
            let Some((what, part)) = found else {
                return self.enter(rest, new);
            };
            match what {
                Stretch::Other => {
                    let extent = record.first_overlap(part).ok_or(EINVAL)?;
                    self.leave(record, extent, part)?;
                }
                Stretch::Same => {
                    if let Some(before) = rest.below(&part) {
                        let pages = new.cut_front(npages(before))?;
                        self.enter(before, pages)?;
                    }
                    let Some(behind) = rest.above(&part) else {
                        return Ok(());
                    };
                    // They are there: these are not needed.
                    drop(new.cut_front(npages(part))?);
                    rest = behind;
                }
            }
            look = look.and_then(|look| look.above(&part));
        }
    }

    fn enter(&mut self, range: IovaRange, pages: E::New) -> Result {
        let entering = Entering {
            range,
            pages,
            slot: Slot::new()?,
        };
        Ok(self.entering.push(entering, user_sized::gfp())?)
    }

    /// Makes `part` an extent of its own, which leaves.
    fn leave(&mut self, record: &mut Map<E>, extent: IovaRange, part: IovaRange) -> Result {
        if let Some(before) = extent.below(&part) {
            cut(record, extent, before)?;
        }
        if extent.above(&part).is_some() {
            cut(record, extent, part)?;
        }
        Ok(self.leaving.push(part, user_sized::gfp())?)
    }
}

/// Makes `front`, of which the first page is that of what is left of `extent`, an extent of its
/// own.
fn cut<E: Extent>(record: &mut Map<E>, extent: IovaRange, front: IovaRange) -> Result {
    let slot = Slot::new()?;
    let left = record.get_mut(extent).ok_or(EINVAL)?;
    let cut = left.cut_front(npages(front))?;
    record.insert(front.last(), cut, slot);
    Ok(())
}
