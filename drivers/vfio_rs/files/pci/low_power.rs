// SPDX-License-Identifier: GPL-2.0

//! Device features that let a device sleep while it is open.
//!
//! It falls asleep when nothing keeps it awake, which every ioctl, read and write does as long as
//! it runs; so an ioctl that lets it sleep takes effect when it is over.

use kernel::prelude::*;
use vfio_kernel::{
    argsz::UserArg,
    eventfd::EventFd,
    uapi, //
};

use crate::pci::Open;

type Wakeup = uapi::vfio_device_low_power_entry_with_wakeup;

/// Bytes of data of [`enter_with_wakeup`].
pub(super) const WAKEUP_SIZE: usize = size_of::<Wakeup>();

/// `VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY`.
///
/// # Errors
///
/// `EINVAL` if the device may sleep already.
pub(super) fn enter(open: &Open, _: UserArg, _: usize) -> Result<isize> {
    open.enter_low_power(None).map(|()| 0)
}

/// `VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP`: signals an eventfd when the device wakes up.
///
/// # Errors
///
/// `EFAULT`; `EINVAL` for a negative descriptor, one that is no eventfd, or if the device may sleep
/// already; `EBADF`.
pub(super) fn enter_with_wakeup(open: &Open, data: UserArg, _: usize) -> Result<isize> {
    let entry: Wakeup = data.read_min(WAKEUP_SIZE)?;
    if entry.wakeup_eventfd < 0 {
        return Err(EINVAL);
    }
    let wakeup = EventFd::fdget(entry.wakeup_eventfd)?;
    open.enter_low_power(Some(wakeup)).map(|()| 0)
}

/// `VFIO_DEVICE_FEATURE_LOW_POWER_EXIT`. The ioctl itself has woken the device up.
pub(super) fn leave(open: &Open, _: UserArg, _: usize) -> Result<isize> {
    open.leave_low_power();
    Ok(0)
}
