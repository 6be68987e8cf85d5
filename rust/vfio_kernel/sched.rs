// SPDX-License-Identifier: GPL-2.0

//! The current task, `include/linux/sched.h` and `include/linux/capability.h`.

use kernel::prelude::*;
use vfio_bindings as bindings;

/// Gives up the CPU if something else should run. May sleep.
pub fn cond_resched() {
    // SAFETY: May be called by any task that may sleep.
    unsafe { bindings::vfio_rs_cond_resched() }
}

/// Fails with `EINTR` if the current task is being killed.
pub fn check_killed() -> Result {
    // SAFETY: Looks at `current` only.
    if unsafe { bindings::vfio_rs_fatal_signal_pending() } {
        return Err(EINTR);
    }
    Ok(())
}

/// For each round of a loop whose length a user chooses: gives up the CPU if something else should
/// run, and fails with `EINTR` if the current task is being killed. May sleep.
pub fn pause() -> Result {
    cond_resched();
    check_killed()
}

/// Whether work ends early when the task is being killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It does.
    WhenKilled,
    /// It does not: others need what it leaves behind.
    Never,
}

impl Stop {
    /// Fails with `EINTR` if work should end.
    pub fn check(self) -> Result {
        match self {
            Self::WhenKilled => check_killed(),
            Self::Never => Ok(()),
        }
    }
}

/// Whether the current task may do what it wants to the machine (`CAP_SYS_RAWIO`).
pub fn capable_sys_rawio() -> bool {
    // SAFETY: Looks at the credentials of `current` only.
    unsafe { bindings::capable(bindings::CAP_SYS_RAWIO as c_int) }
}

/// The id of the current thread, in the first pid namespace.
pub fn current_pid() -> i32 {
    // SAFETY: Looks at `current` only.
    unsafe { bindings::vfio_rs_current_pid() }
}
