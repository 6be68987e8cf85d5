// SPDX-License-Identifier: GPL-2.0

//! Who uses a device, so that it is not unbound meanwhile.
//!
//! Lock: `DeviceUsers::state`, innermost.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    time::msecs_to_jiffies, //
};
use vfio_kernel::{
    completion::{
        Completion,
        Waited, //
    },
    count::Count,
};

/// How long a user may take to answer a request for a device before it is repeated.
const REQUEST_MS: u32 = 10_000;

/// The users of a device that is bound.
#[pin_data]
pub(crate) struct DeviceUsers {
    #[pin]
    state: Mutex<UsersState>,
    /// Nobody uses the device any more, and nobody will.
    #[pin]
    unused: Completion,
}

struct UsersState {
    /// Open descriptors, and opens under way.
    count: Count,
    /// Being unbound: no more users.
    removed: bool,
    /// Somebody has it by its own node.
    claimed: bool,
}

/// A user of a device, which is not unbound as long as this lives.
pub(crate) struct Counted(Arc<DeviceUsers>);

impl Drop for Counted {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if state.count.dec() && state.removed {
            self.0.unused.complete_all();
        }
    }
}

/// The only user of a device by its own node, as long as this lives.
pub(crate) struct Claimed(Arc<DeviceUsers>);

impl Drop for Claimed {
    fn drop(&mut self) {
        self.0.state.lock().claimed = false;
    }
}

impl DeviceUsers {
    /// Nobody yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let state = UsersState {
            count: Count::NONE,
            removed: false,
            claimed: false,
        };
        Arc::pin_init(
            pin_init!(Self {
                state <- new_mutex!(state, "DeviceUsers::state"),
                unused <- Completion::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// One more.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the device is being unbound.
    pub(crate) fn count(self: &Arc<Self>) -> Result<Counted> {
        let mut state = self.state.lock();
        if state.removed {
            return Err(ENODEV);
        }
        state.count.inc();
        Ok(Counted(self.clone()))
    }

    /// For somebody who is to have it by its own node.
    ///
    /// # Errors
    ///
    /// `EINVAL` if somebody has.
    pub(crate) fn claim(self: &Arc<Self>) -> Result<Claimed> {
        let mut state = self.state.lock();
        if state.claimed {
            return Err(EINVAL);
        }
        state.claimed = true;
        Ok(Claimed(self.clone()))
    }

    /// Lets nobody in any more, and waits until nobody is left. Calls `request` to ask for the
    /// device, with the number of times that it was asked for before, and `interrupted` once if a
    /// signal comes to the task, which does not end the wait.
    pub(crate) fn wait_unused(&self, mut request: impl FnMut(u32), interrupted: impl FnOnce()) {
        {
            let mut state = self.state.lock();
            state.removed = true;
            if state.count.is_none() {
                return;
            }
        }
        let timeout = msecs_to_jiffies(REQUEST_MS);
        let mut interrupted = Some(interrupted);
        for count in 0u32.. {
            request(count);
            let waited = match interrupted {
                Some(_) => self.unused.wait_interruptible_timeout(timeout),
                None => self.unused.wait_timeout(timeout),
            };
            match waited {
                Waited::Done => return,
                Waited::TimedOut => {}
                Waited::Interrupted => {
                    if let Some(interrupted) = interrupted.take() {
                        interrupted();
                    }
                }
            }
        }
    }
}
