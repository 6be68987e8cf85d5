// SPDX-License-Identifier: GPL-2.0

//! What users and the kernel agree on: ioctl numbers, and how structs are read and written.
//!
//! Numbers and structs are those of `include/uapi/linux/vfio.h`. VFIO numbers repeat from one kind
//! of file to the next, so there is a table for each.

pub(crate) mod caps;
pub(crate) mod dma;
pub(crate) mod irq_set;
pub(crate) mod row;

use kernel::ioctl::_IO;
use vfio_kernel::mapping::PseudoFs;

/// The address spaces of all files that users map.
pub(crate) static MAPPINGS: PseudoFs<crate::VfioRs> = PseudoFs::new(c"vfio");

/// `VFIO_MINOR` of `include/linux/miscdevice.h`.
pub(crate) const VFIO_MINOR: u32 = 196;

/// The `nr`th ioctl of VFIO; none encodes a size.
const fn vfio(nr: u32) -> u32 {
    // CAST: `VFIO_TYPE` is the character ';'.
    _IO(b';' as u32, 100u32.wrapping_add(nr))
}

/// Ioctls of a container.
pub(crate) mod container_nr {
    use super::vfio;

    pub(crate) const GET_API_VERSION: u32 = vfio(0);
    pub(crate) const CHECK_EXTENSION: u32 = vfio(1);
    pub(crate) const SET_IOMMU: u32 = vfio(2);
    pub(crate) const IOMMU_GET_INFO: u32 = vfio(12);
    pub(crate) const IOMMU_MAP_DMA: u32 = vfio(13);
    pub(crate) const IOMMU_UNMAP_DMA: u32 = vfio(14);
    pub(crate) const IOMMU_DIRTY_PAGES: u32 = vfio(17);
    pub(crate) const KVM_BIND_TABLE: u32 = vfio(64);
    pub(crate) const KVM_INVALIDATE: u32 = vfio(65);
    pub(crate) const KVM_UNBIND: u32 = vfio(66);
    pub(crate) const KVM_INVALIDATE_MANY: u32 = vfio(72);
    pub(crate) const PAMU_GET_ATTR: u32 = vfio(67);
    pub(crate) const PAMU_SET_ATTR: u32 = vfio(68);
    pub(crate) const PAMU_GET_MSI_BANK_COUNT: u32 = vfio(69);
    pub(crate) const PAMU_MSI_BANK_MAP: u32 = vfio(70);
    pub(crate) const PAMU_MSI_BANK_UNMAP: u32 = vfio(71);
}

/// Ioctls of a group.
pub(crate) mod group_nr {
    use super::vfio;

    pub(crate) const GET_STATUS: u32 = vfio(3);
    pub(crate) const SET_CONTAINER: u32 = vfio(4);
    pub(crate) const UNSET_CONTAINER: u32 = vfio(5);
    pub(crate) const GET_DEVICE_FD: u32 = vfio(6);
    pub(crate) const MERGE: u32 = vfio(65);
    pub(crate) const SPLIT: u32 = vfio(66);
    pub(crate) const GET_MSI_FD: u32 = vfio(64);
    pub(crate) const GET_VIABILITY: u32 = vfio(67);
}

/// Ioctls of a device.
pub(crate) mod device_nr {
    use super::vfio;

    pub(crate) const GET_INFO: u32 = vfio(7);
    pub(crate) const GET_REGION_INFO: u32 = vfio(8);
    pub(crate) const GET_IRQ_INFO: u32 = vfio(9);
    pub(crate) const SET_IRQS: u32 = vfio(10);
    pub(crate) const RESET: u32 = vfio(11);
    pub(crate) const GET_PCI_HOT_RESET_INFO: u32 = vfio(12);
    pub(crate) const PCI_HOT_RESET: u32 = vfio(13);
    pub(crate) const IOEVENTFD: u32 = vfio(16);
    pub(crate) const FEATURE: u32 = vfio(17);
    pub(crate) const BIND_IOMMUFD: u32 = vfio(18);
    pub(crate) const ATTACH_IOMMUFD_PT: u32 = vfio(19);
    pub(crate) const DETACH_IOMMUFD_PT: u32 = vfio(20);
}
