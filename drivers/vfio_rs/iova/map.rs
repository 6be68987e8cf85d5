// SPDX-License-Identifier: GPL-2.0

//! What is mapped where: disjoint ranges of I/O virtual addresses, each with a value.
//!
//! A red-black tree keyed by the *last* address of a range. The first range whose last address is
//! not below some address is then the only one that can contain it, so every question is one
//! descent. Takes no lock.

use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode,
        RBTreeNodeReservation, //
    },
};

use super::IovaRange;

/// See the module's documentation.
pub(crate) struct Map<T> {
    /// Last address to first address and value.
    tree: RBTree<u64, (u64, T)>,
}

/// Memory for one more range, allocated before a lock is taken.
pub(crate) struct Slot<T>(RBTreeNodeReservation<u64, (u64, T)>);

/// A range that was taken out, in the memory that it had.
pub(crate) struct Taken<T>(RBTreeNode<u64, (u64, T)>);

impl<T> Slot<T> {
    /// Allocates; may sleep.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(RBTreeNodeReservation::new(GFP_KERNEL)?))
    }
}

impl<T> Map<T> {
    /// Nothing is mapped.
    pub(crate) fn new() -> Self {
        Self {
            tree: RBTree::new(),
        }
    }

    /// The first range that has an address in `range`.
    pub(crate) fn first_overlap(&self, range: IovaRange) -> Option<IovaRange> {
        self.look_at_first(range, |_| ()).map(|(found, ())| found)
    }

    /// The first range that has an address in `range`, and what `look` says of its value.
    pub(crate) fn look_at_first<R>(
        &self,
        range: IovaRange,
        look: impl FnOnce(&T) -> R,
    ) -> Option<(IovaRange, R)> {
        let cursor = self.tree.cursor_lower_bound(&range.start())?;
        let (&last, (start, value)) = cursor.current();
        let found = IovaRange::from_last(*start, last).filter(|found| found.overlaps(&range))?;
        Some((found, look(value)))
    }

    /// Whether `range` cuts some range in two: contains a part of it, but not all.
    pub(crate) fn cuts(&self, range: IovaRange) -> bool {
        let Some(first) = self.first_overlap(range) else {
            return false;
        };
        if first.start() < range.start() || first.last() >= range.last() {
            return !range.contains(&first);
        }
        // Only the one that has the last address can reach beyond it.
        IovaRange::from_last(range.last(), range.last())
            .and_then(|end| self.first_overlap(end))
            .is_some_and(|last| !range.contains(&last))
    }

    /// Adds a range that overlaps none.
    pub(crate) fn insert(&mut self, range: IovaRange, value: T, slot: Slot<T>) {
        let node = slot.0.into_node(range.last(), (range.start(), value));
        let _ = self.tree.insert(node);
    }

    /// The value of exactly `range`.
    pub(crate) fn get(&self, range: IovaRange) -> Option<&T> {
        self.tree.get(&range.last()).map(|(_, value)| value)
    }

    /// The value of exactly `range`, to be changed.
    pub(crate) fn get_mut(&mut self, range: IovaRange) -> Option<&mut T> {
        self.tree.get_mut(&range.last()).map(|(_, value)| value)
    }

    /// Takes exactly `range` out.
    pub(crate) fn remove(&mut self, range: IovaRange) -> Option<T> {
        self.tree.remove(&range.last()).map(|(_, value)| value)
    }

    /// Takes exactly `range` out, and leaves it in its memory: may be put back without any.
    pub(crate) fn take(&mut self, range: IovaRange) -> Option<Taken<T>> {
        self.tree.remove_node(&range.last()).map(Taken)
    }

    /// Puts back what was taken. No range may have come in its place.
    pub(crate) fn put_back(&mut self, taken: Taken<T>) {
        let _ = self.tree.insert(taken.0);
    }

    /// All ranges in order, with their values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (IovaRange, &T)> {
        self.tree.iter().filter_map(|(&last, (start, value))| {
            Some((IovaRange::from_last(*start, last)?, value))
        })
    }
}
