// SPDX-License-Identifier: GPL-2.0

//! How many users something has, for whoever holds the lock that it is under.
//!
//! It says so, with the way that led there, when more are taken away than came, as `refcount_t`
//! does. That is not used as it is atomic, and as its zero is final, where what is counted here
//! comes back.

use kernel::{
    do_once_lite,
    warn_on, //
};

/// See the module's documentation.
#[derive(Default, PartialEq, Eq)]
pub struct Count(usize);

impl Count {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// One.
    pub const ONE: Self = Self(1);

    /// One more.
    pub fn inc(&mut self) {
        // There is no memory for so many users that it matters.
        self.0 = self.0.saturating_add(1);
    }

    /// One less. Returns whether that was the last one; not if there was nobody, which is a fault
    /// of the caller's and changes nothing.
    pub fn dec(&mut self) -> bool {
        let Some(left) = self.0.checked_sub(1) else {
            wrong();
            return false;
        };
        self.0 = left;
        left == 0
    }

    /// Whether there is nobody.
    pub fn is_none(&self) -> bool {
        self.0 == 0
    }

    /// How many there are.
    pub fn get(&self) -> usize {
        self.0
    }
}

/// Says that somebody has not counted well.
#[cold]
#[inline(never)]
fn wrong() {
    do_once_lite! {
        warn_on!(true);
    }
}
