// SPDX-License-Identifier: GPL-2.0

//! Completions that are waited for with a limit, `include/linux/completion.h`. The `kernel` crate's
//! own can only be waited for without one.

use kernel::{
    prelude::*,
    time::Jiffies,
    types::Opaque, //
};
use vfio_bindings as bindings;

/// Something that happens once.
#[pin_data]
pub struct Completion {
    #[pin]
    inner: Opaque<bindings::completion>,
}

// SAFETY: A completion locks itself.
unsafe impl Send for Completion {}
// SAFETY: As above.
unsafe impl Sync for Completion {}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// It has happened.
    Done,
    /// It has not.
    TimedOut,
    /// It has not, and the task has a signal.
    Interrupted,
}

impl Completion {
    /// It has not happened.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes.
            inner <- Opaque::ffi_init(|slot| unsafe { bindings::init_completion(slot) }),
        })
    }

    /// It has happened, for all who wait and who will wait. Any context.
    pub fn complete_all(&self) {
        // SAFETY: Initialised by `new`.
        unsafe { bindings::complete_all(self.inner.get()) }
    }

    /// Waits for `timeout` at most. Sleeps.
    pub fn wait_timeout(&self, timeout: Jiffies) -> Waited {
        // SAFETY: Initialised by `new`; the caller may sleep.
        match unsafe { bindings::wait_for_completion_timeout(self.inner.get(), timeout) } {
            0 => Waited::TimedOut,
            _ => Waited::Done,
        }
    }

    /// As [`wait_timeout`](Self::wait_timeout), until the task gets a signal.
    pub fn wait_interruptible_timeout(&self, timeout: Jiffies) -> Waited {
        // SAFETY: Initialised by `new`; the caller may sleep.
        let left = unsafe {
            bindings::wait_for_completion_interruptible_timeout(self.inner.get(), timeout)
        };
        match left {
            ..0 => Waited::Interrupted,
            0 => Waited::TimedOut,
            1.. => Waited::Done,
        }
    }
}
