// SPDX-License-Identifier: GPL-2.0

//! Checks at build time that Rust and C agree on the structs that this crate looks into.
//!
//! See `rust/helpers/vfio_layout.h` for why that is in doubt.

use core::mem::{
    offset_of,
    size_of, //
};
use kernel::sync::Mutex;
use vfio_bindings as bindings;

macro_rules! same_offset {
    ($($struct:ident . $($field:ident).+ = $c:ident;)*) => {
        $(const _: () = assert!(
            offset_of!(bindings::$struct, $($field).+) == bindings::$c as usize,
            concat!("bindgen misplaces ", stringify!($struct), $(".", stringify!($field)),+)
        );)*
    };
}

macro_rules! same_size {
    ($($struct:ident = $c:ident;)*) => {
        $(const _: () = assert!(
            size_of::<bindings::$struct>() == bindings::$c as usize,
            concat!("bindgen gets the size of ", stringify!($struct), " wrong")
        );)*
    };
}

same_offset! {
    dma_buf.ops = vfio_rs_layout_VFIO_RS_AT_dma_buf_ops;
    dma_buf.priv_ = vfio_rs_layout_VFIO_RS_AT_dma_buf_priv;
    dma_buf_attachment.dmabuf = vfio_rs_layout_VFIO_RS_AT_dma_buf_attachment_dmabuf;
    dma_buf_attachment.peer2peer = vfio_rs_layout_VFIO_RS_AT_dma_buf_attachment_peer2peer;
    pci_bus.self_ = vfio_rs_layout_VFIO_RS_AT_pci_bus_self;
    pci_bus.number = vfio_rs_layout_VFIO_RS_AT_pci_bus_number;
    pci_slot.bus = vfio_rs_layout_VFIO_RS_AT_pci_slot_bus;
    pci_dev.bus = vfio_rs_layout_VFIO_RS_AT_pci_dev_bus;
    pci_dev.slot = vfio_rs_layout_VFIO_RS_AT_pci_dev_slot;
    pci_dev.devfn = vfio_rs_layout_VFIO_RS_AT_pci_dev_devfn;
    pci_dev.pm_cap = vfio_rs_layout_VFIO_RS_AT_pci_dev_pm_cap;
    pci_dev.class = vfio_rs_layout_VFIO_RS_AT_pci_dev_class;
    pci_dev.vendor = vfio_rs_layout_VFIO_RS_AT_pci_dev_vendor;
    pci_dev.device = vfio_rs_layout_VFIO_RS_AT_pci_dev_device;
    pci_dev.cfg_size = vfio_rs_layout_VFIO_RS_AT_pci_dev_cfg_size;
    pci_dev.hdr_type = vfio_rs_layout_VFIO_RS_AT_pci_dev_hdr_type;
    pci_dev.current_state = vfio_rs_layout_VFIO_RS_AT_pci_dev_current_state;
    pci_dev.irq = vfio_rs_layout_VFIO_RS_AT_pci_dev_irq;
    pci_dev.msi_cap = vfio_rs_layout_VFIO_RS_AT_pci_dev_msi_cap;
    pci_dev.msix_cap = vfio_rs_layout_VFIO_RS_AT_pci_dev_msix_cap;
    pci_dev.driver = vfio_rs_layout_VFIO_RS_AT_pci_dev_driver;
    pci_dev.dev = vfio_rs_layout_VFIO_RS_AT_pci_dev_dev;
    pci_dev.rom = vfio_rs_layout_VFIO_RS_AT_pci_dev_rom;
    pci_dev.romlen = vfio_rs_layout_VFIO_RS_AT_pci_dev_romlen;
    file.f_op = vfio_rs_layout_VFIO_RS_AT_file_f_op;
    file.f_mapping = vfio_rs_layout_VFIO_RS_AT_file_f_mapping;
    file.private_data = vfio_rs_layout_VFIO_RS_AT_file_private_data;
    vm_area_struct.vm_pgoff = vfio_rs_layout_VFIO_RS_AT_vm_area_struct_vm_pgoff;
    vm_area_struct.vm_file = vfio_rs_layout_VFIO_RS_AT_vm_area_struct_vm_file;
    vm_area_struct.vm_ops = vfio_rs_layout_VFIO_RS_AT_vm_area_struct_vm_ops;
    follow_pfnmap_args.pfn = vfio_rs_layout_VFIO_RS_AT_follow_pfnmap_args_pfn;
    follow_pfnmap_args.addr_mask = vfio_rs_layout_VFIO_RS_AT_follow_pfnmap_args_addr_mask;
    follow_pfnmap_args.writable = vfio_rs_layout_VFIO_RS_AT_follow_pfnmap_args_writable;
    cdev.owner = vfio_rs_layout_VFIO_RS_AT_cdev_owner;
    device.parent = vfio_rs_layout_VFIO_RS_AT_device_parent;
    device.devt = vfio_rs_layout_VFIO_RS_AT_device_devt;
    device.class = vfio_rs_layout_VFIO_RS_AT_device_class;
    device.release = vfio_rs_layout_VFIO_RS_AT_device_release;
    iommu_domain.ops = vfio_rs_layout_VFIO_RS_AT_iommu_domain_ops;
    iommu_domain.geometry = vfio_rs_layout_VFIO_RS_AT_iommu_domain_geometry;
    iommu_domain.pgsize_bitmap = vfio_rs_layout_VFIO_RS_AT_iommu_domain_pgsize_bitmap;
    resource.start = vfio_rs_layout_VFIO_RS_AT_resource_start;
    resource.end = vfio_rs_layout_VFIO_RS_AT_resource_end;
    resource.flags = vfio_rs_layout_VFIO_RS_AT_resource_flags;
    resource.parent = vfio_rs_layout_VFIO_RS_AT_resource_parent;
    vfsmount.mnt_sb = vfio_rs_layout_VFIO_RS_AT_vfsmount_mnt_sb;
    inode.i_mapping = vfio_rs_layout_VFIO_RS_AT_inode_i_mapping;
    iommu_resv_region.start = vfio_rs_layout_VFIO_RS_AT_iommu_resv_region_start;
    iommu_resv_region.length = vfio_rs_layout_VFIO_RS_AT_iommu_resv_region_length;
    iommu_resv_region.type_ = vfio_rs_layout_VFIO_RS_AT_iommu_resv_region_type;
    delayed_work.work = vfio_rs_layout_VFIO_RS_AT_delayed_work_work;
    scatterlist.page_link = vfio_rs_layout_VFIO_RS_AT_scatterlist_page_link;
    scatterlist.length = vfio_rs_layout_VFIO_RS_AT_scatterlist_length;
    device_driver.pm = vfio_rs_layout_VFIO_RS_AT_device_driver_pm;
    file_operations.owner = vfio_rs_layout_VFIO_RS_AT_file_operations_owner;
    inode.i_private = vfio_rs_layout_VFIO_RS_AT_inode_i_private;
    iommu_domain_geometry.aperture_start = vfio_rs_layout_VFIO_RS_AT_iommu_domain_geometry_aperture_start;
    iommu_domain_geometry.aperture_end = vfio_rs_layout_VFIO_RS_AT_iommu_domain_geometry_aperture_end;
    iommu_resv_region.list = vfio_rs_layout_VFIO_RS_AT_iommu_resv_region_list;
    list_head.next = vfio_rs_layout_VFIO_RS_AT_list_head_next;
    list_head.prev = vfio_rs_layout_VFIO_RS_AT_list_head_prev;
    pci_driver.driver = vfio_rs_layout_VFIO_RS_AT_pci_driver_driver;
    pci_driver.driver_managed_dma = vfio_rs_layout_VFIO_RS_AT_pci_driver_driver_managed_dma;
    pci_driver.err_handler = vfio_rs_layout_VFIO_RS_AT_pci_driver_err_handler;
    pci_driver.id_table = vfio_rs_layout_VFIO_RS_AT_pci_driver_id_table;
    pci_driver.name = vfio_rs_layout_VFIO_RS_AT_pci_driver_name;
    pci_driver.probe = vfio_rs_layout_VFIO_RS_AT_pci_driver_probe;
    pci_driver.remove = vfio_rs_layout_VFIO_RS_AT_pci_driver_remove;
    pci_driver.sriov_configure = vfio_rs_layout_VFIO_RS_AT_pci_driver_sriov_configure;
    phys_vec.len = vfio_rs_layout_VFIO_RS_AT_phys_vec_len;
    phys_vec.paddr = vfio_rs_layout_VFIO_RS_AT_phys_vec_paddr;
    seq_file.private = vfio_rs_layout_VFIO_RS_AT_seq_file_private;
    vm_area_struct.__bindgen_anon_1.__bindgen_anon_1.vm_start = vfio_rs_layout_VFIO_RS_AT_vm_area_struct_vm_start;
    vm_area_struct.__bindgen_anon_1.__bindgen_anon_1.vm_end = vfio_rs_layout_VFIO_RS_AT_vm_area_struct_vm_end;
    vm_fault.__bindgen_anon_1.vma = vfio_rs_layout_VFIO_RS_AT_vm_fault_vma;
    vm_fault.__bindgen_anon_1.address = vfio_rs_layout_VFIO_RS_AT_vm_fault_address;
}

same_size! {
    cdev = vfio_rs_layout_VFIO_RS_SIZE_cdev;
    class = vfio_rs_layout_VFIO_RS_SIZE_class;
    dma_buf_ops = vfio_rs_layout_VFIO_RS_SIZE_dma_buf_ops;
    phys_vec = vfio_rs_layout_VFIO_RS_SIZE_phys_vec;
    device = vfio_rs_layout_VFIO_RS_SIZE_device;
    file_operations = vfio_rs_layout_VFIO_RS_SIZE_file_operations;
    file_system_type = vfio_rs_layout_VFIO_RS_SIZE_file_system_type;
    follow_pfnmap_args = vfio_rs_layout_VFIO_RS_SIZE_follow_pfnmap_args;
    irq_bypass_producer = vfio_rs_layout_VFIO_RS_SIZE_irq_bypass_producer;
    miscdevice = vfio_rs_layout_VFIO_RS_SIZE_miscdevice;
    page = vfio_rs_layout_VFIO_RS_SIZE_page;
    pci_device_id = vfio_rs_layout_VFIO_RS_SIZE_pci_device_id;
    dev_pm_ops = vfio_rs_layout_VFIO_RS_SIZE_dev_pm_ops;
    pci_driver = vfio_rs_layout_VFIO_RS_SIZE_pci_driver;
    pci_error_handlers = vfio_rs_layout_VFIO_RS_SIZE_pci_error_handlers;
    resource = vfio_rs_layout_VFIO_RS_SIZE_resource;
    rw_semaphore = vfio_rs_layout_VFIO_RS_SIZE_rw_semaphore;
    wait_queue_entry = vfio_rs_layout_VFIO_RS_SIZE_wait_queue_entry;
    wait_queue_head = vfio_rs_layout_VFIO_RS_SIZE_wait_queue_head;
    work_struct = vfio_rs_layout_VFIO_RS_SIZE_work_struct;
    delayed_work = vfio_rs_layout_VFIO_RS_SIZE_delayed_work;
    scatterlist = vfio_rs_layout_VFIO_RS_SIZE_scatterlist;
    vm_operations_struct = vfio_rs_layout_VFIO_RS_SIZE_vm_operations_struct;
    completion = vfio_rs_layout_VFIO_RS_SIZE_completion;
    iommu_iotlb_gather = vfio_rs_layout_VFIO_RS_SIZE_iommu_iotlb_gather;
    list_head = vfio_rs_layout_VFIO_RS_SIZE_list_head;
    mutex = vfio_rs_layout_VFIO_RS_SIZE_mutex;
    notifier_block = vfio_rs_layout_VFIO_RS_SIZE_notifier_block;
}

// `mutex.rs` takes the start of a `Mutex` for the C mutex.
const _: () = assert!(size_of::<Mutex<()>>() == size_of::<bindings::mutex>());

// `iommu/group.rs` takes a list's links for the regions.
const _: () = assert!(offset_of!(bindings::iommu_resv_region, list) == 0);
