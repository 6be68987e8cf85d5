// SPDX-License-Identifier: GPL-2.0

//! The interrupt pin of a device, and the command register that it shares with others.
//!
//! A device that has it (PCI 2.3) is masked by a bit of the command register, any other at the
//! interrupt controller. That bit is nobody's but this file's, the rest of the register the user's
//! and the PCI core's; and it can only be changed by reading the register and writing all of it.
//! So what changes the register does so in one of two ways:
//!
//! - with [`IntxPin::state`](IntxPin) locked, as interrupts do that mask the pin, and eventfds that
//!   unmask it: also a user's write of the register ([`IntxPin::write_command`]), in which the bit
//!   is what it should be;
//! - or by holding the pin ([`IntxPin::hold`]), for as long as the register is changed by the PCI
//!   core, or may be lost: resets, changes of the power state, sleep, memory that is switched on
//!   for a moment. Then the pin is masked, nobody here touches the register, and what interrupts
//!   and users want meanwhile is noted. When the last one lets go, the bit is written as it should
//!   be.
//!
//! What others do at any time, as the arbiter of VGA ranges does, is put right by
//! [`IntxPin::settle`].
//!
//! Lock: `IntxPin::state`. It is taken under the lock of the unmasking eventfd's wait queue, so no
//! eventfd is signalled under it.

use kernel::{
    new_spinlock_irq,
    prelude::*,
    sync::{
        Arc,
        SpinLockIrq, //
    },
};
use vfio_bindings as bindings;

use super::{
    config::ConfigWidth,
    BoundPci,
    PciDevice, //
};
use crate::eventfd::EventFd;

/// How a pin is kept from interrupting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum IntxMask {
    /// In the device's command register.
    InDevice,
    /// At the interrupt controller, so the line must not be shared.
    AtController,
    /// In the command register, for good, as its masking is broken.
    Always,
}

/// See the module's documentation.
///
/// # Invariants
///
/// Of a pin that is masked at the interrupt controller, and while `state` has a line, which then is
/// requested: that line was disabled once more often than enabled if `state` says `masked`, else as
/// often.
#[pin_data]
pub struct IntxPin {
    pub(super) dev: BoundPci,
    mask: IntxMask,
    #[pin]
    pub(super) state: SpinLockIrq<PinState>,
}

pub(super) struct PinState {
    /// Somebody listens, or is about to.
    pub(super) taken: bool,
    /// The line, from when all is set up for its interrupts.
    pub(super) line: Option<u32>,
    pub(super) eventfd: Option<Arc<EventFd>>,
    /// Always while nobody listens, and while the pin is held.
    masked: bool,
    /// The user disabled the pin in the command register: neither signalled nor unmasked.
    disabled: bool,
    /// How many hold the pin.
    holders: u32,
    /// The device sleeps, which holds it too.
    asleep: bool,
    /// To be unmasked when nobody holds it any more.
    unmask: bool,
}

impl PinState {
    fn is_held(&self) -> bool {
        self.holders != 0 || self.asleep
    }
}

/// What an interrupt is to a pin.
pub(super) enum Heard {
    /// Another device's on the line.
    Others,
    /// From before the pin was masked; the device will ask again.
    Late,
    /// Its own: it is masked now.
    Own,
}

impl PciDevice {
    /// Whether the pin can be masked in the device's command register.
    pub fn intx_mask_supported(&self) -> bool {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { bindings::vfio_rs_pci_intx_mask_supported(self.as_ptr()) }
    }
}

impl IntxPin {
    /// Offset of the command register, and the bit in it that masks, `pci_regs.h`.
    const COMMAND: u16 = 0x4;
    const DISABLE: u32 = 0x400;

    /// A pin that nobody listens to, and that so does not storm the others on its line.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(dev: &BoundPci, mask: IntxMask) -> Result<Arc<Self>> {
        let state = PinState {
            taken: false,
            line: None,
            eventfd: None,
            masked: true,
            disabled: false,
            holders: 0,
            asleep: false,
            unmask: false,
        };
        let pin = Arc::pin_init(
            pin_init!(Self {
                dev: dev.clone(),
                mask,
                state <- new_spinlock_irq!(state, "IntxPin::state"),
            }),
            GFP_KERNEL,
        )?;
        pin.settle();
        Ok(pin)
    }

    /// Whether it is masked in the device, so that others may have the same line.
    pub(super) fn in_device(&self) -> bool {
        self.mask == IntxMask::InDevice
    }

    /// Keeps everybody here from the command register until it is dropped.
    pub fn hold(&self) -> PinHold<'_> {
        self.begin_hold();
        PinHold(self)
    }

    /// As [`hold`](Self::hold), until [`end_hold`](Self::end_hold).
    pub fn begin_hold(&self) {
        let mut state = self.state.lock();
        self.enter(&mut state);
        state.holders = state.holders.saturating_add(1);
    }

    /// Undoes one [`begin_hold`](Self::begin_hold). After the last one the pin is masked in the
    /// device, or not, as it should be. May signal the eventfd.
    pub fn end_hold(&self) {
        let mut state = self.state.lock();
        state.holders = state.holders.saturating_sub(1);
        let quiet = self.leave(&mut state);
        drop(state);
        if !quiet {
            self.signal();
        }
    }

    /// The device falls asleep: holds the pin until [`resume`](Self::resume).
    pub fn suspend(&self) {
        let mut state = self.state.lock();
        self.enter(&mut state);
        state.asleep = true;
    }

    /// The device is awake, and the kernel has restored what it had configured.
    pub fn resume(&self) {
        let mut state = self.state.lock();
        state.asleep = false;
        let quiet = self.leave(&mut state);
        drop(state);
        if !quiet {
            self.signal();
        }
    }

    /// Writes to the device whether its pin is masked, if somebody may have changed that.
    pub fn settle(&self) {
        self.write_mask(&self.state.lock());
    }

    /// Writes the command register for a user, `offset` bytes into the configuration space, or a
    /// part of it; but for the bit that masks the pin.
    ///
    /// # Errors
    ///
    /// As [`PciDevice::write_config`].
    pub fn write_command(&self, offset: u16, width: ConfigWidth, value: u32) -> Result {
        let state = self.state.lock();
        let bit = match (offset, width) {
            (Self::COMMAND, ConfigWidth::Word | ConfigWidth::Dword) => Self::DISABLE,
            (at, _) if at == Self::COMMAND + 1 => Self::DISABLE >> 8,
            _ => 0,
        };
        let value = match (self.mask, state.masked) {
            (IntxMask::AtController, _) => value,
            (_, true) => value | bit,
            (_, false) => value & !bit,
        };
        self.dev.write_config(offset, width, value)?;
        if bit == 0 {
            self.write_mask(&state);
        }
        Ok(())
    }

    /// Follows the interrupt disable bit of the command register as the user sees it. May signal
    /// the eventfd.
    pub fn set_disabled(&self, disabled: bool) {
        let mut state = self.state.lock();
        state.disabled = disabled;
        if disabled {
            self.mask_locked(&mut state);
        } else {
            drop(state);
            self.unmask();
        }
    }

    pub(super) fn signal(&self) {
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

    pub(super) fn mask(&self) {
        self.mask_locked(&mut self.state.lock());
    }

    pub(super) fn mask_locked(&self, state: &mut PinState) {
        state.unmask = false;
        if !state.masked {
            self.set_enabled(state, false);
            // INVARIANT: It was not, so this is the one time more.
            state.masked = true;
        }
    }

    pub(super) fn unmask(&self) {
        if !self.try_unmask() {
            self.signal();
        }
    }

    /// Unmasks; false if the device already asks for an interrupt, which then stays masked.
    pub(super) fn try_unmask(&self) -> bool {
        self.try_unmask_locked(&mut self.state.lock())
    }

    fn try_unmask_locked(&self, state: &mut PinState) -> bool {
        if state.is_held() {
            state.unmask = true;
            return true;
        }
        if state.line.is_none() || !state.masked || state.disabled {
            return true;
        }
        if self.in_device() {
            // SAFETY: The device is alive (type invariant of `PciDevice`). The call only unmasks a
            // pin that is quiet.
            let quiet = unsafe { bindings::pci_check_and_unmask_intx(self.dev.as_ptr()) };
            if !quiet {
                return false;
            }
        } else {
            self.set_enabled(state, true);
        }
        // INVARIANT: It was masked, so this is the time that was missing.
        state.masked = false;
        true
    }

    /// What an interrupt on the line means; masks the pin if it is its own.
    pub(super) fn hear(&self) -> Heard {
        let mut state = self.state.lock();
        if self.in_device() {
            // SAFETY: The device is alive (type invariant of `PciDevice`). The call only masks a
            // pin that is asserted.
            let ours = || unsafe { bindings::pci_check_and_mask_intx(self.dev.as_ptr()) };
            // Asked of a masked pin too, which a reset may have unmasked in the device.
            if state.line.is_none() || state.is_held() || !ours() || state.masked {
                return Heard::Others;
            }
            state.masked = true;
        } else if state.masked {
            return Heard::Late;
        } else {
            self.mask_locked(&mut state);
        }
        Heard::Own
    }

    /// Somebody is about to hold the pin.
    fn enter(&self, state: &mut PinState) {
        if !state.is_held() {
            let unmask = !state.masked;
            self.mask_locked(state);
            state.unmask = unmask;
        }
    }

    /// Somebody no longer holds the pin. Returns false if the device asks for an interrupt.
    fn leave(&self, state: &mut PinState) -> bool {
        if state.is_held() {
            return true;
        }
        let quiet = !core::mem::take(&mut state.unmask) || self.try_unmask_locked(state);
        self.write_mask(state);
        quiet
    }

    /// Has the device's own mask follow `masked`.
    fn write_mask(&self, state: &PinState) {
        if self.mask != IntxMask::AtController && !state.is_held() {
            self.dev.intx(!state.masked);
        }
    }

    fn set_enabled(&self, state: &PinState, enabled: bool) {
        match (self.mask, state.line) {
            (IntxMask::InDevice, _) => self.dev.intx(enabled),
            (IntxMask::AtController, Some(irq)) if enabled => {
                // SAFETY: The line is requested. By the type invariant each enable follows a
                // disable: callers keep `masked`.
                unsafe { bindings::enable_irq(irq) }
            }
            // SAFETY: As above.
            (IntxMask::AtController, Some(irq)) => unsafe { bindings::disable_irq_nosync(irq) },
            (IntxMask::AtController | IntxMask::Always, _) => {}
        }
    }
}

/// A pin that is held, until dropped, which may signal its eventfd.
pub struct PinHold<'a>(&'a IntxPin);

impl Drop for PinHold<'_> {
    fn drop(&mut self) {
        self.0.end_hold();
    }
}
