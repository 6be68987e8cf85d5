// SPDX-License-Identifier: GPL-2.0

//! Eventfds for news about the device: an error, or that it is wanted back.

use kernel::prelude::*;
use vfio_kernel::eventfd::EventFd;

use super::{
    super::Device,
    IrqData, //
};

/// Eventfds for what is no interrupt of the device.
#[derive(Default)]
pub(in crate::pci) struct Signals {
    /// The device reported an error.
    pub(in crate::pci) err: Option<EventFd>,
    /// The device is wanted back.
    pub(in crate::pci) req: Option<EventFd>,
}

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

impl Device {
    /// Tells the user that the device is wanted back.
    pub(in crate::pci) fn signal_request(&self, count: u32) {
        match &self.signals.lock().req {
            Some(eventfd) => {
                if count % 10 == 0 {
                    // LOG: once in a hundred seconds, when it is unbound.
                    dev_notice!(
                        self.pci().device(),
                        "Relaying device request to user (#{count})\n"
                    );
                }
                eventfd.signal();
            }
            // LOG: once when it is unbound.
            None if count == 0 => dev_warn!(
                self.pci().device(),
                "No device request channel registered, blocked until released by user\n"
            ),
            None => {}
        }
    }
}
