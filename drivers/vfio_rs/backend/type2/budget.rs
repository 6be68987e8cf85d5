// SPDX-License-Identifier: GPL-2.0

//! How many windows there can be in all containers together. Takes no lock.

use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

use super::window;

/// Entries in use.
static USED: Atomic<u32> = Atomic::new(0);

/// Entries that are in use until this is dropped.
pub(super) struct Entries(u32);

impl Entries {
    /// None.
    pub(super) fn none() -> Self {
        Self(0)
    }

    /// Gives back what there is and takes what `count` windows need.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there is not so much; then nothing has changed.
    pub(super) fn exchange(&mut self, count: u32) -> Result {
        let new = window::entries(count);
        loop {
            let used = USED.load(Relaxed);
            let next = window::exchange(used, self.0, new).ok_or(ENOSPC)?;
            // A number that guards no memory.
            if USED.cmpxchg(used, next, Relaxed).is_ok() {
                self.0 = new;
                return Ok(());
            }
        }
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // Giving back always works.
        let _ = self.exchange(0);
    }
}
