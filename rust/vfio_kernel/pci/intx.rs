// SPDX-License-Identifier: GPL-2.0

//! The interrupt pin, level-triggered, to an eventfd.
//!
//! An interrupt masks itself, as the device keeps asking until its user has served it; the user
//! then unmasks, by a call or by an eventfd. A device that can be masked in its command register
//! (PCI 2.3) may share the line with others, any other needs the line for itself and is masked at
//! the interrupt controller: see [`IntxPin`].

use kernel::{
    error::to_result,
    prelude::*,
    str::CString,
    sync::Arc, //
};
use vfio_bindings as bindings;

use super::{
    intx_pin::{
        Heard,
        IntxPin, //
    },
    PciDevice, //
};
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
/// The line `irq` is requested, for `handle_intx` with `pin` as its context and `_name` as its
/// name; and `pin` is taken by this one.
pub struct Intx {
    /// Unmasks when signalled.
    unmask: Option<Virqfd<Unmask>>,
    pin: Arc<IntxPin>,
    irq: u32,
    /// The kernel keeps a pointer to it until the line is freed.
    _name: CString,
}

impl PciDevice {
    /// Whether there is an interrupt line behind the pin.
    pub fn has_irq(&self) -> bool {
        is_line(self.irq())
    }
}

impl Intx {
    /// Has `eventfd` signalled by the pin, which is unmasked then, unless its user disabled it. May
    /// sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is no line, `EBUSY` if it cannot be shared or somebody listens already,
    /// `ENOMEM`.
    pub fn request(pin: &Arc<IntxPin>, eventfd: Option<EventFd>) -> Result<Self> {
        let dev = &pin.dev;
        // Read once: MSIs put another there.
        let irq = dev.irq();
        if !is_line(irq) {
            return Err(ENODEV);
        }
        let name = CString::try_from_fmt(fmt!("vfio-intx({})", dev.name_str()))?;
        let eventfd = shared(eventfd)?;
        let taken = TakenPin::new(pin, irq)?;
        // Until all is set up the pin stays masked.
        let flags = match pin.in_device() {
            true => bindings::IRQF_SHARED,
            false => bindings::IRQF_NO_AUTOEN,
        };
        // A line that another has, and does not share, is told below, and not each time.
        let flags = flags | bindings::IRQF_PROBE_SHARED;
        // SAFETY: The context that the handler gets is pinned and lives until `drop` freed the
        // line, and so does the name, whose buffer does not move with the `CString`.
        let ret = to_result(unsafe {
            bindings::request_threaded_irq(
                irq,
                Some(handle_intx),
                None,
                flags as usize,
                name.as_char_ptr(),
                Arc::as_ptr(pin).cast_mut().cast(),
            )
        });
        if let Err(err) = ret {
            if err == EBUSY && log::may_log(log::Subject::Lines) {
                dev_info!(dev.device(), "Interrupt line {irq} cannot be shared\n");
            }
            return Err(err);
        }
        // INVARIANT: Requested and taken above.
        core::mem::forget(taken);
        let this = Self {
            unmask: None,
            pin: pin.clone(),
            irq,
            _name: name,
        };
        let mut state = pin.state.lock();
        state.eventfd = eventfd;
        // INVARIANT: It is masked, as nobody listened, and was requested as if disabled.
        state.line = Some(irq);
        drop(state);
        pin.unmask();
        Ok(this)
    }

    /// Has another eventfd signalled, or none; the old one is not signalled any more. May sleep.
    pub fn set_eventfd(&self, eventfd: Option<EventFd>) -> Result {
        let eventfd = shared(eventfd)?;
        let old = core::mem::replace(&mut self.pin.state.lock().eventfd, eventfd);
        if old.is_some() {
            // SAFETY: The line is requested by the type invariant, and the caller may sleep.
            unsafe { bindings::synchronize_irq(self.irq) };
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
        let unmask = Unmask(self.pin.clone());
        self.unmask = Some(Virqfd::new(eventfd, worker, Effect::AtOnce, unmask)?);
        Ok(())
    }

    /// Signals as the interrupt would.
    pub fn signal(&self) {
        self.pin.signal();
    }

    /// Keeps the device from raising the interrupt.
    pub fn mask(&self) {
        self.pin.mask();
    }

    /// Lets the device raise the interrupt again; signals at once if it already asks for one.
    pub fn unmask(&self) {
        self.pin.unmask();
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

/// A pin that nobody else may listen to, until dropped.
struct TakenPin<'a> {
    pin: &'a IntxPin,
    irq: u32,
}

impl<'a> TakenPin<'a> {
    fn new(pin: &'a IntxPin, irq: u32) -> Result<Self> {
        if core::mem::replace(&mut pin.state.lock().taken, true) {
            return Err(EBUSY);
        }
        set_unlazy(pin, irq, true);
        Ok(Self { pin, irq })
    }
}

impl Drop for TakenPin<'_> {
    fn drop(&mut self) {
        set_unlazy(self.pin, self.irq, false);
        self.pin.state.lock().taken = false;
    }
}

/// A line that is masked at the controller is to be masked there at once.
fn set_unlazy(pin: &IntxPin, irq: u32, unlazy: bool) {
    if !pin.in_device() {
        // SAFETY: Any number may be passed; the device's line is ours to set up.
        unsafe { bindings::vfio_rs_irq_set_unlazy(irq, unlazy) };
    }
}

/// Unmasks when the user has served the interrupt.
struct Unmask(Arc<IntxPin>);

impl OnSignal for Unmask {
    fn wake(&self) -> bool {
        // Who signals it may be an eventfd that this hangs on, so not here.
        !self.0.try_unmask()
    }

    fn work(&self) {
        self.0.unmask();
    }
}

impl Drop for Intx {
    fn drop(&mut self) {
        self.unmask = None;
        let mut state = self.pin.state.lock();
        // Others on the line are not to be stormed by what nobody listens to any more.
        self.pin.mask_locked(&mut state);
        state.line = None;
        let eventfd = state.eventfd.take();
        drop(state);
        // SAFETY: Requested with this context, by the type invariant.
        unsafe { bindings::free_irq(self.irq, Arc::as_ptr(&self.pin).cast_mut().cast()) };
        drop(eventfd);
        drop(TakenPin {
            pin: &self.pin,
            irq: self.irq,
        });
    }
}

/// The interrupt handler.
///
/// # Safety
///
/// Called by the interrupt core, with the context of a line that [`Intx::request`] requested.
unsafe extern "C" fn handle_intx(_irq: c_int, ctx: *mut c_void) -> bindings::irqreturn_t {
    // SAFETY: `request` passed a pinned `IntxPin`, which lives until the line is freed.
    let pin = unsafe { &*ctx.cast::<IntxPin>() };
    match pin.hear() {
        Heard::Others => return bindings::irqreturn::IRQ_NONE,
        Heard::Late => {}
        Heard::Own => pin.signal(),
    }
    bindings::irqreturn::IRQ_HANDLED
}
