// SPDX-License-Identifier: GPL-2.0

//! Expansion ROMs, `drivers/pci/rom.c`.

use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::prelude::*;
use vfio_bindings as bindings;

use super::{
    device::field,
    BoundPci,
    IoMem,
    PciDevice, //
};

/// Number of the ROM among a device's resources.
const ROM: u32 = bindings::PCI_ROM_RESOURCE;

/// Where a device's ROM can be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RomKind {
    /// At the ROM's base address register.
    Bar,
    /// In a copy that the firmware left in memory; the device has no such register.
    Shadow,
}

impl PciDevice {
    /// Where the ROM is, and the bytes of its region, a power of two; `None` if there is none.
    pub fn rom(&self) -> Option<(RomKind, u64)> {
        if let Some((start, len, _)) = self.resource(ROM) {
            if start != 0 {
                return Some((RomKind::Bar, len));
            }
        }
        let (_, len) = self.shadow_rom()?;
        Some((RomKind::Shadow, len.checked_next_power_of_two()?))
    }

    fn shadow_rom(&self) -> Option<(u64, u64)> {
        let (phys, len) = (field!(self, rom), field!(self, romlen) as u64);
        (phys != 0 && len != 0).then_some((phys, len))
    }
}

/// A ROM that is switched on and mapped into the kernel. While it is, the device's BARs may not
/// answer: some devices have one address decoder for both.
///
/// # Invariants
///
/// `io` was made by `ioremap()` for this, of memory that is the ROM's; if it is of `kind`
/// [`Bar`](RomKind::Bar), the ROM was switched on before.
pub struct RomMap {
    dev: BoundPci,
    kind: RomKind,
    io: IoMem,
}

impl RomMap {
    /// Maps the ROM, all of its window. May sleep.
    ///
    /// `pci_map_rom()` is not used, as it logs what it thinks of the contents, each time.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is none.
    pub fn new(dev: &BoundPci) -> Result<Self> {
        let (kind, len) = dev.rom().ok_or(ENOMEM)?;
        let (start, len) = match kind {
            RomKind::Bar => (dev.switch_rom_on()?, len),
            RomKind::Shadow => dev.shadow_rom().ok_or(ENOMEM)?,
        };
        // SAFETY: The range is the device's, or the PCI core knows that the copy is there.
        let io = unsafe { bindings::ioremap(start, len as usize) };
        let Some(io) = NonNull::new(io) else {
            if kind == RomKind::Bar {
                dev.switch_rom_off();
            }
            return Err(ENOMEM);
        };
        // INVARIANT: As above.
        Ok(Self {
            dev: dev.clone(),
            kind,
            // SAFETY: Mapped above for `len` bytes, as long as `self` lives.
            io: unsafe { IoMem::new(io, len) },
        })
    }
}

impl BoundPci {
    /// Has the ROM answer at its address, which is returned.
    fn switch_rom_on(&self) -> Result<u64> {
        let (start, _, flags) = self.resource(ROM).ok_or(ENOMEM)?;
        // One that is not in the tree of resources has no address that is its own, but for copies
        // in memory.
        if self.resource_parent(ROM).is_none()
            && flags & bindings::IORESOURCE_PCI_FIXED as usize == 0
        {
            return Err(ENOMEM);
        }
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        match unsafe { bindings::pci_enable_rom(self.as_ptr()) } {
            0 => Ok(start),
            _ => Err(ENOMEM),
        }
    }

    fn switch_rom_off(&self) {
        let on = |(_, _, flags)| flags & bindings::IORESOURCE_ROM_ENABLE as usize != 0;
        // The firmware may have left it on.
        if !self.resource(ROM).is_some_and(on) {
            // SAFETY: The device is alive (type invariant of `PciDevice`).
            unsafe { bindings::pci_disable_rom(self.as_ptr()) };
        }
    }
}

impl Deref for RomMap {
    type Target = IoMem;

    fn deref(&self) -> &IoMem {
        &self.io
    }
}

impl Drop for RomMap {
    fn drop(&mut self) {
        // SAFETY: Mapped for this (type invariant), and not used any more.
        unsafe { bindings::iounmap(self.io.as_ptr()) };
        if self.kind == RomKind::Bar {
            self.dev.switch_rom_off();
        }
    }
}
