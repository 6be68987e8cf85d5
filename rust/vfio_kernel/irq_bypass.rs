// SPDX-License-Identifier: GPL-2.0

//! Interrupts that may bypass the kernel, `include/linux/irqbypass.h`: KVM can have a device's
//! interrupt delivered to a guest straight away if it knows which eventfd both stand for.
//!
//! Nothing happens where the kernel has no `CONFIG_IRQ_BYPASS_MANAGER`.

use kernel::{
    error::to_result,
    prelude::*,
    types::Opaque, //
};
use vfio_bindings as bindings;

use crate::eventfd::EventFd;

/// A registered producer. Dropping it disconnects it, before the interrupt is freed.
pub(crate) struct Producer(Pin<KBox<Opaque<bindings::irq_bypass_producer>>>);

// SAFETY: The manager guards the struct by a mutex of its own.
unsafe impl Send for Producer {}
// SAFETY: As above.
unsafe impl Sync for Producer {}

impl Producer {
    /// Announces that `eventfd` stands for the interrupt `irq`. May sleep.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the eventfd stands for another already, `ENOMEM`, what KVM says.
    pub(crate) fn register(eventfd: &EventFd, irq: u32) -> Result<Self> {
        let producer = KBox::pin_init(Opaque::zeroed(), GFP_KERNEL)?;
        // SAFETY: The struct is zeroed, pinned, and stays until `drop` unregistered it. The eventfd
        // is used as a key only.
        to_result(unsafe {
            bindings::vfio_rs_irq_bypass_register(producer.get(), eventfd.as_ptr(), irq.try_into()?)
        })?;
        Ok(Self(producer))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // SAFETY: Registered by `register`.
        unsafe { bindings::vfio_rs_irq_bypass_unregister(self.0.get()) }
    }
}
