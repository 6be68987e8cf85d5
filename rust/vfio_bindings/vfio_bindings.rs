// SPDX-License-Identifier: GPL-2.0

//! Generated declarations: kernel functions that the `kernel` crate's bindings lack, and the
//! structs of `<linux/vfio.h>`. Nothing is written by hand but the headers of structs with a
//! flexible array.
//!
//! `vfio_kernel` is the only user of the functions; drivers use [`uapi`].

#![allow(
    clippy::all,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

pub use kernel::bindings::*;
use kernel::ffi;

include!(concat!(env!("VFIO_RS_GENERATED"), "/bindings_generated.rs"));

/// The user interface, `include/uapi/linux/vfio.h`.
pub mod uapi {
    use kernel::ffi;
    use zerocopy_derive::{
        FromBytes,
        Immutable,
        IntoBytes,
        KnownLayout, //
    };

    include!(concat!(env!("VFIO_RS_GENERATED"), "/uapi_generated.rs"));

    /// `struct vfio_irq_set` without its flexible array.
    #[repr(C)]
    #[derive(Clone, Copy, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
    pub struct vfio_irq_set_header {
        pub argsz: u32,
        pub flags: u32,
        pub index: u32,
        pub start: u32,
        pub count: u32,
    }

    /// `struct vfio_pamu_attr` with its union as the words it consists of.
    #[repr(C)]
    #[derive(Clone, Copy, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
    pub struct vfio_pamu_attr_words {
        pub argsz: u32,
        pub flags: u32,
        pub attribute: u32,
        pub __reserved: u32,
        pub data: [u64; 4],
    }

    const _: () = assert!(size_of::<vfio_pamu_attr_words>() == size_of::<vfio_pamu_attr>());

    /// `struct vfio_iommu_type1_dma_unmap` without its flexible array.
    #[repr(C)]
    #[derive(Clone, Copy, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
    pub struct vfio_iommu_type1_dma_unmap_header {
        pub argsz: u32,
        pub flags: u32,
        pub iova: u64,
        pub size: u64,
    }

    /// `struct vfio_iommu_type1_info_cap_iova_range` without its flexible array.
    #[repr(C)]
    #[derive(Clone, Copy, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
    pub struct vfio_iommu_type1_info_cap_iova_range_header {
        pub header: vfio_info_cap_header,
        pub nr_iovas: u32,
        pub reserved: u32,
    }

    /// `struct vfio_pci_hot_reset_info` without its flexible array.
    #[repr(C)]
    #[derive(Clone, Copy, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
    pub struct vfio_pci_hot_reset_info_header {
        pub argsz: u32,
        pub flags: u32,
        pub count: u32,
    }

    /// `struct vfio_pci_dependent_device` of a device that was opened through its group.
    #[repr(C)]
    #[derive(Clone, Copy, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
    pub struct vfio_pci_dependent_device_in_group {
        pub group_id: u32,
        pub segment: u16,
        pub bus: u8,
        pub devfn: u8,
    }

    /// `struct vfio_pci_hot_reset` without its flexible array.
    #[repr(C)]
    #[derive(Clone, Copy, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
    pub struct vfio_pci_hot_reset_header {
        pub argsz: u32,
        pub flags: u32,
        pub count: u32,
    }

    /// `struct vfio_group_viability` without its flexible array.
    #[repr(C)]
    #[derive(Clone, Copy, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
    pub struct vfio_group_viability_header {
        pub argsz: u32,
        pub flags: u32,
        pub count: u32,
        pub reason: u32,
    }

    /// `struct vfio_device_feature` without its flexible array.
    #[repr(C)]
    #[derive(Clone, Copy, Default, FromBytes, Immutable, IntoBytes, KnownLayout)]
    pub struct vfio_device_feature_header {
        pub argsz: u32,
        pub flags: u32,
    }
}
