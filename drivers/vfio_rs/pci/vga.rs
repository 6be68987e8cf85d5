// SPDX-License-Identifier: GPL-2.0

//! The VGA region: reads and writes of the legacy ranges of displays.
//!
//! All displays have these ranges at the same addresses, so for each piece of an access the
//! kernel's arbiter routes them to the device. No user memory is touched meanwhile: whoever wants
//! them for another display waits for the device, never for a user.
//!
//! Stands for vfio_pci_vga_rw() of drivers/vfio/pci/vfio_pci_rdwr.c.

use kernel::{
    prelude::*,
    uaccess::{
        UserSliceReader,
        UserSliceWriter, //
    },
};
use vfio_kernel::{
    pci::{
        IoWidth,
        VgaMap,
        VgaRange, //
    },
    sched, //
};

use super::{
    region_io::width_at,
    Open, //
};
use crate::parts;

/// Bytes of the region: up to the end of the last range.
pub(super) const SIZE: u64 = 0xc0000;

/// Bytes for which the ranges are routed to the device at once.
const PIECE: usize = 256;

impl Open {
    /// Whether the device's user may reach the legacy ranges.
    pub(super) fn has_vga(&self) -> bool {
        parts::PCI_VGA && !self.device.params.disable_vga && self.pci().has_vga()
    }

    /// Reads from the VGA region.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the device has none, or where no range is; `ERESTARTSYS` if a signal comes
    /// before the ranges are the device's; `EIO` if it does not wake up; `ENOMEM`, `EFAULT`.
    #[cold]
    pub(super) fn vga_read(&self, offset: u64, writer: &mut UserSliceWriter) -> Result<usize> {
        self.vga_access(offset, writer.len(), |bytes, at, map| {
            {
                let io = map.owned()?;
                each(bytes, at, |bytes, at, width| {
                    let value = io.read(at, width)?.to_le_bytes();
                    bytes.copy_from_slice(value.get(..bytes.len()).ok_or(EINVAL)?);
                    Ok(())
                })?;
            }
            writer.write_slice(bytes)
        })
    }

    /// Writes to the VGA region.
    ///
    /// # Errors
    ///
    /// As for [`vga_read`](Self::vga_read).
    #[cold]
    pub(super) fn vga_write(&self, offset: u64, reader: &mut UserSliceReader) -> Result<usize> {
        self.vga_access(offset, reader.len(), |bytes, at, map| {
            reader.read_slice(bytes)?;
            let io = map.owned()?;
            each(bytes, at, |bytes, at, width| {
                let mut value = [0; 8];
                value
                    .get_mut(..bytes.len())
                    .ok_or(EINVAL)?
                    .copy_from_slice(bytes);
                io.write(at, width, u64::from_le_bytes(value))
            })
        })
    }

    /// Runs `f` for pieces of `len` bytes at `offset`, as far as the range there goes; returns the
    /// bytes done. `f` gets a buffer, where in the range it is, and the range.
    fn vga_access(
        &self,
        offset: u64,
        len: usize,
        f: impl FnMut(&mut [u8], u64, &VgaMap) -> Result,
    ) -> Result<usize> {
        let _awake = self.awake()?;
        if !self.has_vga() {
            return Err(EINVAL);
        }
        let (range, start, left) = range_at(offset).ok_or(EINVAL)?;
        let len = len.min(usize::try_from(left)?);
        let map = VgaMap::new(self.pci(), range)?;
        let result = self.vga_pieces(&map, start, len, f);
        // The arbiter reads the command register and writes it.
        self.pin.settle();
        result
    }

    /// Runs `f` for pieces of `len` bytes, `start` bytes into a range.
    fn vga_pieces(
        &self,
        map: &VgaMap,
        start: u64,
        len: usize,
        mut f: impl FnMut(&mut [u8], u64, &VgaMap) -> Result,
    ) -> Result<usize> {
        let mut buf = [0; PIECE];
        let mut done = 0usize;
        while done < len {
            let bytes = buf
                .get_mut(..len.saturating_sub(done).min(PIECE))
                .ok_or(EINVAL)?;
            // The arbiter changes the command register, which a reset restores.
            self.gate.wait_killable()?;
            match f(bytes, start.wrapping_add(done as u64), map) {
                // Interrupted while another had the ranges: what is done is done.
                Err(ERESTARTSYS) if done != 0 => break,
                ret => ret?,
            }
            done = done.saturating_add(bytes.len());
            sched::pause()?;
        }
        Ok(done)
    }
}

/// Runs `f` for each single access that `bytes`, `at` in a range, are made of.
fn each(bytes: &mut [u8], at: u64, mut f: impl FnMut(&mut [u8], u64, IoWidth) -> Result) -> Result {
    let (mut rest, mut at) = (bytes, at);
    while !rest.is_empty() {
        let width = width_at(at, rest.len() as u64, IoWidth::W4);
        let (head, tail) = rest.split_at_mut_checked(width as usize).ok_or(EINVAL)?;
        f(head, at, width)?;
        at = at.wrapping_add(width as u64);
        rest = tail;
    }
    Ok(())
}

/// The range at an offset of the region, the offset in it, and the bytes from there to its end.
fn range_at(offset: u64) -> Option<(VgaRange, u64, u64)> {
    [
        VgaRange::Memory,
        VgaRange::MonochromePorts,
        VgaRange::ColorPorts,
    ]
    .into_iter()
    .find_map(|range| {
        let (start, len) = range.place();
        let at = offset.checked_sub(start)?;
        let left = len.checked_sub(at).filter(|left| *left != 0)?;
        Some((range, at, left))
    })
}
