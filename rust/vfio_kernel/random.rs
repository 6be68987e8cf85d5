// SPDX-License-Identifier: GPL-2.0

//! Random numbers, `drivers/char/random.c`.

use vfio_bindings as bindings;

/// Bytes that nobody can guess.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    // SAFETY: The array has room for `N` bytes.
    unsafe { bindings::get_random_bytes(bytes.as_mut_ptr().cast(), N) };
    bytes
}
