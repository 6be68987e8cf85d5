// SPDX-License-Identifier: GPL-2.0
//! The stock VFIO interface: structs and flags from `vfio-bindings`, plus what that crate leaves out: ioctl numbers
//! (`_IO(';', 100 + n)`, without a size) and two extension numbers.

pub use vfio_bindings::bindings::vfio::*;

/// `_IO(VFIO_TYPE, VFIO_BASE + n)`.
const fn io(n: u32) -> u32 {
    ((VFIO_TYPE as u32) << 8) | (VFIO_BASE + n)
}

// Container.
pub const GET_API_VERSION: u32 = io(0);
pub const CHECK_EXTENSION: u32 = io(1);
pub const SET_IOMMU: u32 = io(2);
pub const IOMMU_GET_INFO: u32 = io(12);
pub const IOMMU_MAP_DMA: u32 = io(13);
pub const IOMMU_UNMAP_DMA: u32 = io(14);
pub const IOMMU_DIRTY_PAGES: u32 = io(17);

// Group.
pub const GROUP_GET_STATUS: u32 = io(3);
pub const GROUP_SET_CONTAINER: u32 = io(4);
pub const GROUP_UNSET_CONTAINER: u32 = io(5);
pub const GROUP_GET_DEVICE_FD: u32 = io(6);

// Group, beyond <linux/vfio.h>: what <linux/vfio_rs.h> has.
pub const GROUP_MERGE: u32 = io(65);
pub const GROUP_SPLIT: u32 = io(66);
/// Flag of [`GROUP_MERGE`]: no domain of its own for the group that joins.
pub const VFIO_GROUP_MERGE_SAME_DOMAIN: u32 = 1 << 0;
/// Flag of [`GROUP_GET_STATUS`]: the group has joined another.
pub const VFIO_GROUP_FLAGS_MERGED: u32 = 1 << 30;

/// Argument of [`GROUP_MERGE`] and [`GROUP_SPLIT`].
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct vfio_group_merge {
    pub argsz: u32,
    pub flags: u32,
    pub group_fd: i32,
    pub reserved: u32,
}

// Device. Some numbers repeat those of the container: the kind of descriptor decides.
pub const DEVICE_GET_INFO: u32 = io(7);
pub const DEVICE_GET_REGION_INFO: u32 = io(8);
pub const DEVICE_GET_IRQ_INFO: u32 = io(9);
pub const DEVICE_SET_IRQS: u32 = io(10);
pub const DEVICE_RESET: u32 = io(11);
pub const DEVICE_GET_PCI_HOT_RESET_INFO: u32 = io(12);
pub const DEVICE_PCI_HOT_RESET: u32 = io(13);
pub const DEVICE_IOEVENTFD: u32 = io(16);
pub const DEVICE_FEATURE: u32 = io(17);
pub const DEVICE_BIND_IOMMUFD: u32 = io(18);
pub const DEVICE_ATTACH_IOMMUFD_PT: u32 = io(19);

/// Numbers of `/dev/iommu`, of the same type: `_IO(IOMMUFD_TYPE, n)`.
pub mod iommufd {
    const fn io(n: u32) -> u32 {
        ((super::VFIO_TYPE as u32) << 8) | n
    }
    pub const IOAS_ALLOC: u32 = io(0x81);
    pub const IOAS_MAP: u32 = io(0x85);
    pub const IOAS_UNMAP: u32 = io(0x86);
    pub const IOAS_MAP_FILE: u32 = io(0x8f);
}

/// A number that no kind of VFIO descriptor serves.
pub const UNKNOWN_IOCTL: u32 = io(99);

/// Extension: the IOMMU keeps DMA coherent with the CPU's caches.
pub const EXT_DMA_CC: u32 = 4;
/// Extension: UNMAP_DMA with the ALL flag.
pub const EXT_UNMAP_ALL: u32 = 9;
/// Extension: mappings may change their virtual address.
pub const EXT_UPDATE_VADDR: u32 = 10;

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
