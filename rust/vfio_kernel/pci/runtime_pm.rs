// SPDX-License-Identifier: GPL-2.0

//! Runtime power management, `include/linux/pm_runtime.h`: a device that nobody keeps awake sleeps.
//!
//! The kernel counts who needs a device awake; the guards here are such counts. Without `CONFIG_PM`
//! all of this does nothing.

use kernel::{
    error::to_result,
    prelude::*, //
};
use vfio_bindings as bindings;

use super::{
    BoundPci,
    PciDevice, //
};

/// Keeps a device awake.
///
/// # Invariants
///
/// One of the counts that keep the device awake is this one's.
pub struct Awake(BoundPci);

/// Takes back one [`Awake`] that somebody else has, so that the device may sleep all the same.
///
/// # Invariants
///
/// The counts that keep the device awake are one fewer for this.
pub struct MaySleep(BoundPci);

impl PciDevice {
    fn as_dev(&self) -> *mut bindings::device {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { &raw mut (*self.as_ptr()).dev }
    }

    /// Turns runtime power management on; if `sleeps`, the driver's own count is given up.
    pub(super) fn start_runtime_pm(&self, sleeps: bool) {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe {
            bindings::vfio_rs_pm_allow(self.as_dev());
            if sleeps {
                bindings::vfio_rs_pm_put(self.as_dev());
            }
        }
    }

    /// Undoes [`start_runtime_pm`](Self::start_runtime_pm). May sleep.
    pub(super) fn stop_runtime_pm(&self, sleeps: bool) {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe {
            if sleeps {
                bindings::vfio_rs_pm_get_noresume(self.as_dev());
            }
            bindings::vfio_rs_pm_forbid(self.as_dev());
        }
    }
}

impl BoundPci {
    /// Wakes the device up and keeps it awake. May sleep.
    ///
    /// # Errors
    ///
    /// What the driver, the bus or the device say why it does not wake up.
    pub fn awake(&self) -> Result<Awake> {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        to_result(unsafe { bindings::vfio_rs_pm_resume_and_get(self.as_dev()) })?;
        // INVARIANT: Counted by the call.
        Ok(Awake(self.clone()))
    }

    /// Wakes the device up, if it sleeps. May sleep.
    pub fn wake_up(&self) {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { bindings::vfio_rs_pm_resume(self.as_dev()) };
    }

    /// Lets the device sleep although someone keeps it awake. It does when the next [`Awake`] goes.
    pub fn let_sleep(&self) -> MaySleep {
        // SAFETY: The device is alive (type invariant of `PciDevice`). The count does not fall
        // below zero: the kernel sees to that.
        unsafe { bindings::vfio_rs_pm_put_noidle(self.as_dev()) };
        // INVARIANT: Taken back by the call.
        MaySleep(self.clone())
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        // SAFETY: The device is alive (type invariant of `PciDevice`), and the count is this one's
        // (type invariant). The device falls asleep later, if at all.
        unsafe { bindings::vfio_rs_pm_put(self.0.as_dev()) }
    }
}

impl Drop for MaySleep {
    fn drop(&mut self) {
        // SAFETY: The device is alive (type invariant of `PciDevice`); this gives back what was
        // taken (type invariant).
        unsafe { bindings::vfio_rs_pm_get_noresume(self.0.as_dev()) }
    }
}
