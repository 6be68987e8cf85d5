// SPDX-License-Identifier: GPL-2.0

//! The part of the kernel crate that the module's pure code uses, over the standard library.
//!
//! Names and signatures as in rust/kernel, so that the same files compile for both. Allocations
//! can be made to fail, see [`fail`].

#![forbid(unsafe_code)]

pub mod alloc;
pub mod error;
pub mod fail;
pub mod rbtree;

/// What pure code imports.
pub mod prelude {
    pub use crate::{
        alloc::{
            Flags,
            KBox,
            KVVec,
            KVec,
            __GFP_NOWARN, //
            GFP_KERNEL,
            GFP_KERNEL_ACCOUNT,
        },
        error::{
            code::*,
            Error,
            Result, //
        },
    };

    /// Has the name of a method that the kernel's prelude gives to all types, so that
    /// `Iterator::chain()` is refused here as it is there.
    pub trait Init: Sized {
        /// Of no use.
        fn chain<T>(self, _other: T) -> Self {
            self
        }
    }

    impl<T> Init for T {}
}
