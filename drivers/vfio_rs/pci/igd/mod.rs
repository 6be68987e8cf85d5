// SPDX-License-Identifier: GPL-2.0

//! Intel graphics that is part of the processor (IGD): what its drivers look for outside the
//! device.
//!
//! | region | has                                                                           |
//! |--------|-------------------------------------------------------------------------------|
//! | 1st    | the OpRegion, which firmware left in memory, and its VBT: `opregion.rs`        |
//! | 2nd    | the configuration space of the host bridge: `bridge.rs`                       |
//! | 3rd    | that of the LPC bridge                                                        |
//!
//! The device's register ASLS has the OpRegion's address, by which the kernel reads memory. Any
//! device can claim to be Intel's, so it is asked at the one place where this graphics is, and what
//! it names must be memory that firmware keeps. A user must not be able to set it for whoever opens
//! the device next: [`ASLS`] is the user's own copy, whether or not it has an address, and at any
//! place.
//!
//! Stands for drivers/vfio/pci/vfio_pci_igd.c. Takes no lock.

mod bridge;
pub(super) mod opregion;

use kernel::prelude::*;
use vfio_kernel::{
    memremap::FirmwareMemory,
    pci::PciDevice,
    uapi, //
};

use self::{
    bridge::BridgeConfig,
    opregion::{
        OpRegion,
        OpRegionMemory, //
    },
};
use super::specific::{
    RegionType,
    SpecificRegion,
    SpecificRegions, //
};
use crate::parts;

/// Intel's vendor id.
const INTEL: u16 = 0x8086;

/// The base class of displays, PCI Code and ID Assignment Specification, 1.4.
const DISPLAY: u32 = 0x03;

/// The register with the OpRegion's address.
pub(super) const ASLS: u16 = 0xfc;

/// Whether it is a display of Intel's, and those have regions of their own here.
pub(super) fn is_intel_display(pci: &PciDevice) -> bool {
    parts::PCI_IGD && pci.vendor() == INTEL && pci.class() >> 16 == DISPLAY
}

/// Whether a device is where the processor's own graphics is.
pub(super) fn is_in_place(pci: &PciDevice) -> bool {
    const SLOT: u8 = 0x02;

    PciDevice::find(0, 0, SLOT, 0).is_some_and(|graphics| graphics == *pci)
}

/// The regions of a display whose register ASLS has the value `asls`. What is not there is left
/// out, with all behind it.
///
/// # Errors
///
/// `EINVAL` if something is there that is not what it should be, `ENOMEM`.
pub(super) fn regions(asls: u32) -> Result<SpecificRegions> {
    let mut regions = SpecificRegions::new();
    match add_all(&mut regions, asls) {
        Ok(()) | Err(ENODEV) => Ok(regions),
        Err(err) => Err(err),
    }
}

fn add_all(regions: &mut SpecificRegions, asls: u32) -> Result {
    if asls == 0 || asls == u32::MAX {
        return Err(ENODEV);
    }
    regions.add(OpRegion::<FirmwareMemory>::new(asls.into())?)?;
    regions.add(BridgeConfig::find(bridge::HOST)?)?;
    regions.add(BridgeConfig::find(bridge::LPC)?)
}

/// What users know a region by.
fn kind(subtype: u32) -> RegionType {
    RegionType {
        ty: uapi::VFIO_REGION_TYPE_PCI_VENDOR_TYPE | u32::from(INTEL),
        subtype,
    }
}

impl OpRegionMemory for FirmwareMemory {
    fn map(at: u64, len: usize) -> Result<Self> {
        Self::new(at, len)
    }

    fn read(&self, at: usize, buf: &mut [u8]) -> Result {
        self.copy(at, buf)
    }
}

impl SpecificRegion for OpRegion<FirmwareMemory> {
    fn kind(&self) -> RegionType {
        kind(uapi::VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION)
    }

    fn size(&self) -> u64 {
        self.size()
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> Result {
        self.read(at.try_into()?, buf)
    }
}
