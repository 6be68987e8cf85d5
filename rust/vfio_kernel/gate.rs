// SPDX-License-Identifier: GPL-2.0

//! A gate: shut for a while by one thread, waited for by others, who hold nothing meanwhile that
//! whoever opens it needs.
//!
//! It is no lock: who shuts it may leave and open it later, and hold others of its kind. So it
//! excludes nobody by itself. Where it must, who shuts it takes a lock for writing after that,
//! once, and those whom it is to keep out look at the gate with that lock held for reading.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc, //
    },
};

use crate::completion::Completion;

/// See the module's documentation.
#[pin_data]
pub struct Gate {
    /// How often it was shut or opened: odd while it is shut.
    turns: Atomic<u32>,
    #[pin]
    opened: Completion,
}

impl Gate {
    /// An open gate.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                turns: Atomic::new(0),
                opened <- Completion::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Shuts the gate. One thread at a time shuts and opens it. Any context.
    pub fn shut(&self) {
        self.opened.reinit();
        self.turns.store(self.turns() | 1, Release);
    }

    /// Opens the gate, and wakes up all who wait. Any context.
    pub fn open(&self) {
        self.turns
            .store((self.turns() | 1).wrapping_add(1), Release);
        self.opened.complete_all();
    }

    /// Whether it is shut now. Any context.
    #[inline(always)]
    pub fn is_shut(&self) -> bool {
        self.turns() & 1 != 0
    }

    /// How often it was shut or opened, for [`was_open_since`](Self::was_open_since). Any context.
    #[inline(always)]
    pub fn turns(&self) -> u32 {
        self.turns.load(Acquire)
    }

    /// Whether it is open and was open all the time since there were so many
    /// [`turns`](Self::turns). Any context.
    #[inline(always)]
    pub fn was_open_since(&self, turns: u32) -> bool {
        turns & 1 == 0 && self.turns() == turns
    }

    /// Waits until it is open. It may be shut again by the time that this returns. Sleeps.
    pub fn wait(&self) {
        if self.is_shut() {
            self.opened.wait();
        }
    }

    /// As [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is killed meanwhile.
    pub fn wait_killable(&self) -> Result {
        match self.is_shut() {
            true => self.opened.wait_killable(),
            false => Ok(()),
        }
    }
}
