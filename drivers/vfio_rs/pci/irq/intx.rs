// SPDX-License-Identifier: GPL-2.0

//! The interrupt pin.

use kernel::prelude::*;
use vfio_kernel::{
    eventfd::EventFd,
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
        let disabled = self.config.lock().intx_disabled();
        match action {
            _ if !wanted => {}
            IrqAction::Mask => intx.mask(),
            // A pin that the user disabled in the command register stays silent.
            _ if disabled => {}
            IrqAction::Unmask => intx.unmask(),
            IrqAction::Trigger => intx.signal(),
        }
        Ok(())
    }

    /// Sets what the pin signals; switches it on if it is off.
    fn set_intx_eventfd(&self, irqs: &mut Irqs, action: IrqAction, fds: &[i32]) -> Result {
        let fd = *fds.first().ok_or(EINVAL)?;
        match (action, &*irqs) {
            // ERRNO: ENOTTY, as vfio_pci_set_intx_mask(). Unmasking by an eventfd is not there yet.
            (IrqAction::Mask, Irqs::Intx(_)) => return Err(ENOTTY),
            (IrqAction::Unmask, Irqs::Intx(_)) if fd < 0 => return Ok(()),
            (IrqAction::Unmask, Irqs::Intx(_)) => return Err(ENOTTY),
            (IrqAction::Trigger, Irqs::Intx(_) | Irqs::Off) => {}
            _ => return Err(EINVAL),
        }
        let eventfd = match fd {
            0.. => Some(EventFd::fdget(fd)?),
            _ => None,
        };
        if let Irqs::Intx(intx) = irqs {
            intx.set_eventfd(eventfd);
        } else {
            let disabled = self.config.lock().intx_disabled();
            *irqs = Irqs::Intx(Intx::request(self.pci(), eventfd, disabled)?);
        }
        Ok(())
    }

    /// Does what the user's interrupt disable bit in the command register says.
    pub(in crate::pci) fn disable_intx_pin(&self, disable: bool) {
        if let Irqs::Intx(intx) = &*self.irqs.lock() {
            if disable {
                intx.mask();
            } else {
                intx.unmask();
            }
        }
    }
}
