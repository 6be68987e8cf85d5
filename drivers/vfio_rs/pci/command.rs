// SPDX-License-Identifier: GPL-2.0

//! The command register while the kernel needs the device's memory, whatever its user set.
//!
//! The register also has the bit that masks the interrupt pin. So the pin is held by whoever writes
//! the register here, and has the bit as it should be then.
//!
//! Locks: `Open::memory`, not while the device is being reset.

use vfio_kernel::{
    pci::PinHold,
    rwsem::WriteGuard, //
};

use super::{
    open::{
        COMMAND,
        COMMAND_MEMORY, //
    },
    power::MemoryState,
    Open, //
};

/// The device answers memory accesses as long as this lives, and nobody else changes that. Then the
/// command register is as it was.
struct MemoryOn<'a> {
    open: &'a Open,
    /// The register as it was, if it is to be written back.
    before: Option<Before<'a>>,
    /// Let go of at last.
    _memory: WriteGuard<'a, MemoryState>,
}

struct Before<'a> {
    command: u16,
    _pin: PinHold<'a>,
}

impl<'a> MemoryOn<'a> {
    fn new(open: &'a Open, pin_changes: PinChanges) -> Self {
        let memory = open.settled(|| open.memory.write());
        let is_on = || open.pci().read_config_word(COMMAND) & COMMAND_MEMORY != 0;
        let before = if pin_changes == PinChanges::No && is_on() {
            None
        } else {
            let pin = open.pin.hold();
            let command = open.pci().read_config_word(COMMAND);
            if command & COMMAND_MEMORY == 0 {
                open.pci()
                    .write_config_word(COMMAND, command | COMMAND_MEMORY);
            }
            Some(Before { command, _pin: pin })
        };
        Self {
            open,
            before,
            _memory: memory,
        }
    }
}

impl Drop for MemoryOn<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            self.open.pci().write_config_word(COMMAND, before.command);
        }
    }
}

/// Whether the PCI core switches the pin on or off in the device meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PinChanges {
    No,
    Maybe,
}

impl Open {
    /// Runs `f` with the device answering memory accesses, whatever the user set.
    pub(super) fn with_memory<T>(&self, f: impl FnOnce() -> T) -> T {
        let _on = MemoryOn::new(self, PinChanges::No);
        f()
    }

    /// As [`with_memory`](Self::with_memory), for what switches the pin on or off in the device, as
    /// the kernel does with MSIs.
    pub(super) fn with_memory_and_pin<T>(&self, f: impl FnOnce() -> T) -> T {
        let _on = MemoryOn::new(self, PinChanges::Maybe);
        f()
    }
}
