// SPDX-License-Identifier: GPL-2.0

//! I/O virtual addresses: ranges of them, and which of them a container may use.
//!
//! Pure: knows no kernel type but vector and tree. Takes no lock.
//!
//! Words: `last` is the last address of a range (closed), so that a range can reach the end of the
//! address space; there is no `end`.

mod allowed;
pub(crate) mod bits;
mod map;
pub(crate) mod nested;
mod range;
pub(crate) mod turns;

pub(crate) use self::{
    allowed::Allowed,
    map::{
        Map,
        Slot,
        Starts, //
    },
    range::IovaRange, //
};
