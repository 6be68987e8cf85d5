// SPDX-License-Identifier: GPL-2.0

//! Ranges of I/O virtual addresses, and who may map and unmap in them.
//!
//! [`RangeMap`] says which ranges of an address space are taken, and is the only one to give
//! [`IovaClaim`]s, the right to change the page tables of a range. Pure: knows no kernel type but
//! the red-black tree. Takes no lock; the owner of a map has one around it.
//!
//! Words: `last` is the last address of a range (closed), so that a range can reach the end of the
//! address space; there is no `end`.

mod claims;
mod map;
mod range;

pub(crate) use self::claims::{
    Free,
    Leaving,
    RangeMap,
    SpaceId,
    Value, //
};
pub use self::{
    claims::{
        IovaClaim,
        Left, //
    },
    map::{
        Map,
        Slot,
        Starts, //
    },
    range::{
        IovaRange,
        RangeError, //
    },
};
