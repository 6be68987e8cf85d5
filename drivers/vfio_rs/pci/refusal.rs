// SPDX-License-Identifier: GPL-2.0

//! Devices that are not bound, and the line in the log that says why.
//!
//! Stands for the checks of vfio_pci_core_register_device() and __vfio_register_dev().

use kernel::prelude::*;
use vfio_kernel::{
    iommu,
    params,
    pci::PciDevice, //
};

use super::denylist;
use crate::parts;

/// Lets a device pass that is to be bound; `group` is what the IOMMU core has put it into.
///
/// # Errors
///
/// `EBUSY` if it has virtual functions that are nobody's here, `EINVAL` for all other reasons.
pub(super) fn check(pci: &PciDevice, group: Option<&iommu::IommuGroup>) -> Result {
    denylist::check(pci)?;
    if !pci.is_endpoint() {
        dev_warn!(
            pci.device(),
            "Cannot bind to a bridge, only to endpoints; bridges of a group keep their driver\n"
        );
        return Err(EINVAL);
    }
    if pci.num_vf() != 0 {
        dev_warn!(pci.device(), "Cannot bind to PF with SR-IOV enabled\n");
        return Err(EBUSY);
    }
    // ERRNO: EINVAL, as vfio_register_group_dev().
    match group {
        Some(_) if !pci.cache_coherent() => {
            dev_warn!(
                pci.device(),
                "Cannot bind: its IOMMU cannot keep DMA coherent with the CPU's caches\n"
            );
            Err(EINVAL)
        }
        None if !parts::NOIOMMU => {
            dev_warn!(
                pci.device(),
                "Cannot bind: no IOMMU group, as no IOMMU is on for it, and this kernel was built without VFIO_NOIOMMU\n"
            );
            Err(EINVAL)
        }
        None if !params::enable_unsafe_noiommu_mode() => {
            dev_warn!(
                pci.device(),
                "Cannot bind: no IOMMU group, as no IOMMU is on for it, and enable_unsafe_noiommu_mode of vfio is off\n"
            );
            Err(EINVAL)
        }
        _ => Ok(()),
    }
}
