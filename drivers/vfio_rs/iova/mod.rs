// SPDX-License-Identifier: GPL-2.0

//! I/O virtual addresses: which of them a container may use, and who waits for which.
//!
//! Ranges themselves, and who may map in them, are in `rust/vfio_kernel/ranges/`. Pure: knows no
//! kernel type but the vector. Takes no lock.

mod allowed;
pub(crate) mod bits;
pub(crate) mod nested;
pub(crate) mod turns;

pub(crate) use self::allowed::Allowed;
pub(crate) use vfio_kernel::ranges::{
    IovaRange,
    Map,
    Slot,
    Starts, //
};
