// SPDX-License-Identifier: GPL-2.0

//! The interrupt pin.
//!
//! A pin that is masked in the device shares the command register with the user, resets and changes
//! of the power state; how they get along is in `rust/vfio_kernel/pci/intx_pin.rs`.

use kernel::prelude::*;
use vfio_kernel::{
    eventfd::{
        EventFd,
        EventFdFile, //
    },
    pci::Intx, //
};

use super::{
    IrqAction,
    IrqData,
    Irqs,
    Open, //
};

impl Open {
    /// `VFIO_DEVICE_SET_IRQS` of the pin, which is one interrupt.
    ///
    /// # Errors
    ///
    /// `EINVAL` if interrupts of another kind are enabled, or the pin is not where it must be;
    /// `ENOTTY` for a mask by eventfd; `EBADF`, `ENODEV`, `EBUSY`, `ENOMEM`.
    pub(super) fn set_intx(
        &self,
        action: IrqAction,
        start: u32,
        count: u32,
        data: &IrqData,
    ) -> Result {
        let mut irqs = self.irqs.lock();
        if let (IrqAction::Trigger, Irqs::Intx(_), 0, IrqData::None) = (action, &*irqs, count, data)
        {
            self.disable_irqs(&mut irqs);
            return Ok(());
        }
        if start != 0 || count != 1 {
            return Err(EINVAL);
        }
        let wanted = match data {
            IrqData::EventFd(fds) => return self.set_intx_eventfd(&mut irqs, action, fds),
            IrqData::Bool(which) => which.first().is_some_and(|which| *which != 0),
            IrqData::None => true,
        };
        let Irqs::Intx(intx) = &*irqs else {
            return Err(EINVAL);
        };
        match action {
            _ if !wanted => {}
            IrqAction::Mask => intx.mask(),
            IrqAction::Unmask => intx.unmask(),
            IrqAction::Trigger => intx.signal(),
        }
        Ok(())
    }

    /// Sets what the pin signals, and switches it on if it is off; or what unmasks it.
    fn set_intx_eventfd(&self, irqs: &mut Irqs, action: IrqAction, fds: &[i32]) -> Result {
        let fd = *fds.first().ok_or(EINVAL)?;
        match (action, irqs) {
            // ERRNO: ENOTTY, as vfio_pci_set_intx_mask().
            (IrqAction::Mask, Irqs::Intx(_)) => Err(ENOTTY),
            (IrqAction::Unmask, Irqs::Intx(intx)) => {
                let eventfd = match fd {
                    0.. => Some(EventFdFile::fdget(fd)?),
                    _ => None,
                };
                intx.set_unmask_eventfd(eventfd, &self.worker)
            }
            (IrqAction::Trigger, Irqs::Intx(intx)) => intx.set_eventfd(eventfd(fd)?),
            (IrqAction::Trigger, irqs @ Irqs::Off) => {
                *irqs = Irqs::Intx(Intx::request(&self.pin, eventfd(fd)?)?);
                Ok(())
            }
            _ => Err(EINVAL),
        }
    }

    /// Switches the pin off.
    pub(super) fn disable_intx(&self, mut intx: Intx) {
        // Waits for the worker, so without the lock.
        let _ = intx.set_unmask_eventfd(None, &self.worker);
        drop(intx);
    }
}

/// The eventfd of a descriptor; negative for none.
fn eventfd(fd: i32) -> Result<Option<EventFd>> {
    match fd {
        0.. => Ok(Some(EventFd::fdget(fd)?)),
        _ => Ok(None),
    }
}
