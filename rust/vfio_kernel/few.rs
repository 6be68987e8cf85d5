// SPDX-License-Identifier: GPL-2.0

//! Lists that mostly have one item, or none.
//!
//! Such a list allocates nothing. A vector does for its first item; and one without items is handed
//! to `krealloc()` when it is dropped.

use core::{
    mem::replace,
    slice::from_ref, //
};
use kernel::{
    alloc::Flags,
    prelude::*, //
};

/// See the module's documentation.
pub enum Few<T> {
    /// No items.
    None,
    /// The only one.
    One(T),
    /// All, in order.
    Many(KVVec<T>),
}

/// Room for items when the second one comes.
const ROOM: usize = 8;

impl<T> Few<T> {
    /// Adds an item at the end. On failure it is dropped, and nothing has changed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline]
    pub fn push(&mut self, item: T, flags: Flags) -> Result {
        match self {
            Self::None => *self = Self::One(item),
            Self::One(_) => self.push_second(item, flags)?,
            Self::Many(all) => all.push(item, flags)?,
        }
        Ok(())
    }

    #[cold]
    fn push_second(&mut self, item: T, flags: Flags) -> Result {
        let mut all = KVVec::with_capacity(ROOM, flags)?;
        if let Self::One(first) = replace(self, Self::None) {
            all.push(first, flags)?;
        }
        all.push(item, flags)?;
        *self = Self::Many(all);
        Ok(())
    }

    /// All items.
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(item) => from_ref(item),
            Self::Many(all) => all,
        }
    }

    /// All items, to be changed.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::None => &mut [],
            Self::One(item) => core::slice::from_mut(item),
            Self::Many(all) => all,
        }
    }

    /// Takes the last item out.
    pub fn pop(&mut self) -> Option<T> {
        if let Self::Many(all) = self {
            return all.pop();
        }
        match replace(self, Self::None) {
            Self::One(item) => Some(item),
            _ => None,
        }
    }

    /// Hands each item to `f`, in order, until one fails; the rest is dropped.
    ///
    /// # Errors
    ///
    /// What `f` says.
    #[inline]
    pub fn try_each(self, mut f: impl FnMut(T) -> Result) -> Result {
        match self {
            Self::None => Ok(()),
            Self::One(item) => f(item),
            Self::Many(all) => all.into_iter().try_for_each(f),
        }
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_few))]
mod tests {
    use super::*;

    fn upto(last: u32) -> Result<Few<u32>> {
        let mut few = Few::None;
        for item in 0..last {
            few.push(item, GFP_KERNEL)?;
        }
        Ok(few)
    }

    #[test]
    fn all_items_in_order() -> Result {
        for count in [0, 1, 2, 3, 100] {
            let mut few = upto(count)?;
            assert!(few.as_slice().iter().copied().eq(0..count));
            for item in few.as_mut_slice() {
                *item = item.wrapping_add(1);
            }
            let mut next = 1;
            few.try_each(|item| {
                assert_eq!(item, next);
                next = next.wrapping_add(1);
                Ok(())
            })?;
            assert_eq!(next, count.wrapping_add(1));
        }
        Ok(())
    }

    #[test]
    fn the_last_one_first() -> Result {
        for count in [0, 1, 2, 3, 100] {
            let mut few = upto(count)?;
            for item in (0..count).rev() {
                assert_eq!(few.pop(), Some(item));
                assert!(few.as_slice().iter().copied().eq(0..item));
            }
            assert_eq!(few.pop(), None);
            few.push(7, GFP_KERNEL)?;
            assert_eq!(few.as_slice(), &[7]);
        }
        Ok(())
    }

    #[test]
    fn an_error_ends_it() -> Result {
        for count in [1, 2, 100] {
            let mut seen = 0u32;
            let ended = upto(count)?.try_each(|_| {
                seen = seen.wrapping_add(1);
                Err(EINVAL)
            });
            assert_eq!((ended, seen), (Err(EINVAL), 1));
        }
        Ok(())
    }
}
