// SPDX-License-Identifier: GPL-2.0
//! A device whose interrupt pin is in use.

use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use vfio_client::config::COMMAND;
use vfio_client::irq::IrqData;
use vfio_client::uapi::*;
use vfio_client::{Device, Edu, Event};

use crate::setup::{GLANCE, Opened, PATIENCE, is_amd_iommu, slowness};
use crate::{Outcome, Result, same, skip};

/// Number of the pin among the kinds of interrupts.
pub const INTX: u32 = VFIO_PCI_INTX_IRQ_INDEX;
/// Actions of VFIO_DEVICE_SET_IRQS.
pub const MASK: u32 = VFIO_IRQ_SET_ACTION_MASK;
/// As above.
pub const UNMASK: u32 = VFIO_IRQ_SET_ACTION_UNMASK;
/// As above.
pub const TRIGGER: u32 = VFIO_IRQ_SET_ACTION_TRIGGER;
/// Interrupt disable, in the command register.
pub const DISABLE: u16 = 0x400;

/// A device whose pin signals `trigger`.
#[derive(Debug)]
pub struct Pin {
    /// What it signals.
    pub trigger: Event,
    /// The device, an edu.
    pub opened: Opened,
}

impl Pin {
    /// Switches the pin of an edu on.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn new(opened: Opened) -> Result<Self> {
        // edu has no reset; QEMU's IOAPIC loses a pin that is asserted before it is set up.
        Edu::new(&opened.device)?.ack_irq(!0)?;
        let trigger = Event::new()?;
        opened.device.enable_irqs(INTX, &[trigger.as_raw_fd()])?;
        Ok(Self { trigger, opened })
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.opened.device
    }

    /// The device as one that can assert the pin; skips where that is dead.
    ///
    /// # Errors
    /// The kernel's errno, or what came instead.
    pub fn edu(&self) -> Result<Edu<'_>> {
        if is_amd_iommu() {
            skip!("interrupt pins are dead behind QEMU's AMD-Vi");
        }
        Ok(Edu::new(self.device())?)
    }

    /// VFIO_DEVICE_SET_IRQS without data.
    ///
    /// # Errors
    /// The kernel's errno, or what came instead.
    pub fn act(&self, action: u32) -> std::io::Result<i32> {
        self.device().set_irqs(INTX, action, 0, 1, IrqData::None)
    }

    /// Has `fd` unmask the pin, or nobody.
    ///
    /// # Errors
    /// The kernel's errno, or what came instead.
    pub fn unmask_by(&self, fd: i32) -> std::io::Result<i32> {
        self.device()
            .set_irqs(INTX, UNMASK, 0, 1, IrqData::Eventfd(&[fd]))
    }

    /// One signal comes.
    ///
    /// # Errors
    /// The kernel's errno, or what came instead.
    pub fn heard(&self, what: &str) -> Outcome {
        same(what, self.trigger.wait(PATIENCE * slowness())?, Some(1))
    }

    /// No signal comes.
    ///
    /// # Errors
    /// The kernel's errno, or what came instead.
    pub fn silent(&self, what: &str) -> Outcome {
        same(what, self.trigger.wait(GLANCE)?, None)
    }

    /// Clears and sets bits of the command register.
    ///
    /// # Errors
    /// The kernel's errno, or what came instead.
    pub fn command(&self, clear: u16, set: u16) -> Outcome {
        Ok(self.device().config()?.update_command(clear, set)?)
    }

    /// The interrupt disable bit that the device has, whatever its user sees.
    ///
    /// # Errors
    /// If the file in sysfs cannot be read.
    pub fn real_disable(&self) -> Result<u16> {
        real_disable(&self.opened)
    }
}

/// See [`Pin::real_disable`].
///
/// # Errors
/// If the file in sysfs cannot be read.
pub fn real_disable(opened: &Opened) -> Result<u16> {
    let path = opened.bound.pci.path().join("config");
    let mut word = [0; 2];
    std::fs::File::open(path)?.read_exact_at(&mut word, COMMAND)?;
    Ok(u16::from_le_bytes(word) & DISABLE)
}
