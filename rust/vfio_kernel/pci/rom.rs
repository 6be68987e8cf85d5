// SPDX-License-Identifier: GPL-2.0

//! Expansion ROMs, `drivers/pci/rom.c`.

use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::prelude::*;
use vfio_bindings as bindings;

use super::{
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
        let (phys, len) = self.shadow_rom()?;
        let _ = phys;
        Some((RomKind::Shadow, len.checked_next_power_of_two()?))
    }

    fn shadow_rom(&self) -> Option<(u64, u64)> {
        let raw = self.raw();
        (raw.rom != 0 && raw.romlen != 0).then_some((raw.rom, raw.romlen as u64))
    }
}

/// A ROM that is switched on and mapped into the kernel. While it is, the device's BARs may not
/// answer: some devices have one address decoder for both.
pub struct RomMap {
    dev: PciDevice,
    kind: RomKind,
    io: IoMem,
}

impl RomMap {
    /// Maps the ROM; its size is what its contents fill. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is none, or none that begins as ROMs do, with a line in the log.
    pub fn new(dev: &PciDevice) -> Result<Self> {
        let (kind, _) = dev.rom().ok_or(ENOMEM)?;
        let mut len = 0;
        let io = match kind {
            // SAFETY: The device is alive.
            RomKind::Bar => unsafe { bindings::pci_map_rom(dev.as_ptr(), &mut len) },
            RomKind::Shadow => {
                let (phys, size) = dev.shadow_rom().ok_or(ENOMEM)?;
                len = size as usize;
                // SAFETY: The PCI core knows that the copy is there.
                unsafe { bindings::ioremap(phys, len) }
            }
        };
        let io = NonNull::new(io).ok_or(ENOMEM)?;
        Ok(Self {
            dev: dev.clone(),
            kind,
            // SAFETY: Mapped above for `len` bytes, as long as `self` lives.
            io: unsafe { IoMem::new(io, len as u64) },
        })
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
        // SAFETY: Mapped by `new` in the same way.
        unsafe {
            match self.kind {
                RomKind::Bar => bindings::pci_unmap_rom(self.dev.as_ptr(), self.io.as_ptr()),
                RomKind::Shadow => bindings::iounmap(self.io.as_ptr()),
            }
        }
    }
}
