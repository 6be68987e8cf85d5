// SPDX-License-Identifier: GPL-2.0

//! The command register while the kernel needs the device's memory, whatever its user set.
//!
//! The register also has the bit that masks the interrupt pin, which interrupts and eventfds change
//! without a lock. Who writes the register back as it was before may undo that, so there is no way
//! to do it but by [`MemoryOn`], which then has the pin be as it should.
//!
//! Locks: `Open::irqs`, held by the caller, then `Open::memory`, not while the device is being
//! reset.

use vfio_kernel::{
    pci::Intx,
    rwsem::WriteGuard, //
};

use super::{
    irq::Irqs,
    open::{
        IntxMask,
        COMMAND,
        COMMAND_INTX_DISABLE,
        COMMAND_MEMORY, //
    },
    power::Memory,
    Open, //
};

/// Who listens to the interrupt pin, which cannot change meanwhile.
#[derive(Clone, Copy)]
pub(super) enum PinUser<'a> {
    /// It is set up, and masked as this says.
    Intx(&'a Intx),
    /// Nobody: it is off.
    Nobody,
}

impl<'a> PinUser<'a> {
    /// By the interrupts that are on.
    pub(super) fn of(irqs: &'a Irqs) -> Self {
        match irqs {
            Irqs::Intx(intx) => Self::Intx(intx),
            Irqs::Msi(_) | Irqs::Off => Self::Nobody,
        }
    }
}

/// The device answers memory accesses as long as this lives, and nobody else changes that. Then the
/// command register is as it was, and the pin as it should be.
struct MemoryOn<'a> {
    open: &'a Open,
    pin: PinUser<'a>,
    /// The register as it was.
    command: u16,
    /// It is to be written back.
    changed: bool,
    /// Let go of at last.
    _memory: WriteGuard<'a, Memory>,
}

impl<'a> MemoryOn<'a> {
    fn new(open: &'a Open, pin: PinUser<'a>) -> Self {
        let memory = open.settled(|| open.memory.write());
        let command = open.pci().read_config_word(COMMAND);
        let changed = command & COMMAND_MEMORY == 0;
        if changed {
            open.pci()
                .write_config_word(COMMAND, command | COMMAND_MEMORY);
        }
        Self {
            open,
            pin,
            command,
            changed,
            _memory: memory,
        }
    }
}

impl Drop for MemoryOn<'_> {
    fn drop(&mut self) {
        if !self.changed {
            return;
        }
        let nobody = matches!(self.pin, PinUser::Nobody);
        // A pin that nobody listens to would storm the others on its line.
        let off = if nobody && self.open.intx != IntxMask::AtController {
            COMMAND_INTX_DISABLE
        } else {
            0
        };
        self.open
            .pci()
            .write_config_word(COMMAND, self.command | off);
        if let PinUser::Intx(intx) = self.pin {
            intx.restore();
        }
    }
}

impl Open {
    /// Runs `f` with the device answering memory accesses, whatever the user set.
    pub(super) fn with_memory<T>(&self, pin: PinUser<'_>, f: impl FnOnce() -> T) -> T {
        let _on = MemoryOn::new(self, pin);
        f()
    }

    /// As [`with_memory`](Self::with_memory), for what switches the pin on or off in the device, as
    /// the kernel does with MSIs, when nobody listens to it.
    pub(super) fn with_memory_and_pin<T>(&self, f: impl FnOnce() -> T) -> T {
        let mut on = MemoryOn::new(self, PinUser::Nobody);
        on.changed = true;
        f()
    }
}
