// SPDX-License-Identifier: GPL-2.0
//! Driver of QEMU's `edu`, a device made for teaching: one BAR of registers, one interrupt, and a
//! DMA engine that copies between memory and a buffer of 4096 bytes inside the device. A copy takes
//! 100 ms.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::config::COMMAND_MASTER;
use crate::device::Device;
use crate::region::Region;
use crate::uapi::VFIO_PCI_BAR0_REGION_INDEX;

/// PCI vendor number.
pub const VENDOR: u16 = 0x1234;
/// PCI device number.
pub const DEVICE: u16 = 0x11e8;
/// What the identification register reads, apart from the version in its top half.
pub const IDENT: u32 = 0xed;
/// Bytes of the buffer inside the device.
pub const BUFFER_SIZE: usize = 4096;
/// Highest address that its DMA engine can form by default: 28 bits.
pub const DMA_MASK: u64 = (1 << 28) - 1;
/// Interrupt status bit of a finished DMA.
pub const IRQ_DMA: u32 = 0x100;

/// Where the buffer sits in the device's own address space.
const BUFFER: u64 = 0x40000;

/// Register offsets.
mod reg {
    pub(super) const IDENT: u64 = 0x00;
    pub(super) const LIVENESS: u64 = 0x04;
    pub(super) const FACTORIAL: u64 = 0x08;
    pub(super) const STATUS: u64 = 0x20;
    pub(super) const IRQ_STATUS: u64 = 0x24;
    pub(super) const IRQ_RAISE: u64 = 0x60;
    pub(super) const IRQ_ACK: u64 = 0x64;
    pub(super) const DMA_SRC: u64 = 0x80;
    pub(super) const DMA_DST: u64 = 0x88;
    pub(super) const DMA_COUNT: u64 = 0x90;
    pub(super) const DMA_COMMAND: u64 = 0x98;
}

const STATUS_COMPUTING: u32 = 0x01;
const DMA_RUN: u32 = 0x1;
const DMA_TO_MEMORY: u32 = 0x2;
const DMA_RAISE_IRQ: u32 = 0x4;

/// Longest wait for the device: it needs 0.1 s, an emulated machine under load far more.
const PATIENCE: Duration = Duration::from_secs(20);

/// An open `edu`.
#[derive(Debug)]
pub struct Edu<'a> {
    device: &'a Device,
    bar: Region,
}

impl<'a> Edu<'a> {
    /// Takes the device, checks that it is one, and lets it start DMA.
    ///
    /// # Errors
    /// The kernel's errno; `InvalidData` if it is another device.
    pub fn new(device: &'a Device) -> io::Result<Self> {
        let edu = Self {
            device,
            bar: device.region(VFIO_PCI_BAR0_REGION_INDEX)?,
        };
        device.config()?.update_command(0, COMMAND_MASTER)?;
        if edu.read(reg::IDENT)? & 0xff != IDENT {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(edu)
    }

    /// Its BAR.
    #[must_use]
    pub fn bar(&self) -> &Region {
        &self.bar
    }

    fn read(&self, at: u64) -> io::Result<u32> {
        self.device.read32(&self.bar, at)
    }

    fn write(&self, at: u64, value: u32) -> io::Result<()> {
        self.device.write32(&self.bar, at, value)
    }

    /// Value of the identification register.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn ident(&self) -> io::Result<u32> {
        self.read(reg::IDENT)
    }

    /// Writes `value` to the liveness register and reads it back: the device answers with its
    /// complement.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn liveness(&self, value: u32) -> io::Result<u32> {
        self.write(reg::LIVENESS, value)?;
        self.read(reg::LIVENESS)
    }

    /// Has the device compute a factorial (32 bits, wrapping).
    ///
    /// # Errors
    /// The kernel's errno; `TimedOut`.
    pub fn factorial(&self, n: u32) -> io::Result<u32> {
        self.write(reg::FACTORIAL, n)?;
        self.poll(|| Ok(self.read(reg::STATUS)? & STATUS_COMPUTING == 0))?;
        self.read(reg::FACTORIAL)
    }

    /// Interrupt status bits that are set.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn irq_status(&self) -> io::Result<u32> {
        self.read(reg::IRQ_STATUS)
    }

    /// Has the device raise an interrupt with status bits `bits`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn raise_irq(&self, bits: u32) -> io::Result<()> {
        self.write(reg::IRQ_RAISE, bits)
    }

    /// Clears interrupt status bits.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn ack_irq(&self, bits: u32) -> io::Result<()> {
        self.write(reg::IRQ_ACK, bits)
    }

    fn start_dma(&self, src: u64, dst: u64, len: usize, command: u32) -> io::Result<()> {
        assert!(len <= BUFFER_SIZE, "more than the device's buffer");
        for (at, value) in [
            (reg::DMA_SRC, src),
            (reg::DMA_DST, dst),
            (reg::DMA_COUNT, len as u64),
        ] {
            // All 64 bits at once: a write of the lower half clears the upper one.
            self.device.write(&self.bar, at, &value.to_ne_bytes())?;
        }
        self.write(reg::DMA_COMMAND, DMA_RUN | command)
    }

    /// Whether a copy is under way.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn dma_busy(&self) -> io::Result<bool> {
        Ok(self.read(reg::DMA_COMMAND)? & DMA_RUN != 0)
    }

    /// Waits for the copy to end.
    ///
    /// # Errors
    /// The kernel's errno; `TimedOut`.
    pub fn wait_dma(&self) -> io::Result<()> {
        self.poll(|| Ok(!self.dma_busy()?))
    }

    /// Starts a copy of `len` bytes from I/O address `iova` into the device's buffer.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn start_fetch(&self, iova: u64, len: usize) -> io::Result<()> {
        self.start_dma(iova, BUFFER, len, 0)
    }

    /// Starts a copy of `len` bytes from the device's buffer to I/O address `iova`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn start_store(&self, iova: u64, len: usize) -> io::Result<()> {
        self.start_dma(BUFFER, iova, len, DMA_TO_MEMORY)
    }

    /// As [`Edu::start_store`], with an interrupt at the end.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn start_store_irq(&self, iova: u64, len: usize) -> io::Result<()> {
        self.start_dma(BUFFER, iova, len, DMA_TO_MEMORY | DMA_RAISE_IRQ)
    }

    /// Copies `len` bytes from I/O address `iova` into the device. A copy that the IOMMU refuses
    /// ends like any other: look at the data.
    ///
    /// # Errors
    /// The kernel's errno; `TimedOut`.
    pub fn fetch(&self, iova: u64, len: usize) -> io::Result<()> {
        self.start_fetch(iova, len)?;
        self.wait_dma()
    }

    /// Copies `len` bytes from the device to I/O address `iova`.
    ///
    /// # Errors
    /// The kernel's errno; `TimedOut`.
    pub fn store(&self, iova: u64, len: usize) -> io::Result<()> {
        self.start_store(iova, len)?;
        self.wait_dma()
    }

    fn poll(&self, done: impl Fn() -> io::Result<bool>) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        while !done()? {
            if Instant::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
