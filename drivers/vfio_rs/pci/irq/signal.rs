// SPDX-License-Identifier: GPL-2.0

//! Eventfds for news about the device: an error, or that it is wanted back.

use kernel::prelude::*;
use vfio_kernel::eventfd::EventFd;

use super::IrqData;

/// `VFIO_DEVICE_SET_IRQS` of an index that has one interrupt; `count` is 0 or 1.
///
/// # Errors
///
/// `EINVAL` if nothing is set that could be triggered or removed, or for a bad combination;
/// `EBADF` if a descriptor is not open.
pub(super) fn set_signal(slot: &mut Option<EventFd>, count: u32, data: &IrqData) -> Result {
    match data {
        IrqData::None => {
            let eventfd = slot.as_ref().ok_or(EINVAL)?;
            if count == 0 {
                *slot = None;
            } else {
                eventfd.signal();
            }
            Ok(())
        }
        IrqData::Bool(which) => {
            let which = *which.first().ok_or(EINVAL)?;
            if let (1.., Some(eventfd)) = (which, slot.as_ref()) {
                eventfd.signal();
            }
            Ok(())
        }
        IrqData::EventFd(fds) => {
            *slot = match *fds.first().ok_or(EINVAL)? {
                -1 => None,
                fd @ 0.. => Some(EventFd::fdget(fd)?),
                _ => return Err(EINVAL),
            };
            Ok(())
        }
    }
}
