// SPDX-License-Identifier: GPL-2.0

//! Items that are found by a number, each until it is taken out. Numbers come back.
//!
//! Memory grows to as many items as there were at a time. Pure.

use core::mem::replace;
use kernel::{
    alloc::Flags,
    prelude::*, //
};

/// See the module's documentation.
pub(super) struct Slots<T> {
    slots: KVVec<TableSlot<T>>,
    /// The number of the first free slot; beyond the end if there is none.
    free: usize,
}

enum TableSlot<T> {
    Used(T),
    /// With the number of the next one.
    Free(usize),
}

impl<T> Slots<T> {
    /// No items.
    pub(super) const fn new() -> Self {
        Self {
            slots: KVVec::new(),
            free: 0,
        }
    }

    /// Adds an item and returns its number.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn add(&mut self, item: T, flags: Flags) -> Result<usize> {
        let number = self.free;
        match self.slots.get_mut(number) {
            Some(slot) => {
                if let TableSlot::Free(next) = replace(slot, TableSlot::Used(item)) {
                    self.free = next;
                }
            }
            None => {
                self.slots.push(TableSlot::Used(item), flags)?;
                self.free = self.slots.len();
            }
        }
        Ok(number)
    }

    /// Takes an item out; `None` if there is none of this number.
    pub(super) fn remove(&mut self, number: usize) -> Option<T> {
        let slot = self.slots.get_mut(number)?;
        let next = self.free;
        match replace(slot, TableSlot::Free(next)) {
            TableSlot::Used(item) => {
                self.free = number;
                Some(item)
            }
            free => {
                *slot = free;
                None
            }
        }
    }

    /// All items.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| match slot {
            TableSlot::Used(item) => Some(item),
            TableSlot::Free(_) => None,
        })
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_slots))]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() -> Result {
        let mut slots = Slots::new();
        for number in 0..5usize {
            assert_eq!(slots.add(number, GFP_KERNEL)?, number);
        }
        for gone in [1, 4, 0] {
            assert_eq!(slots.remove(gone), Some(gone));
            assert_eq!(slots.remove(gone), None);
        }
        assert_eq!(slots.remove(5), None);
        assert!(slots.iter().copied().eq([2, 3]));
        for number in [0, 4, 1, 5] {
            assert_eq!(slots.add(number, GFP_KERNEL)?, number);
        }
        assert!(slots.iter().copied().eq(0..6));
        Ok(())
    }
}
