// SPDX-License-Identifier: GPL-2.0

//! Interrupts that signal an eventfd, `include/linux/interrupt.h`.
//!
//! `kernel::irq::Registration` takes a name that lives forever, while ours name a device and a
//! vector, and is not to outlive a borrow of the bound device, while ours belong to a file.

use kernel::{
    error::to_result,
    fmt,
    prelude::*,
    str::CString, //
};
use vfio_bindings as bindings;

use crate::eventfd::EventFd;

/// A requested interrupt line; dropping it waits for a running handler and frees the line.
///
/// Whoever owns the line (`pci::MsiVectors`) must keep it allocated for as long.
///
/// # Invariants
///
/// The line `irq` is requested, for `signal_eventfd` with the context of `eventfd`, and with
/// `_name` as its name.
pub(crate) struct EventFdIrq {
    irq: u32,
    eventfd: EventFd,
    /// The kernel keeps a pointer to it until the line is freed.
    _name: CString,
}

impl EventFdIrq {
    /// Has `eventfd` signalled at each interrupt `irq`, shown as `name` in `/proc/interrupts`.
    ///
    /// May sleep.
    pub(crate) fn request(irq: u32, name: fmt::Arguments<'_>, eventfd: EventFd) -> Result<Self> {
        let name = CString::try_from_fmt(name)?;
        // SAFETY: The context that the handler gets lives until `drop` freed the line, and so
        // does the name, whose buffer does not move with the `CString`.
        to_result(unsafe {
            bindings::request_threaded_irq(
                irq,
                Some(signal_eventfd),
                None,
                0,
                name.as_char_ptr(),
                eventfd.as_ptr().cast(),
            )
        })?;
        // INVARIANT: Requested above.
        Ok(Self {
            irq,
            eventfd,
            _name: name,
        })
    }

    /// The Linux interrupt number.
    pub(crate) fn number(&self) -> u32 {
        self.irq
    }

    /// What is signalled.
    pub(crate) fn eventfd(&self) -> &EventFd {
        &self.eventfd
    }

    /// Signals as the interrupt would.
    pub(crate) fn signal(&self) {
        self.eventfd.signal();
    }
}

impl Drop for EventFdIrq {
    fn drop(&mut self) {
        // SAFETY: Requested with this context, by the type invariant.
        unsafe { bindings::free_irq(self.irq, self.eventfd.as_ptr().cast()) };
    }
}

/// The interrupt handler.
///
/// # Safety
///
/// Called by the interrupt core, with the context of a line that [`EventFdIrq::request`] requested.
unsafe extern "C" fn signal_eventfd(_irq: c_int, ctx: *mut c_void) -> bindings::irqreturn_t {
    // SAFETY: `request` passed an eventfd context that it keeps referenced.
    unsafe { bindings::eventfd_signal_mask(ctx.cast(), 0) };
    bindings::irqreturn::IRQ_HANDLED
}
