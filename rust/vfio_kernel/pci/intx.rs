// SPDX-License-Identifier: GPL-2.0

//! The interrupt pin, level-triggered, to an eventfd.
//!
//! An interrupt masks itself, as the device keeps asking until its user has served it; the user
//! then unmasks, by a call or by an eventfd. A device that can be masked in its command register
//! (PCI 2.3) may share the line with others, any other needs the line for itself and is masked at
//! the interrupt controller.
//!
//! Lock: `Intx::state`. It is taken under the lock of the unmasking eventfd's wait queue, so no
//! eventfd is signalled under it.

use kernel::{
    error::to_result,
    new_spinlock_irq,
    prelude::*,
    str::CString,
    sync::{
        Arc,
        SpinLockIrq, //
    },
};
use vfio_bindings as bindings;

use super::PciDevice;
use crate::{
    eventfd::{
        EventFd,
        EventFdFile, //
    },
    log,
    virqfd::{
        Effect,
        OnSignal,
        Virqfd, //
    },
    worker::Worker,
};

/// A requested interrupt pin. Dropping it waits for a running handler and frees the line.
///
/// # Invariants
///
/// The line `inner.irq` is requested, for `handle_intx` with `inner` as its context and `_name` as
/// its name.
pub struct Intx {
    /// Unmasks when signalled.
    unmask: Option<Virqfd<Unmask>>,
    inner: Arc<Inner>,
    /// The kernel keeps a pointer to it until the line is freed.
    _name: CString,
}

/// # Invariants
///
/// Of a pin that is masked at the interrupt controller, and is requested: it was disabled once more
/// often than enabled if `state` says `masked`, else as often.
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
    eventfd: Option<Arc<EventFd>>,
    masked: bool,
    /// The user disabled the pin in the command register: neither signalled nor unmasked.
    disabled: bool,
    /// While the device sleeps, masked and not to be accessed: whether to unmask when it wakes up.
    asleep: Option<bool>,
}

impl PciDevice {
    /// Whether the pin can be masked in the device's command register.
    pub fn intx_mask_supported(&self) -> bool {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { bindings::vfio_rs_pci_intx_mask_supported(self.as_ptr()) }
    }

    /// Whether there is an interrupt line behind the pin.
    pub fn has_irq(&self) -> bool {
        is_line(self.irq())
    }
}

impl Intx {
    /// Has `eventfd` signalled by the pin, which starts masked if it is `disabled`. One that is
    /// masked in the device, as `in_device` says, is masked before and after. May sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is no line, `EBUSY` if it cannot be shared, `ENOMEM`.
    pub fn request(
        dev: &PciDevice,
        eventfd: Option<EventFd>,
        in_device: bool,
        disabled: bool,
    ) -> Result<Self> {
        // Read once: MSIs put another there.
        let irq = dev.irq();
        if !is_line(irq) {
            return Err(ENODEV);
        }
        let name = CString::try_from_fmt(fmt!("vfio-intx({})", dev.name_str()))?;
        let state = State {
            eventfd: shared(eventfd)?,
            masked: disabled,
            disabled,
            asleep: None,
        };
        let inner = Arc::pin_init(
            pin_init!(Inner {
                dev: dev.clone(),
                irq,
                in_device,
                state <- new_spinlock_irq!(state, "Intx::state"),
            }),
            GFP_KERNEL,
        )?;
        let flags = match (in_device, disabled) {
            (true, _) => bindings::IRQF_SHARED,
            (false, true) => bindings::IRQF_NO_AUTOEN,
            (false, false) => 0,
        };
        // A line that another has, and does not share, is told below, and not each time.
        let flags = flags | bindings::IRQF_PROBE_SHARED;
        if !in_device {
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
                Arc::as_ptr(&inner).cast_mut().cast(),
            )
        });
        if let Err(err) = ret {
            inner.set_lazy();
            if err == EBUSY && log::may_log(log::Subject::Lines) {
                dev_info!(dev.device(), "Interrupt line {irq} cannot be shared\n");
            }
            return Err(err);
        }
        inner.restore();
        // INVARIANT: Requested above; and with `IRQF_NO_AUTOEN`, as if disabled, if `masked`.
        Ok(Self {
            unmask: None,
            inner,
            _name: name,
        })
    }

    /// Has another eventfd signalled, or none; the old one is not signalled any more. May sleep.
    pub fn set_eventfd(&self, eventfd: Option<EventFd>) -> Result {
        let eventfd = shared(eventfd)?;
        let old = core::mem::replace(&mut self.inner.state.lock().eventfd, eventfd);
        if old.is_some() {
            // SAFETY: The line is requested by the type invariant, and the caller may sleep.
            unsafe { bindings::synchronize_irq(self.inner.irq) };
            if let Some(unmask) = &self.unmask {
                unmask.flush();
            }
        }
        Ok(())
    }

    /// Unmasks at each signal of `eventfd`, or at none; by `worker` where that cannot be done at
    /// once. May sleep.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is one that its user has not closed, `ENOMEM`.
    pub fn set_unmask_eventfd(
        &mut self,
        eventfd: Option<EventFdFile>,
        worker: &Arc<Worker>,
    ) -> Result {
        let Some(eventfd) = eventfd else {
            self.unmask = None;
            return Ok(());
        };
        if self.unmask.as_ref().is_some_and(|old| !old.is_hung_up()) {
            return Err(EBUSY);
        }
        self.unmask = None;
        let unmask = Unmask(self.inner.clone());
        self.unmask = Some(Virqfd::new(eventfd, worker, Effect::AtOnce, unmask)?);
        Ok(())
    }

    /// Signals as the interrupt would.
    pub fn signal(&self) {
        self.inner.signal();
    }

    /// Keeps the device from raising the interrupt.
    pub fn mask(&self) {
        self.inner.mask(&mut self.inner.state.lock());
    }

    /// Lets the device raise the interrupt again; signals at once if it already asks for one.
    pub fn unmask(&self) {
        self.inner.unmask();
    }

    /// Masks the pin until [`resume`](Self::resume).
    pub fn suspend(&self) {
        let mut state = self.inner.state.lock();
        state.asleep = Some(!state.masked);
        self.inner.mask(&mut state);
    }

    /// Undoes [`suspend`](Self::suspend), and unmasks if that was asked for meanwhile.
    pub fn resume(&self) {
        let unmask = self.inner.state.lock().asleep.take();
        if unmask == Some(true) {
            self.inner.unmask();
        }
        // The kernel has restored what may be older.
        self.inner.restore();
    }

    /// Writes to a device that lost it whether its pin is masked.
    pub fn restore(&self) {
        self.inner.restore();
    }

    /// Follows the interrupt disable bit of the command register as the user sees it.
    pub fn set_disabled(&self, disabled: bool) {
        let mut state = self.inner.state.lock();
        state.disabled = disabled;
        if disabled {
            self.inner.mask(&mut state);
        } else {
            drop(state);
            self.inner.unmask();
        }
    }
}

fn is_line(irq: u32) -> bool {
    !matches!(irq, 0 | bindings::IRQ_NOTCONNECTED)
}

/// An eventfd that can be signalled after the lock around it was dropped.
fn shared(eventfd: Option<EventFd>) -> Result<Option<Arc<EventFd>>> {
    let eventfd = eventfd.map(|eventfd| Arc::new(eventfd, GFP_KERNEL));
    Ok(eventfd.transpose()?)
}

/// Unmasks when the user has served the interrupt.
struct Unmask(Arc<Inner>);

impl OnSignal for Unmask {
    fn wake(&self) -> bool {
        // Who signals it may be an eventfd that this hangs on, so not here.
        !self.0.try_unmask()
    }

    fn work(&self) {
        self.0.unmask();
    }
}

impl Inner {
    fn signal(&self) {
        let eventfd = {
            let state = self.state.lock();
            if state.disabled {
                None
            } else {
                state.eventfd.clone()
            }
        };
        if let Some(eventfd) = eventfd {
            eventfd.signal();
        }
    }

    fn mask(&self, state: &mut State) {
        if !state.masked {
            self.set_enabled(false);
            // INVARIANT: It was not, so this is the one time more.
            state.masked = true;
        }
    }

    fn unmask(&self) {
        if !self.try_unmask() {
            self.signal();
        }
    }

    /// Unmasks; false if the device already asks for an interrupt, which then stays masked.
    fn try_unmask(&self) -> bool {
        let mut state = self.state.lock();
        if let Some(unmask) = &mut state.asleep {
            *unmask = true;
            return true;
        }
        if !state.masked || state.disabled {
            return true;
        }
        if self.in_device {
            // SAFETY: The device is alive (type invariant of `PciDevice`). The call only unmasks a
            // pin that is quiet.
            let quiet = unsafe { bindings::pci_check_and_unmask_intx(self.dev.as_ptr()) };
            if !quiet {
                return false;
            }
        } else {
            self.set_enabled(true);
        }
        // INVARIANT: It was masked, so this is the time that was missing.
        state.masked = false;
        true
    }

    fn set_enabled(&self, enabled: bool) {
        match (self.in_device, enabled) {
            (true, _) => self.dev.intx(enabled),
            // SAFETY: The line is requested. By the type invariant each enable follows a
            // disable: callers hold the lock, and keep `masked`.
            (false, true) => unsafe { bindings::enable_irq(self.irq) },
            // SAFETY: As above.
            (false, false) => unsafe { bindings::disable_irq_nosync(self.irq) },
        }
    }

    /// Has the device's own mask follow `masked`.
    fn restore(&self) {
        let state = self.state.lock();
        if self.in_device {
            self.dev.intx(!state.masked);
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
        self.unmask = None;
        if self.inner.in_device {
            // Others on the line are not to be stormed by what nobody listens to any more.
            self.inner.mask(&mut self.inner.state.lock());
        }
        // SAFETY: Requested with this context, by the type invariant.
        unsafe { bindings::free_irq(self.inner.irq, Arc::as_ptr(&self.inner).cast_mut().cast()) };
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
        // SAFETY: The device is alive (type invariant of `PciDevice`). The call only masks a pin
        // that is asserted.
        let ours = || unsafe { bindings::pci_check_and_mask_intx(inner.dev.as_ptr()) };
        // Asked of a masked pin too, which a reset may have unmasked in the device.
        if state.asleep.is_some() || !ours() || state.masked {
            // Another device on the line.
            return bindings::irqreturn::IRQ_NONE;
        }
        state.masked = true;
    } else if state.masked {
        // Came before the line was disabled; the device will ask again.
        return bindings::irqreturn::IRQ_HANDLED;
    } else {
        inner.mask(&mut state);
    }
    drop(state);
    inner.signal();
    bindings::irqreturn::IRQ_HANDLED
}
