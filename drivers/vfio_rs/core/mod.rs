// SPDX-License-Identifier: GPL-2.0

//! What is common to all devices, whatever bus they are on.
//!
//! | file           | has                                                        |
//! |----------------|------------------------------------------------------------|
//! | `container.rs` | groups that share an I/O address space                     |

mod container;

pub(crate) use self::container::{
    attach_patiently,
    Container,
    Leftover,
    NotNow, //
};
