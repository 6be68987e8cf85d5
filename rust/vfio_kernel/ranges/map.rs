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
        RBTreeNodeReservation, //
    },
};

use super::IovaRange;

/// A value that knows where its range starts. It may start later than it did, but not end
/// elsewhere.
pub trait Starts {
    /// First address.
    fn start(&self) -> u64;
}

/// See the module's documentation.
pub struct Map<T> {
    /// By last address.
    tree: RBTree<u64, T>,
}

/// Memory for one more range, allocated before a lock is taken.
pub struct Slot<T>(RBTreeNodeReservation<u64, T>);

impl<T> Slot<T> {
    /// Allocates; may sleep.
    pub fn new() -> Result<Self> {
        Ok(Self(RBTreeNodeReservation::new(GFP_KERNEL)?))
    }
}

impl<T: Starts> Map<T> {
    /// Nothing is mapped.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            tree: RBTree::new(),
        }
    }

    /// The first range that has an address in `range`.
    #[inline(always)]
    pub fn first_overlap(&self, range: IovaRange) -> Option<IovaRange> {
        let cursor = self.tree.cursor_lower_bound(&range.start())?;
        let (&last, value) = cursor.current();
        place(last, value).filter(|found| found.overlaps(&range))
    }

    /// Calls `f` for ranges, from the first that has an address in `range` to the last one, in
    /// order, as long as it returns `true`.
    #[inline]
    pub fn each_in(&mut self, range: IovaRange, mut f: impl FnMut(IovaRange, &T) -> bool) {
        // Only one that may change the tree goes on to the next.
        let mut cursor = self.tree.cursor_lower_bound_mut(&range.start());
        while let Some(at) = cursor {
            let (&last, value) = at.current();
            let found = place(last, value).filter(|found| found.overlaps(&range));
            if !found.is_some_and(|found| f(found, value)) {
                return;
            }
            cursor = at.move_next();
        }
    }

    /// Whether `range` cuts some range in two: contains a part of it, but not all.
    #[inline]
    pub fn cuts(&self, range: IovaRange) -> bool {
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

    /// Adds a range that overlaps none: from where `value` starts to `last`.
    #[inline(always)]
    pub fn insert(&mut self, last: u64, value: T, slot: Slot<T>) {
        let _ = self.tree.insert(slot.0.into_node(last, value));
    }

    /// The value of the range that ends where `range` does.
    #[inline]
    pub fn get(&self, range: IovaRange) -> Option<&T> {
        self.tree.get(&range.last())
    }

    /// The value of the range that ends where `range` does, to be changed.
    #[inline(always)]
    pub fn get_mut(&mut self, range: IovaRange) -> Option<&mut T> {
        self.tree.get_mut(&range.last())
    }

    /// Takes out the range that ends where `range` does.
    #[inline]
    pub fn remove(&mut self, range: IovaRange) -> Option<T> {
        self.tree.remove(&range.last())
    }

    /// Takes exactly `range` out if it `leaves`, as [`take_while`](Self::take_while).
    #[inline(always)]
    pub fn take_exact(
        &mut self,
        range: IovaRange,
        leaves: impl FnOnce(&mut T) -> bool,
    ) -> Option<Slot<T>> {
        let mut found = self.tree.find_mut(&range.last())?;
        if found.get().start() != range.start() || !leaves(found.get_mut()) {
            return None;
        }
        Some(Slot(found.remove_node().into_reservation()))
    }

    /// Takes ranges out, from the first that has an address in `range` on, as long as `leaves` says
    /// so of each. It may take what is in the value, which is dropped. Returns memory for another
    /// range, if any went.
    #[inline]
    pub fn take_while(
        &mut self,
        range: IovaRange,
        mut leaves: impl FnMut(IovaRange, &mut T) -> bool,
    ) -> Option<Slot<T>> {
        let mut spare = None;
        let mut cursor = self.tree.cursor_lower_bound_mut(&range.start());
        while let Some(mut at) = cursor {
            let (&last, value) = at.current_mut();
            let found = place(last, value).filter(|found| found.overlaps(&range));
            if !found.is_some_and(|found| leaves(found, value)) {
                break;
            }
            let (next, node) = at.remove_current();
            spare = Some(Slot(node.into_reservation()));
            // If it was the last one, the next is the one before, which is below `range`.
            cursor = next;
        }
        spare
    }

    /// All ranges in order, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (IovaRange, &T)> {
        self.tree
            .iter()
            .filter_map(|(&last, value)| Some((place(last, value)?, value)))
    }
}

/// Where a value is.
#[inline]
fn place<T: Starts>(last: u64, value: &T) -> Option<IovaRange> {
    IovaRange::from_last(value.start(), last)
}
