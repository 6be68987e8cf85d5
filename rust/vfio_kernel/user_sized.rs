// SPDX-License-Identifier: GPL-2.0

//! Memory for as many things as a user chooses.
//!
//! The page allocator and `kvmalloc()` print a warning when they are asked for more than they can
//! give at once (`KMALLOC_MAX_SIZE`, `INT_MAX`), which is the end of a kernel with
//! `panic_on_warn`. What a user can make so large is allocated with these flags: then it is
//! `ENOMEM`, and no more. It also counts as the user's, in their memory cgroup. `scripts/check`
//! looks for vectors that grow with others.

use kernel::{
    alloc::Flags,
    prelude::*, //
};

/// The flags for such an allocation.
#[inline]
pub fn gfp() -> Flags {
    GFP_KERNEL_ACCOUNT | __GFP_NOWARN
}
