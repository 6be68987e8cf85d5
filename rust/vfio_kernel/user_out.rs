// SPDX-License-Identifier: GPL-2.0

//! A place in user memory for a result that must not get lost: `pin_user_pages_fast()` of
//! `mm/gup.c`.
//!
//! An ioctl that does something and then copies out what came of it has to undo it if the copy
//! fails, which not everything can be. So the place is made writable, and held, before anything is
//! done: then writing cannot fail.

use core::ptr::null_mut;
use kernel::{
    page::{
        PAGE_MASK,
        PAGE_SIZE, //
    },
    prelude::*, //
};
use vfio_bindings as bindings;
use zerocopy::{
    Immutable,
    IntoBytes, //
};

use crate::argsz::UserArg;

/// A place for one value, until dropped. Holding it keeps nobody from anything.
///
/// # Invariants
///
/// The first `held` of `pages` are pinned for writing. The value begins `offset` bytes into the
/// first one, and ends in the last.
pub struct UserOut<T> {
    pages: [*mut bindings::page; 2],
    held: usize,
    offset: usize,
    _value: core::marker::PhantomData<T>,
}

impl<T: IntoBytes + Immutable> UserOut<T> {
    /// Holds the place at `arg`.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the current process cannot write there. Waits for user memory.
    pub fn hold(arg: UserArg) -> Result<Self> {
        const { assert!(size_of::<T>() > 0 && size_of::<T>() <= PAGE_SIZE) };
        let start = arg.value();
        let last = start.checked_add(size_of::<T>() - 1).ok_or(EFAULT)?;
        let npages = if start & PAGE_MASK == last & PAGE_MASK {
            1
        } else {
            2
        };
        let mut out = Self {
            pages: [null_mut(); 2],
            held: 0,
            offset: start & !PAGE_MASK,
            _value: core::marker::PhantomData,
        };
        // SAFETY: There is room for two pointers. What is pinned is unpinned by `drop`.
        let got = unsafe {
            bindings::pin_user_pages_fast(
                start,
                npages,
                bindings::FOLL_WRITE,
                out.pages.as_mut_ptr(),
            )
        };
        // INVARIANT: So many were pinned.
        out.held = usize::try_from(got).unwrap_or(0);
        if out.held != npages as usize {
            return Err(EFAULT);
        }
        Ok(out)
    }

    /// Writes the value.
    pub fn write(self, value: &T) {
        let bytes = value.as_bytes();
        let (first, second) = bytes.split_at(bytes.len().min(PAGE_SIZE - self.offset));
        for (page, offset, part) in [
            (self.pages[0], self.offset, first),
            (self.pages[1], 0, second),
        ] {
            if !part.is_empty() {
                // SAFETY: By the type's invariant the page is pinned for writing, and the part does
                // not reach beyond it.
                unsafe {
                    bindings::vfio_rs_memcpy_to_page(page, offset, part.as_ptr().cast(), part.len())
                }
            }
        }
    }
}

impl<T> Drop for UserOut<T> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant.
        unsafe {
            bindings::unpin_user_pages_dirty_lock(
                self.pages.as_mut_ptr(),
                self.held as c_ulong,
                true,
            )
        }
    }
}
