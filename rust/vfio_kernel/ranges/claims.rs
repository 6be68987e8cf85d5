// SPDX-License-Identifier: GPL-2.0

//! Which ranges of an address space are taken, and by whom.
//!
//! A range is *busy* when it was taken and somebody has the [`IovaClaim`] of it, to fill or to
//! empty it; else it has a value, which holds the claim. A range becomes free again only for its
//! claim, or for proof that what held the claim is gone ([`Left`]).
//!
//! What leaves is taken out of the tree before it is gone, in one descent, and noted beside it: up
//! to a few ranges by their addresses; while there are more, nothing is free.

use core::mem::{
    forget,
    replace, //
};

use super::{
    map::{
        Map,
        Slot,
        Starts, //
    },
    IovaRange,
};

/// Tells address spaces apart: no two ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpaceId(pub(crate) u64);

/// The right to map and unmap in a range of an address space.
///
/// # Invariants
///
/// The `range` is in a busy range of the only [`RangeMap`] of the `space`, and has the last address
/// of it. Nobody else may map or unmap in that: there is no second claim to an address of it, nor
/// anything that holds one.
#[derive(Debug, PartialEq, Eq)]
pub struct IovaClaim {
    space: SpaceId,
    range: IovaRange,
}

impl IovaClaim {
    /// The claim of who had it and gives up what held it.
    #[inline]
    pub(crate) fn again(space: SpaceId, range: IovaRange) -> Self {
        // INVARIANT: By the caller, who had a claim that was not given back.
        Self { space, range }
    }

    /// Which addresses it is about.
    #[inline]
    pub fn range(&self) -> IovaRange {
        self.range
    }

    /// Which address space it is about.
    #[inline]
    pub(crate) fn space(&self) -> SpaceId {
        self.space
    }
}

/// What can be in a range.
pub(crate) trait Value: Starts {
    /// What a busy range has. It need not be dropped.
    fn busy(start: u64) -> Self;

    /// Whether it is that.
    fn is_busy(&self) -> bool;

    /// Which claim it holds, if it is something else. When it is dropped, nothing is mapped there.
    fn claim(&self) -> Option<(SpaceId, IovaRange)>;
}

/// Proof that all that left with some range is gone.
#[derive(Debug)]
#[must_use = "the range stays busy"]
pub struct Left {
    space: SpaceId,
    range: IovaRange,
}

impl Left {
    /// Who chose the range by [`RangeMap::leave_while`] has dropped all that it got.
    #[inline]
    pub(crate) fn new(space: SpaceId, range: IovaRange) -> Self {
        Self { space, range }
    }
}

/// What leaves a range.
#[must_use = "the range stays busy"]
pub(crate) struct Leaving<V> {
    left: Left,
    value: V,
}

impl<V> Leaving<V> {
    /// Drops it.
    #[inline(always)]
    pub(crate) fn leave(self) -> Left {
        drop(self.value);
        self.left
    }
}

/// Ranges that can be leaving at a time and be known; of others only how many there are.
const LEAVING: usize = 8;

/// See the module's documentation.
///
/// # Invariants
///
/// There is one for each `space`. All ranges of `map` are disjoint. Each has a busy value and its
/// claim is somewhere else, or has a value that holds its claim. What left `map`, and is not known
/// to be gone, is in a range of `leaving`, or is counted by `leaving_somewhere`.
pub(crate) struct RangeMap<V> {
    space: SpaceId,
    map: Map<V>,
    /// How many ranges are busy or leaving.
    busy: usize,
    leaving: [Option<IovaRange>; LEAVING],
    leaving_somewhere: usize,
}

impl<V: Value> RangeMap<V> {
    /// Nothing is taken. For the new `space`, and once.
    pub(crate) fn new(space: SpaceId) -> Self {
        Self {
            space,
            map: Map::new(),
            busy: 0,
            leaving: [None; LEAVING],
            leaving_somewhere: 0,
        }
    }

    /// What is taken, and not leaving.
    #[inline]
    pub(crate) fn map(&self) -> &Map<V> {
        &self.map
    }

    /// As [`Map::each_in`].
    #[inline]
    pub(crate) fn each_in(&mut self, range: IovaRange, f: impl FnMut(IovaRange, &V) -> bool) {
        self.map.each_in(range, f);
    }

    /// How many ranges are busy or leaving.
    #[inline]
    pub(crate) fn busy(&self) -> usize {
        self.busy
    }

    /// Whether an address in `range` is in a range that is leaving, or may be.
    #[inline(always)]
    pub(crate) fn is_leaving(&self, range: IovaRange) -> bool {
        self.busy != 0 && self.is_in_leaving(range)
    }

    fn is_in_leaving(&self, range: IovaRange) -> bool {
        self.leaving_somewhere != 0 || self.leaving.iter().flatten().any(|at| at.overlaps(&range))
    }

    /// Whether an address in `range` is in a range that is busy or leaving, or may be.
    #[inline]
    pub(crate) fn is_busy(&self, range: IovaRange) -> bool {
        if self.busy == 0 || range == IovaRange::ALL {
            return self.busy != 0;
        }
        if self.is_in_leaving(range) {
            return true;
        }
        let mut left = Some(range);
        while let Some(found) = left.and_then(|left| self.map.first_overlap(left)) {
            if self.map.get(found).is_some_and(Value::is_busy) {
                return true;
            }
            left = range.above(&found);
        }
        false
    }

    /// `range`, if no address in it is taken or leaving.
    #[inline(always)]
    pub(crate) fn free(&mut self, range: IovaRange) -> Option<Free<'_, V>> {
        if self.is_leaving(range) || self.map.first_overlap(range).is_some() {
            return None;
        }
        Some(Free { map: self, range })
    }

    /// Puts a value where its claim is from, which is busy no more.
    ///
    /// # Errors
    ///
    /// The value, if it does not belong there.
    #[inline(always)]
    pub(crate) fn put(&mut self, value: V) -> Result<(), V> {
        if let Some((space, range)) = value.claim() {
            if let Some(node) = busy_node(self.space, &mut self.map, space, range) {
                // Nothing is in what is busy.
                // INVARIANT: `value` holds the claim.
                forget(replace(node, value));
                self.busy = self.busy.wrapping_sub(1);
                return Ok(());
            }
        }
        Err(value)
    }

    /// Frees the busy range that `claim` is from. Returns `false` if it is of another space.
    #[inline(always)]
    pub(crate) fn end(&mut self, claim: IovaClaim) -> bool {
        let IovaClaim { space, range } = claim;
        let found = busy_node(self.space, &mut self.map, space, range).is_some();
        if found {
            // INVARIANT: The only claim was given back.
            let _ = self.map.remove(range);
            self.busy = self.busy.wrapping_sub(1);
        }
        found
    }

    /// Takes the value out of the range that ends where `range` does, which is busy from now on.
    #[inline]
    pub(crate) fn take(&mut self, range: IovaRange) -> Option<V> {
        let node = self.map.get_mut(range).filter(|node| !node.is_busy())?;
        let busy = V::busy(node.start());
        self.busy = self.busy.wrapping_add(1);
        // INVARIANT: The claim goes with the value.
        Some(replace(node, busy))
    }

    /// Changes the value of the range that ends where `range` does. `change` must leave its claim
    /// alone.
    #[inline]
    pub(crate) fn change(&mut self, range: IovaRange, change: impl FnOnce(&mut V)) {
        if let Some(node) = self.map.get_mut(range) {
            change(node);
        }
    }

    /// Has exactly `range` leave, if its value `leaves`; with memory for another range.
    #[inline(always)]
    pub(crate) fn leave_exact(
        &mut self,
        range: IovaRange,
        leaves: impl FnOnce(&V) -> bool,
    ) -> Option<(Leaving<V>, Option<Slot<V>>)> {
        let mut left = None;
        let slot = self.map.take_exact(range, |node| {
            let leaves = !node.is_busy() && leaves(node);
            if leaves {
                left = Some(replace(node, V::busy(range.start())));
            }
            leaves
        });
        let value = left?;
        // INVARIANT: What left the map is noted.
        self.begin_leaving(range);
        let left = Left::new(self.space, range);
        Some((Leaving { left, value }, slot))
    }

    /// Has ranges leave, from the first that has an address in `range` on, as long as `take` says
    /// that it took the value of each. Who took them must have dropped all when they make the
    /// [`Left`] of what this returns: from the first of them to the last one. With memory for
    /// another range.
    #[inline]
    pub(crate) fn leave_while(
        &mut self,
        range: IovaRange,
        mut take: impl FnMut(IovaRange, &mut V) -> bool,
    ) -> Option<(IovaRange, Option<Slot<V>>)> {
        let mut all: Option<IovaRange> = None;
        let slot = self.map.take_while(range, |found, node| {
            if node.is_busy() || !take(found, node) {
                return false;
            }
            let start = all.unwrap_or(found).start();
            all = IovaRange::from_last(start, found.last());
            true
        });
        let all = all?;
        // INVARIANT: What left the map is noted.
        self.begin_leaving(all);
        Some((all, slot))
    }

    #[inline(always)]
    fn begin_leaving(&mut self, range: IovaRange) {
        match self.leaving.iter_mut().find(|at| at.is_none()) {
            Some(free) => *free = Some(range),
            None => self.leaving_somewhere = self.leaving_somewhere.wrapping_add(1),
        }
        self.busy = self.busy.wrapping_add(1);
    }

    /// What had left is gone.
    #[inline(always)]
    pub(crate) fn left(&mut self, left: Left) {
        if left.space != self.space {
            return;
        }
        // No other range is the same: each begins with something that only it has.
        match self.leaving.iter_mut().find(|at| **at == Some(left.range)) {
            Some(at) => *at = None,
            None => self.leaving_somewhere = self.leaving_somewhere.wrapping_sub(1),
        }
        self.busy = self.busy.wrapping_sub(1);
    }
}

/// The value of the busy range of `map`, which is that of `space`, that a claim is from. It may be
/// of less than the whole range by now.
#[inline(always)]
fn busy_node<V: Value>(
    own: SpaceId,
    map: &mut Map<V>,
    space: SpaceId,
    range: IovaRange,
) -> Option<&mut V> {
    if space != own {
        return None;
    }
    map.get_mut(range)
        .filter(|node| node.is_busy() && node.start() <= range.start())
}

/// A range that is not taken.
pub(crate) struct Free<'a, V> {
    map: &'a mut RangeMap<V>,
    range: IovaRange,
}

impl<V: Value> Free<'_, V> {
    /// Takes it.
    #[inline(always)]
    pub(crate) fn claim(self, slot: Slot<V>) -> IovaClaim {
        let Self { map, range } = self;
        map.map.insert(range.last(), V::busy(range.start()), slot);
        map.busy = map.busy.wrapping_add(1);
        // INVARIANT: The range is busy from now on; nothing of it was taken or leaving.
        IovaClaim {
            space: map.space,
            range,
        }
    }
}
