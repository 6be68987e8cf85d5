// SPDX-License-Identifier: GPL-2.0

//! Regions: parts of the device, each at a fixed place in the device's file, see `offsets.rs`.

use kernel::prelude::*;
use vfio_kernel::{
    pci::{
        IoWidth,
        RomKind,
        RomMap, //
    },
    uapi,
};

use super::{
    bar::Bar,
    offsets::{
        self,
        Region,
        WRITE_COMBINING, //
    },
    rom_images,
    specific::{
        RegionType,
        SpecificRegions, //
    },
    vga,
    Device,
    Open, //
};

const _: () = assert!(
    offsets::ROM == uapi::VFIO_PCI_ROM_REGION_INDEX
        && offsets::CONFIG == uapi::VFIO_PCI_CONFIG_REGION_INDEX
        && offsets::VGA == uapi::VFIO_PCI_VGA_REGION_INDEX
        && offsets::COUNT == uapi::VFIO_PCI_NUM_REGIONS
);

/// What `VFIO_DEVICE_GET_REGION_INFO` tells.
pub(crate) struct PciRegionInfo {
    /// Where the region is in the device's file.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// `VFIO_REGION_INFO_FLAG_*`.
    pub(crate) flags: u32,
    /// Whether the MSI-X table lies in it and may be mapped with the rest.
    pub(crate) msix_mappable: bool,
    /// Where all of it can be mapped write-combining.
    pub(crate) write_combining: Option<u64>,
    /// What it is, if its index does not say so.
    pub(crate) kind: Option<RegionType>,
}

impl Device {
    /// Revokes all maps of BARs, those of users and those for other devices' DMA. The caller holds
    /// `Open::memory` for writing.
    pub(super) fn zap_bars(&self) {
        // Nothing but BARs can be mapped.
        self.mapping().zap_all();
        self.bar_dma().revoke();
    }
}

impl Open {
    /// Revokes all maps of BARs.
    pub(super) fn zap_bars(&self) {
        self.device.zap_bars();
    }

    /// How many indices of regions there are.
    pub(crate) fn region_count(&self) -> u32 {
        let specific = self.specific().map_or(0, SpecificRegions::count);
        offsets::COUNT.saturating_add(specific)
    }

    /// What there is to know about a region.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is that of VGA, or one of the device's own, and the device has none; `EIO` if
    /// it is that of the ROM, and the device does not wake up.
    pub(crate) fn region_info(&self, region: Region) -> Result<PciRegionInfo> {
        let read_write = uapi::VFIO_REGION_INFO_FLAG_READ | uapi::VFIO_REGION_INFO_FLAG_WRITE;
        let mut info = PciRegionInfo {
            offset: self.offsets.of(region),
            size: 0,
            flags: 0,
            msix_mappable: false,
            write_combining: None,
            kind: None,
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
                if self.window(bar).is_some() {
                    info.flags |= uapi::VFIO_REGION_INFO_FLAG_MMAP;
                    info.msix_mappable = self
                        .msix
                        .is_some_and(|table| !table.bytes_in(bar).is_empty());
                    if self.bar(bar).is_ok_and(Bar::may_combine) {
                        info.write_combining = Some(info.offset | WRITE_COMBINING);
                    }
                }
            }
            Region::Rom => {
                let _awake = self.awake()?;
                info.size = self.rom_size();
                if info.size != 0 {
                    info.flags = uapi::VFIO_REGION_INFO_FLAG_READ;
                }
            }
            Region::Vga => {
                if !self.has_vga() {
                    return Err(EINVAL);
                }
                info.size = vga::SIZE;
                info.flags = read_write;
            }
            Region::Specific(number) => {
                let region = self.specific()?.get(number)?;
                info.size = region.size();
                info.flags = uapi::VFIO_REGION_INFO_FLAG_READ;
                info.kind = Some(region.kind());
            }
        }
        Ok(info)
    }

    /// Bytes of the ROM region, which may be more than the ROM fills; 0 if there is no ROM in it.
    fn rom_size(&self) -> u64 {
        match self.pci().rom() {
            Some((RomKind::Bar, size)) => {
                let found = self.with_memory(|| self.map_rom().is_ok());
                if found {
                    size
                } else {
                    0
                }
            }
            Some((RomKind::Shadow, size)) => size,
            None => 0,
        }
    }

    /// The ROM, and how much of it is filled.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is none, or none that begins as ROMs do.
    pub(super) fn map_rom(&self) -> Result<(RomMap, u64)> {
        let rom = RomMap::new(self.pci())?;
        let filled = match self.pci().rom() {
            Some((RomKind::Bar, size)) => {
                rom_images::filled(size, |at| rom.read(at, IoWidth::W2).ok()?.try_into().ok())
            }
            _ => rom.size(),
        };
        match filled {
            // ERRNO: ENOMEM, as pci_map_rom() maps no other.
            0 => Err(ENOMEM),
            _ => Ok((rom, filled)),
        }
    }
}
