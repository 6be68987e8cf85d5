// SPDX-License-Identifier: GPL-2.0

//! The configuration space of a bridge beside the graphics, to be read.
//!
//! Stands for the configuration space's part of drivers/vfio/pci/vfio_pci_igd.c.

use kernel::prelude::*;
use vfio_kernel::{
    pci::{
        ConfigWidth,
        IoWidth,
        PciDevice, //
    },
    uapi,
};

use super::super::{
    region_io::width_at,
    specific::{
        RegionType,
        SpecificRegion, //
    },
};

/// A bridge that drivers of the graphics look at.
#[derive(Clone, Copy)]
pub(super) struct BridgeRole {
    slot: u8,
    class: u32,
    subtype: u32,
}

/// The host bridge, which says how much memory the graphics has.
pub(super) const HOST: BridgeRole = BridgeRole {
    slot: 0x00,
    class: 0x060000,
    subtype: uapi::VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG,
};

/// The LPC bridge, by which drivers know the chipset.
pub(super) const LPC: BridgeRole = BridgeRole {
    slot: 0x1f,
    class: 0x060100,
    subtype: uapi::VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG,
};

/// A bridge. Kept from going away, but not from being removed from its bus: what it has then reads
/// as the PCI core says.
pub(super) struct BridgeConfig {
    pci: PciDevice,
    role: BridgeRole,
}

impl BridgeConfig {
    /// Finds the bridge, which is on the first bus.
    ///
    /// # Errors
    ///
    /// `ENODEV` if nothing is there, `EINVAL` if it is something else.
    pub(super) fn find(role: BridgeRole) -> Result<Self> {
        let pci = PciDevice::find(0, 0, role.slot, 0).ok_or(ENODEV)?;
        if pci.vendor() != super::INTEL || pci.class() != role.class {
            return Err(EINVAL);
        }
        Ok(Self { pci, role })
    }
}

impl SpecificRegion for BridgeConfig {
    fn kind(&self) -> RegionType {
        super::kind(self.role.subtype)
    }

    fn size(&self) -> u64 {
        self.pci.cfg_size() as u64
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> Result {
        let (mut at, mut rest) = (at, buf);
        while !rest.is_empty() {
            let (len, width) = match width_at(at, rest.len() as u64, IoWidth::W4) {
                IoWidth::W1 => (1, ConfigWidth::Byte),
                IoWidth::W2 => (2, ConfigWidth::Word),
                IoWidth::W4 | IoWidth::W8 => (4, ConfigWidth::Dword),
            };
            let value = self.pci.user_read_config(at.try_into()?, width)?;
            let (head, tail) = rest.split_at_mut_checked(len).ok_or(EINVAL)?;
            head.copy_from_slice(value.to_le_bytes().get(..len).ok_or(EINVAL)?);
            at = at.wrapping_add(len as u64);
            rest = tail;
        }
        Ok(())
    }
}
