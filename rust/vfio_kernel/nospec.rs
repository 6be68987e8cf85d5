// SPDX-License-Identifier: GPL-2.0

//! Users' numbers as indices, `include/linux/nospec.h`.

use vfio_bindings as bindings;

/// `index`, which the caller has checked to be below `size`. Where the CPU runs ahead of that check
/// with an index that is not, it gets 0.
pub fn index(index: usize, size: usize) -> usize {
    // SAFETY: No preconditions.
    unsafe { bindings::vfio_rs_index_nospec(index, size) }
}
