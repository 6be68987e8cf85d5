// SPDX-License-Identifier: GPL-2.0

//! Waiting for something that a mutex guards to change, `include/linux/wait.h`.
//!
//! The kernel crate's `CondVar` does not let a task go that is being killed.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        lock::mutex::MutexGuard,
        LockClassKey, //
    },
    types::Opaque, //
};
use vfio_bindings as bindings;

/// Threads that wait.
#[pin_data]
pub struct WaitQueue {
    #[pin]
    queue: Opaque<bindings::wait_queue_head>,
    /// How often they were woken.
    rounds: Atomic<u32>,
}

// SAFETY: A wait queue locks itself.
unsafe impl Send for WaitQueue {}
// SAFETY: As above.
unsafe impl Sync for WaitQueue {}

impl WaitQueue {
    /// Nobody waits. `name` and `key` are lockdep's; use
    /// [`new_wait_queue!`](crate::new_wait_queue).
    pub fn new(name: &'static CStr, key: Pin<&'static LockClassKey>) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes; `name` and `key` live forever.
            queue <- Opaque::ffi_init(|slot| unsafe {
                bindings::__init_waitqueue_head(slot, name.as_char_ptr(), key.as_ptr())
            }),
            rounds: Atomic::new(0),
        })
    }

    /// Lets the mutex go, waits until [`wake_all`](Self::wake_all) was called after that, and takes
    /// it again. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is being killed; the mutex is not taken then.
    pub fn wait_killable<'a, T>(&self, guard: MutexGuard<'a, T>) -> Result<MutexGuard<'a, T>> {
        let mutex = guard.lock_ref();
        // Under the mutex, as whoever changes what it guards wakes us under it or later.
        let seen = self.rounds.load(Relaxed);
        drop(guard);
        // SAFETY: The queue was initialised by `new`; the number is as long-lived.
        let ret = unsafe {
            bindings::vfio_rs_wait_killable(self.queue.get(), self.rounds.as_ptr(), seen)
        };
        kernel::error::to_result(ret)
            .map_err(|_| EINTR)
            .map(|()| mutex.lock())
    }

    /// Wakes all who wait.
    pub fn wake_all(&self) {
        self.rounds.fetch_add(1, Relaxed);
        // SAFETY: Initialised by `new`. It is a barrier between the number and the look who waits.
        unsafe { bindings::vfio_rs_wake_all(self.queue.get()) }
    }
}

/// Makes a [`WaitQueue`] with a lock class of its own.
#[macro_export]
macro_rules! new_wait_queue {
    ($name:literal) => {
        $crate::wait::WaitQueue::new(::kernel::c_str!($name), ::kernel::static_lock_class!())
    };
}
