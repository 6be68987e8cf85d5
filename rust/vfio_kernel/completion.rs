// SPDX-License-Identifier: GPL-2.0

//! Completions that happen again, and that are waited for with a limit or until the task is killed,
//! `include/linux/completion.h`. The `kernel` crate's own happen once and are waited for without.

use kernel::{
    prelude::*,
    time::Jiffies,
    types::Opaque, //
};
use vfio_bindings as bindings;

/// Something that happens once, or once more after each [`reinit`](Self::reinit).
#[pin_data]
pub struct Completion {
    #[pin]
    inner: Opaque<bindings::completion>,
}

// SAFETY: A completion locks itself.
unsafe impl Send for Completion {}
// SAFETY: As above.
unsafe impl Sync for Completion {}

/// `MAX_SCHEDULE_TIMEOUT` of `include/linux/sched.h`; the scheduler complains of more.
const FOREVER: Jiffies = isize::MAX as Jiffies;

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

    /// It has not happened, again. Any context.
    pub fn reinit(&self) {
        // SAFETY: Initialised by `new`. Those who wait go on waiting.
        unsafe { bindings::vfio_rs_reinit_completion(self.inner.get()) }
    }

    /// Waits. Sleeps.
    pub fn wait(&self) {
        // SAFETY: Initialised by `new`; the caller may sleep.
        unsafe { bindings::wait_for_completion(self.inner.get()) }
    }

    /// Waits. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is killed meanwhile.
    pub fn wait_killable(&self) -> Result {
        // SAFETY: Initialised by `new`; the caller may sleep.
        match unsafe { bindings::wait_for_completion_killable(self.inner.get()) } {
            0 => Ok(()),
            // ERRNO: -ERESTARTSYS, which a task that is killed does not live to see.
            _ => Err(EINTR),
        }
    }

    /// Waits for `timeout` at most. Sleeps.
    pub fn wait_timeout(&self, timeout: Jiffies) -> Waited {
        let timeout = timeout.min(FOREVER);
        // SAFETY: Initialised by `new`; the caller may sleep.
        match unsafe { bindings::wait_for_completion_timeout(self.inner.get(), timeout) } {
            0 => Waited::TimedOut,
            _ => Waited::Done,
        }
    }

    /// As [`wait_timeout`](Self::wait_timeout), until the task gets a signal.
    pub fn wait_interruptible_timeout(&self, timeout: Jiffies) -> Waited {
        let timeout = timeout.min(FOREVER);
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
