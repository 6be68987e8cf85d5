// SPDX-License-Identifier: GPL-2.0
//! The user interface: structs and flags from `vfio-bindings`, and from [`crate::bindings`] what
//! that crate leaves out: what `<linux/vfio_rs.h>` has, and the numbers of ioctls, here by shorter
//! names.

pub use vfio_bindings::bindings::vfio::*;

// Container.
pub use crate::bindings::{
    VFIO_CHECK_EXTENSION as CHECK_EXTENSION, VFIO_GET_API_VERSION as GET_API_VERSION,
    VFIO_IOMMU_DIRTY_PAGES as IOMMU_DIRTY_PAGES, VFIO_IOMMU_GET_INFO as IOMMU_GET_INFO,
    VFIO_IOMMU_MAP_DMA as IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA as IOMMU_UNMAP_DMA,
    VFIO_SET_IOMMU as SET_IOMMU,
};

// Group.
pub use crate::bindings::{
    VFIO_GROUP_FLAGS_MERGED, VFIO_GROUP_GET_DEVICE_FD as GROUP_GET_DEVICE_FD,
    VFIO_GROUP_GET_STATUS as GROUP_GET_STATUS, VFIO_GROUP_MERGE as GROUP_MERGE,
    VFIO_GROUP_MERGE_SAME_DOMAIN, VFIO_GROUP_SET_CONTAINER as GROUP_SET_CONTAINER,
    VFIO_GROUP_SPLIT as GROUP_SPLIT, VFIO_GROUP_UNSET_CONTAINER as GROUP_UNSET_CONTAINER,
    vfio_group_merge,
};

// Device. Some numbers repeat those of the container: the kind of descriptor decides.
pub use crate::bindings::{
    VFIO_DEVICE_ATTACH_IOMMUFD_PT as DEVICE_ATTACH_IOMMUFD_PT,
    VFIO_DEVICE_BIND_IOMMUFD as DEVICE_BIND_IOMMUFD,
    VFIO_DEVICE_DETACH_IOMMUFD_PT as DEVICE_DETACH_IOMMUFD_PT,
    VFIO_DEVICE_FEATURE as DEVICE_FEATURE, VFIO_DEVICE_GET_INFO as DEVICE_GET_INFO,
    VFIO_DEVICE_GET_IRQ_INFO as DEVICE_GET_IRQ_INFO,
    VFIO_DEVICE_GET_PCI_HOT_RESET_INFO as DEVICE_GET_PCI_HOT_RESET_INFO,
    VFIO_DEVICE_GET_REGION_INFO as DEVICE_GET_REGION_INFO,
    VFIO_DEVICE_IOEVENTFD as DEVICE_IOEVENTFD, VFIO_DEVICE_PCI_HOT_RESET as DEVICE_PCI_HOT_RESET,
    VFIO_DEVICE_RESET as DEVICE_RESET, VFIO_DEVICE_SET_IRQS as DEVICE_SET_IRQS,
};

/// Extensions: the IOMMU keeps DMA coherent with the CPU's caches; UNMAP_DMA has the ALL flag;
/// mappings may change their virtual address.
pub use vfio_bindings::bindings::vfio::{
    VFIO_DMA_CC_IOMMU as EXT_DMA_CC, VFIO_UNMAP_ALL as EXT_UNMAP_ALL,
    VFIO_UPDATE_VADDR as EXT_UPDATE_VADDR,
};

/// A number that no kind of VFIO descriptor serves.
pub const UNKNOWN_IOCTL: u32 = GET_API_VERSION + 99;

/// Size of the leading part of a struct up to the end of `field`: the least `argsz` a call accepts.
#[macro_export]
macro_rules! min_size {
    ($ty:ty, $field:ident) => {{
        const fn size_of_field<S, F>(_: fn(&S) -> &F) -> usize {
            size_of::<F>()
        }
        core::mem::offset_of!($ty, $field) + size_of_field(|s: &$ty| &s.$field)
    }};
}

/// Size of `T` as `argsz` wants it.
#[must_use]
pub const fn argsz<T>() -> u32 {
    size_of::<T>() as u32
}
