// SPDX-License-Identifier: GPL-2.0

//! Interrupts: `VFIO_DEVICE_SET_IRQS`, one file for each kind that behaves alike.
//!
//! | file        | has                                                   |
//! |-------------|-------------------------------------------------------|
//! | `intx.rs`   | the interrupt pin                                     |
//! | `msi.rs`    | MSI and MSI-X                                         |
//! | `signal.rs` | error and request, which are no interrupts of the device |
//!
//! Lock: `Open::irqs` for the first, `Device::signals` for the second.

mod intx;
mod msi;
mod signal;

use kernel::prelude::*;
use vfio_kernel::{
    pci::{
        Intx,
        MsiKind, //
    },
    uapi,
};

use self::msi::MsiIrqs;
pub(super) use self::signal::Signals;
use super::Open;
use crate::uapi::irq_set::{
    IrqAction,
    IrqData, //
};

/// The interrupts that are on; only one kind can be.
pub(super) enum Irqs {
    Off,
    Intx(Intx),
    Msi(MsiIrqs),
}

impl Open {
    /// How many interrupts an index has.
    pub(crate) fn irq_count(&self, index: u32) -> u32 {
        match index {
            uapi::VFIO_PCI_INTX_IRQ_INDEX => self.config.lock().has_intx().into(),
            uapi::VFIO_PCI_MSI_IRQ_INDEX => self.msi_count,
            uapi::VFIO_PCI_MSIX_IRQ_INDEX => self.msix.map_or(0, |table| table.count()),
            uapi::VFIO_PCI_ERR_IRQ_INDEX | uapi::VFIO_PCI_REQ_IRQ_INDEX => 1,
            _ => 0,
        }
    }

    /// What can be done with an index, `VFIO_IRQ_INFO_*`.
    pub(crate) fn irq_flags(&self, index: u32) -> u32 {
        let eventfd = uapi::VFIO_IRQ_INFO_EVENTFD;
        match index {
            uapi::VFIO_PCI_INTX_IRQ_INDEX => {
                eventfd | uapi::VFIO_IRQ_INFO_MASKABLE | uapi::VFIO_IRQ_INFO_AUTOMASKED
            }
            uapi::VFIO_PCI_MSIX_IRQ_INDEX if self.pci().msix_can_alloc_dyn() => eventfd,
            _ => eventfd | uapi::VFIO_IRQ_INFO_NORESIZE,
        }
    }

    /// `VFIO_DEVICE_SET_IRQS`, after the range was checked against [`irq_count`](Self::irq_count).
    ///
    /// Returns 0, or how many vectors could be had where not all could.
    ///
    /// # Errors
    ///
    /// `ENOTTY` for an action that the index does not have; what the index says.
    pub(crate) fn set_irqs(
        &self,
        index: u32,
        action: IrqAction,
        start: u32,
        count: u32,
        data: &IrqData,
    ) -> Result<isize> {
        let mut signals;
        let slot = match (index, action) {
            (uapi::VFIO_PCI_INTX_IRQ_INDEX, _) => {
                return self.set_intx(action, start, count, data).map(|()| 0)
            }
            (uapi::VFIO_PCI_MSI_IRQ_INDEX, IrqAction::Trigger) => {
                return self.set_msi(MsiKind::Msi, start, count, data)
            }
            (uapi::VFIO_PCI_MSIX_IRQ_INDEX, IrqAction::Trigger) => {
                return self.set_msi(MsiKind::MsiX, start, count, data)
            }
            (uapi::VFIO_PCI_ERR_IRQ_INDEX, IrqAction::Trigger) => {
                signals = self.device.signals.lock();
                &mut signals.err
            }
            (uapi::VFIO_PCI_REQ_IRQ_INDEX, IrqAction::Trigger) => {
                signals = self.device.signals.lock();
                &mut signals.req
            }
            _ => return Err(ENOTTY),
        };
        signal::set_signal(slot, count, data).map(|()| 0)
    }

    /// Switches all interrupts of the device off.
    pub(super) fn disable_irqs(&self, irqs: &mut Irqs) {
        match core::mem::replace(irqs, Irqs::Off) {
            Irqs::Msi(msi) => self.disable_msi(msi),
            Irqs::Intx(intx) => self.disable_intx(intx),
            Irqs::Off => {}
        }
    }
}
