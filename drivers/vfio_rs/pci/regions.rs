// SPDX-License-Identifier: GPL-2.0

//! Regions: parts of the device, each at a fixed place in the device's file.

use kernel::{
    prelude::*,
    uaccess::{
        UserSlice,
        UserSliceReader,
        UserSliceWriter, //
    },
};
use vfio_kernel::{
    pci::{
        BarMap,
        IoWidth, //
    },
    uapi,
};

use super::{
    open::MsixTable,
    Device,
    Open, //
};

/// Each region has this many bits of the file's offsets, `include/linux/vfio_pci_core.h`.
const OFFSET_SHIFT: u32 = 40;

/// A region that every PCI device has, though maybe of size 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Region {
    /// BAR 0 to 5.
    Bar(u32),
    /// Expansion ROM.
    Rom,
    /// Configuration space.
    Config,
}

/// What `VFIO_DEVICE_GET_REGION_INFO` tells.
pub(crate) struct RegionInfo {
    /// Where the region is in the device's file.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// `VFIO_REGION_INFO_FLAG_*`.
    pub(crate) flags: u32,
    /// Whether the MSI-X table lies in it and may be mapped with the rest.
    pub(crate) msix_mappable: bool,
}

impl Region {
    /// How many there are, with the VGA region that no device has.
    pub(crate) const COUNT: u32 = uapi::VFIO_PCI_NUM_REGIONS;

    /// The region of an index.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such region.
    pub(crate) fn from_index(index: u32) -> Result<Self> {
        match index {
            0..=5 => Ok(Self::Bar(index)),
            uapi::VFIO_PCI_ROM_REGION_INDEX => Ok(Self::Rom),
            uapi::VFIO_PCI_CONFIG_REGION_INDEX => Ok(Self::Config),
            _ => Err(EINVAL),
        }
    }

    /// The region at an offset of the device's file, and the offset in the region.
    pub(super) fn at(offset: u64) -> Result<(Self, u64)> {
        let index = (offset >> OFFSET_SHIFT).try_into().map_err(|_| EINVAL)?;
        let mask = 1u64.wrapping_shl(OFFSET_SHIFT).wrapping_sub(1);
        Ok((Self::from_index(index)?, offset & mask))
    }

    fn offset(self) -> u64 {
        let index = match self {
            Self::Bar(bar) => bar,
            Self::Rom => uapi::VFIO_PCI_ROM_REGION_INDEX,
            Self::Config => uapi::VFIO_PCI_CONFIG_REGION_INDEX,
        };
        u64::from(index) << OFFSET_SHIFT
    }
}

impl Device {
    /// Revokes all maps of BARs, those of users and those for other devices' DMA. The caller holds
    /// `Open::memory` for writing.
    pub(super) fn zap_bars(&self) {
        self.mapping().zap(0, Region::Rom.offset());
        self.bar_dma().revoke();
    }
}

impl Open {
    /// Revokes all maps of BARs.
    pub(super) fn zap_bars(&self) {
        self.device.zap_bars();
    }

    /// What there is to know about a region.
    pub(crate) fn region_info(&self, region: Region) -> RegionInfo {
        let read_write = uapi::VFIO_REGION_INFO_FLAG_READ | uapi::VFIO_REGION_INFO_FLAG_WRITE;
        let mut info = RegionInfo {
            offset: region.offset(),
            size: 0,
            flags: 0,
            msix_mappable: false,
        };
        match region {
            Region::Config => {
                info.size = self.pci().cfg_size() as u64;
                info.flags = read_write;
            }
            Region::Bar(bar) => {
                info.size = self.pci().bar_len(bar);
                if info.size != 0 {
                    info.flags = read_write;
                }
                if self.pci().bar_window(bar).is_some() {
                    info.flags |= uapi::VFIO_REGION_INFO_FLAG_MMAP;
                    info.msix_mappable = self.msix.is_some_and(|table| table.bar == bar);
                }
            }
            // Not offered yet, which clients take as a device without ROM.
            Region::Rom => {}
        }
        info
    }

    /// `pread(2)`.
    ///
    /// # Errors
    ///
    /// None for no bytes, wherever they are. `EINVAL` where no region is, `EIO` from memory that is disabled, `EFAULT`.
    pub(crate) fn read(&self, buf: UserSlice, pos: u64) -> Result<usize> {
        let mut writer = buf.writer();
        let len = writer.len();
        if len == 0 {
            return Ok(0);
        }
        match Region::at(pos)? {
            (Region::Config, offset) => self.config_read(offset, writer),
            (Region::Bar(bar), offset) => {
                self.bar_access(bar, offset, len, |access| access.read_to(&mut writer))
            }
            (Region::Rom, _) => Err(EINVAL),
        }
    }

    /// `pwrite(2)`.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub(crate) fn write(&self, buf: UserSlice, pos: u64) -> Result<usize> {
        let mut reader = buf.reader();
        let len = reader.len();
        if len == 0 {
            return Ok(0);
        }
        match Region::at(pos)? {
            (Region::Config, offset) => self.config_write(offset, reader),
            (Region::Bar(bar), offset) => {
                self.bar_access(bar, offset, len, |access| access.write_from(&mut reader))
            }
            (Region::Rom, _) => Err(EINVAL),
        }
    }

    /// Cuts an access to a BAR into aligned pieces and runs `f` for each; returns the bytes done.
    fn bar_access(
        &self,
        bar: u32,
        offset: u64,
        len: usize,
        mut f: impl FnMut(Access<'_>) -> Result,
    ) -> Result<usize> {
        let size = self.pci().bar_len(bar);
        let left = size
            .checked_sub(offset)
            .filter(|left| *left != 0)
            .ok_or(EINVAL)?;
        let map = self
            .bars
            .get(bar as usize)
            .and_then(Option::as_ref)
            .ok_or(EBUSY)?;
        let table = self.msix.filter(|table| table.bar == bar);
        let len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut done = 0usize;
        while done < len {
            let at = offset.wrapping_add(done as u64);
            let piece = Piece::at(at, len.wrapping_sub(done), table.as_ref());
            f(Access {
                open: self,
                bar,
                map,
                at,
                piece,
            })?;
            done = done.saturating_add(piece.len());
        }
        Ok(done)
    }
}

/// A part of an access to a BAR.
#[derive(Clone, Copy)]
enum Piece {
    /// One access to the device.
    Io(IoWidth),
    /// Bytes of the MSI-X table, which the kernel programs: all ones, and not written.
    Hidden(usize),
}

impl Piece {
    /// The largest piece at `at`, of `left` bytes at most.
    fn at(at: u64, left: usize, table: Option<&MsixTable>) -> Self {
        let mut left = left as u64;
        match table {
            Some(table) if at >= table.start && at < table.end => {
                let hidden = left.min(table.end.saturating_sub(at));
                return Self::Hidden(usize::try_from(hidden).unwrap_or(usize::MAX));
            }
            Some(table) if at < table.start => left = left.min(table.start.saturating_sub(at)),
            _ => {}
        }
        let width = [IoWidth::W8, IoWidth::W4, IoWidth::W2]
            .into_iter()
            .find(|width| left >= *width as u64 && at & (*width as u64).wrapping_sub(1) == 0);
        Self::Io(width.unwrap_or(IoWidth::W1))
    }

    fn len(self) -> usize {
        match self {
            Self::Io(width) => width as usize,
            Self::Hidden(len) => len,
        }
    }
}

/// One piece of an access. User memory is touched without the lock that page faults take.
struct Access<'a> {
    open: &'a Open,
    bar: u32,
    map: &'a BarMap,
    at: u64,
    piece: Piece,
}

impl Access<'_> {
    fn read_to(&self, writer: &mut UserSliceWriter) -> Result {
        match self.piece {
            Piece::Io(width) => {
                let value = self.locked(|| self.map.read(self.at, width))?;
                let bytes = value.to_le_bytes();
                writer.write_slice(bytes.get(..width as usize).ok_or(EINVAL)?)
            }
            Piece::Hidden(len) => (0..len).try_for_each(|_| writer.write_slice(&[0xff])),
        }
    }

    fn write_from(&self, reader: &mut UserSliceReader) -> Result {
        match self.piece {
            Piece::Io(width) => {
                let mut bytes = [0; 8];
                reader.read_slice(bytes.get_mut(..width as usize).ok_or(EINVAL)?)?;
                let value = u64::from_le_bytes(bytes);
                self.locked(|| self.map.write(self.at, width, value))
            }
            Piece::Hidden(len) => reader.skip(len),
        }
    }

    /// Runs `f` while the device answers; `EIO` if its memory is disabled.
    fn locked<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let memory = self.open.memory.read();
        if self.open.pci().bar_is_memory(self.bar) && !*memory {
            return Err(EIO);
        }
        f()
    }
}
