// SPDX-License-Identifier: GPL-2.0
//! PCI configuration space of an open device, as VFIO shows it.

use std::io;

use crate::device::Device;
use crate::region::Region;
use crate::uapi::VFIO_PCI_CONFIG_REGION_INDEX;

/// Offset of the vendor number.
pub const VENDOR: u64 = 0x00;
/// Offset of the device number.
pub const DEVICE: u64 = 0x02;
/// Offset of the command register.
pub const COMMAND: u64 = 0x04;
/// Offset of the status register.
pub const STATUS: u64 = 0x06;
/// Offset of the first base address register.
pub const BAR0: u64 = 0x10;
/// Offset of the interrupt pin.
pub const INTERRUPT_PIN: u64 = 0x3d;
/// COMMAND: memory decoding on.
pub const COMMAND_MEMORY: u16 = 0x2;
/// COMMAND: the device may start DMA and send MSIs.
pub const COMMAND_MASTER: u16 = 0x4;
/// COMMAND: the interrupt pin is off.
pub const COMMAND_INTX_DISABLE: u16 = 0x400;
/// Capability: message signalled interrupts.
pub const CAP_MSI: u8 = 0x05;
/// Capability: MSI-X.
pub const CAP_MSIX: u8 = 0x11;

/// The configuration region of a device.
#[derive(Debug)]
pub struct Config<'a> {
    device: &'a Device,
    region: Region,
}

impl Device {
    /// Finds the configuration region.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn config(&self) -> io::Result<Config<'_>> {
        Ok(Config {
            device: self,
            region: self.region(VFIO_PCI_CONFIG_REGION_INDEX)?,
        })
    }
}

impl Config<'_> {
    /// The region itself.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    fn read<const N: usize>(&self, at: u64) -> io::Result<[u8; N]> {
        let mut buf = [0; N];
        if self.device.read(&self.region, at, &mut buf)? == N {
            Ok(buf)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn write(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        if self.device.write(&self.region, at, buf)? == buf.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// One byte at `at`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn read8(&self, at: u64) -> io::Result<u8> {
        self.read(at).map(u8::from_le_bytes)
    }

    /// Two bytes at `at`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn read16(&self, at: u64) -> io::Result<u16> {
        self.read(at).map(u16::from_le_bytes)
    }

    /// Four bytes at `at`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn read32(&self, at: u64) -> io::Result<u32> {
        self.read(at).map(u32::from_le_bytes)
    }

    /// Writes one byte.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn write8(&self, at: u64, value: u8) -> io::Result<()> {
        self.write(at, &[value])
    }

    /// Writes two bytes.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn write16(&self, at: u64, value: u16) -> io::Result<()> {
        self.write(at, &value.to_le_bytes())
    }

    /// Writes four bytes.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn write32(&self, at: u64, value: u32) -> io::Result<()> {
        self.write(at, &value.to_le_bytes())
    }

    /// Offset of the capability `id`, if the device shows one.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn find_cap(&self, id: u8) -> io::Result<Option<u64>> {
        if self.read16(STATUS)? & 0x10 == 0 {
            return Ok(None);
        }
        let mut at = self.read8(0x34)? & !3;
        // At most 48 capabilities fit; the bound ends the walk on a loop.
        for _ in 0..48 {
            if at < 0x40 {
                return Ok(None);
            }
            if self.read8(at.into())? == id {
                return Ok(Some(at.into()));
            }
            at = self.read8(u64::from(at) + 1)? & !3;
        }
        Ok(None)
    }

    /// Sets or clears bits of the command register.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn update_command(&self, clear: u16, set: u16) -> io::Result<()> {
        let old = self.read16(COMMAND)?;
        self.write16(COMMAND, old & !clear | set)
    }
}
