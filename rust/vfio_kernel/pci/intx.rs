// SPDX-License-Identifier: GPL-2.0

//! The interrupt pin, level-triggered, to an eventfd.
//!
//! An interrupt masks itself, as the device keeps asking until its user has served it; the user
//! then unmasks. A device that can be masked in its command register (PCI 2.3) may share the line
//! with others, any other needs the line for itself and is masked at the interrupt controller.

use kernel::{
    error::to_result,
    new_spinlock_irq,
    prelude::*,
    str::CString,
    sync::SpinLockIrq, //
};
use vfio_bindings as bindings;

use super::PciDevice;
use crate::eventfd::EventFd;

/// A requested interrupt pin. Dropping it waits for a running handler and frees the line.
pub struct Intx {
    inner: Pin<KBox<Inner>>,
    /// The kernel keeps a pointer to it until the line is freed.
    _name: CString,
}

#[pin_data]
struct Inner {
    dev: PciDevice,
    irq: u32,
    /// Masked in the device, not at the interrupt controller.
    in_device: bool,
    #[pin]
    state: SpinLockIrq<State>,
}

struct State {
    eventfd: Option<EventFd>,
    masked: bool,
}

impl PciDevice {
    /// Whether the pin can be masked in the device's command register.
    pub fn intx_mask_supported(&self) -> bool {
        // SAFETY: The device is alive.
        unsafe { bindings::vfio_rs_pci_intx_mask_supported(self.as_ptr()) }
    }

    /// Whether there is an interrupt line behind the pin.
    pub fn has_irq(&self) -> bool {
        !matches!(self.irq(), 0 | bindings::IRQ_NOTCONNECTED)
    }
}

impl Intx {
    /// Has `eventfd` signalled by the pin, which starts masked if `masked` says so. May sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is no line, `EBUSY` if it cannot be shared, `ENOMEM`.
    pub fn request(dev: &PciDevice, eventfd: Option<EventFd>, masked: bool) -> Result<Self> {
        if !dev.has_irq() {
            return Err(ENODEV);
        }
        let in_device = dev.intx_mask_supported();
        let name = CString::try_from_fmt(fmt!(
            "vfio-intx({})",
            kernel::str::BStr::from_bytes(dev.name().to_bytes())
        ))?;
        let irq = dev.irq();
        let inner = KBox::pin_init(
            pin_init!(Inner {
                dev: dev.clone(),
                irq,
                in_device,
                state <- new_spinlock_irq!(State { eventfd, masked }),
            }),
            GFP_KERNEL,
        )?;
        let flags = match (in_device, masked) {
            (true, _) => bindings::IRQF_SHARED,
            (false, true) => bindings::IRQF_NO_AUTOEN,
            (false, false) => 0,
        };
        if in_device {
            dev.intx(!masked);
        } else {
            // SAFETY: Any number may be passed; the device's line is ours to set up.
            unsafe { bindings::vfio_rs_irq_set_unlazy(irq, true) };
        }
        // SAFETY: The context that the handler gets is pinned and lives until `drop` freed the
        // line, and so does the name, whose buffer does not move with the `CString`.
        let ret = to_result(unsafe {
            bindings::request_threaded_irq(
                irq,
                Some(handle_intx),
                None,
                flags as usize,
                name.as_char_ptr(),
                core::ptr::from_ref(&*inner).cast_mut().cast(),
            )
        });
        if let Err(err) = ret {
            inner.set_lazy();
            return Err(err);
        }
        Ok(Self { inner, _name: name })
    }

    /// Has another eventfd signalled, or none.
    pub fn set_eventfd(&self, eventfd: Option<EventFd>) {
        let old = core::mem::replace(&mut self.inner.state.lock().eventfd, eventfd);
        drop(old);
    }

    /// Signals as the interrupt would.
    pub fn signal(&self) {
        self.inner.state.lock().signal();
    }

    /// Keeps the device from raising the interrupt.
    pub fn mask(&self) {
        let mut state = self.inner.state.lock();
        if !state.masked {
            self.inner.set_enabled(false);
            state.masked = true;
        }
    }

    /// Lets the device raise the interrupt again; signals at once if it already asks for one.
    pub fn unmask(&self) {
        let mut state = self.inner.state.lock();
        if !state.masked {
            return;
        }
        if self.inner.in_device {
            // SAFETY: The device is alive. The call only unmasks a pin that is quiet.
            let quiet = unsafe { bindings::pci_check_and_unmask_intx(self.inner.dev.as_ptr()) };
            if !quiet {
                state.signal();
                return;
            }
        } else {
            self.inner.set_enabled(true);
        }
        state.masked = false;
    }
}

impl State {
    fn signal(&self) {
        if let Some(eventfd) = &self.eventfd {
            eventfd.signal();
        }
    }
}

impl Inner {
    fn set_enabled(&self, enabled: bool) {
        match (self.in_device, enabled) {
            (true, _) => self.dev.intx(enabled),
            // SAFETY: The line is requested. Each disable is paired with one enable by `masked`.
            (false, true) => unsafe { bindings::enable_irq(self.irq) },
            // SAFETY: As above.
            (false, false) => unsafe { bindings::disable_irq_nosync(self.irq) },
        }
    }

    fn set_lazy(&self) {
        if !self.in_device {
            // SAFETY: Any number may be passed; undoes what `request` did.
            unsafe { bindings::vfio_rs_irq_set_unlazy(self.irq, false) };
        }
    }
}

impl Drop for Intx {
    fn drop(&mut self) {
        // SAFETY: Requested by `request` with this context.
        unsafe {
            bindings::free_irq(
                self.inner.irq,
                core::ptr::from_ref(&*self.inner).cast_mut().cast(),
            )
        };
        self.inner.set_lazy();
    }
}

/// The interrupt handler.
///
/// # Safety
///
/// Called by the interrupt core, with the context of a line that [`Intx::request`] requested.
unsafe extern "C" fn handle_intx(_irq: c_int, ctx: *mut c_void) -> bindings::irqreturn_t {
    // SAFETY: `request` passed a pinned `Inner`, which lives until the line is freed.
    let inner = unsafe { &*ctx.cast::<Inner>() };
    let mut state = inner.state.lock();
    if inner.in_device {
        // SAFETY: The device is alive. The call only masks a pin that is asserted.
        let ours = || unsafe { bindings::pci_check_and_mask_intx(inner.dev.as_ptr()) };
        if state.masked || !ours() {
            // Another device on the line.
            return bindings::irqreturn::IRQ_NONE;
        }
    } else {
        inner.set_enabled(false);
    }
    state.masked = true;
    state.signal();
    bindings::irqreturn::IRQ_HANDLED
}
