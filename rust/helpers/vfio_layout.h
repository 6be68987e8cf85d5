/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where C has the fields that Rust reads, and how large the structs are that it
 * makes: bindgen can get a layout wrong without a word (it ignores the
 * alignment of empty structs), so vfio_kernel/layout.rs compares.
 */
#ifndef _VFIO_RS_LAYOUT_H
#define _VFIO_RS_LAYOUT_H

#include <linux/cdev.h>
#include <linux/completion.h>
#include <linux/dma-buf.h>
#include <linux/device/class.h>
#include <linux/fs.h>
#include <linux/iommu.h>
#include <linux/irqbypass.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/seq_file.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/scatterlist.h>

enum vfio_rs_layout {
	VFIO_RS_AT_dma_buf_ops = offsetof(struct dma_buf, ops),
	VFIO_RS_AT_dma_buf_priv = offsetof(struct dma_buf, priv),
	VFIO_RS_AT_dma_buf_attachment_dmabuf = offsetof(struct dma_buf_attachment, dmabuf),
	VFIO_RS_AT_dma_buf_attachment_peer2peer =
		offsetof(struct dma_buf_attachment, peer2peer),
	VFIO_RS_AT_pci_bus_self = offsetof(struct pci_bus, self),
	VFIO_RS_AT_pci_bus_number = offsetof(struct pci_bus, number),
	VFIO_RS_AT_pci_slot_bus = offsetof(struct pci_slot, bus),
	VFIO_RS_AT_pci_dev_bus = offsetof(struct pci_dev, bus),
	VFIO_RS_AT_pci_dev_slot = offsetof(struct pci_dev, slot),
	VFIO_RS_AT_pci_dev_devfn = offsetof(struct pci_dev, devfn),
	VFIO_RS_AT_pci_dev_pm_cap = offsetof(struct pci_dev, pm_cap),
	VFIO_RS_AT_pci_dev_class = offsetof(struct pci_dev, class),
	VFIO_RS_AT_pci_dev_vendor = offsetof(struct pci_dev, vendor),
	VFIO_RS_AT_pci_dev_device = offsetof(struct pci_dev, device),
	VFIO_RS_AT_pci_dev_cfg_size = offsetof(struct pci_dev, cfg_size),
	VFIO_RS_AT_pci_dev_hdr_type = offsetof(struct pci_dev, hdr_type),
	VFIO_RS_AT_pci_dev_current_state = offsetof(struct pci_dev, current_state),
	VFIO_RS_AT_pci_dev_irq = offsetof(struct pci_dev, irq),
	VFIO_RS_AT_pci_dev_msi_cap = offsetof(struct pci_dev, msi_cap),
	VFIO_RS_AT_pci_dev_msix_cap = offsetof(struct pci_dev, msix_cap),
	VFIO_RS_AT_pci_dev_driver = offsetof(struct pci_dev, driver),
	VFIO_RS_AT_pci_dev_dev = offsetof(struct pci_dev, dev),
	VFIO_RS_AT_pci_dev_rom = offsetof(struct pci_dev, rom),
	VFIO_RS_AT_pci_dev_romlen = offsetof(struct pci_dev, romlen),
	VFIO_RS_AT_file_f_op = offsetof(struct file, f_op),
	VFIO_RS_AT_file_f_mapping = offsetof(struct file, f_mapping),
	VFIO_RS_AT_file_private_data = offsetof(struct file, private_data),
	VFIO_RS_AT_vm_area_struct_vm_pgoff = offsetof(struct vm_area_struct, vm_pgoff),
	VFIO_RS_AT_vm_area_struct_vm_file = offsetof(struct vm_area_struct, vm_file),
	VFIO_RS_AT_vm_area_struct_vm_ops = offsetof(struct vm_area_struct, vm_ops),
	VFIO_RS_AT_follow_pfnmap_args_pfn = offsetof(struct follow_pfnmap_args, pfn),
	VFIO_RS_AT_follow_pfnmap_args_addr_mask = offsetof(struct follow_pfnmap_args, addr_mask),
	VFIO_RS_AT_follow_pfnmap_args_writable = offsetof(struct follow_pfnmap_args, writable),
	VFIO_RS_AT_cdev_owner = offsetof(struct cdev, owner),
	VFIO_RS_AT_device_parent = offsetof(struct device, parent),
	VFIO_RS_AT_device_devt = offsetof(struct device, devt),
	VFIO_RS_AT_device_class = offsetof(struct device, class),
	VFIO_RS_AT_device_release = offsetof(struct device, release),
	VFIO_RS_AT_iommu_domain_ops = offsetof(struct iommu_domain, ops),
	VFIO_RS_AT_iommu_domain_geometry = offsetof(struct iommu_domain, geometry),
	VFIO_RS_AT_iommu_domain_pgsize_bitmap = offsetof(struct iommu_domain, pgsize_bitmap),
	VFIO_RS_AT_resource_start = offsetof(struct resource, start),
	VFIO_RS_AT_resource_end = offsetof(struct resource, end),
	VFIO_RS_AT_resource_flags = offsetof(struct resource, flags),
	VFIO_RS_AT_resource_parent = offsetof(struct resource, parent),
	VFIO_RS_AT_vfsmount_mnt_sb = offsetof(struct vfsmount, mnt_sb),
	VFIO_RS_AT_inode_i_mapping = offsetof(struct inode, i_mapping),
	VFIO_RS_AT_iommu_resv_region_start = offsetof(struct iommu_resv_region, start),
	VFIO_RS_AT_iommu_resv_region_length = offsetof(struct iommu_resv_region, length),
	VFIO_RS_AT_iommu_resv_region_type = offsetof(struct iommu_resv_region, type),
	VFIO_RS_AT_scatterlist_page_link = offsetof(struct scatterlist, page_link),
	VFIO_RS_AT_scatterlist_length = offsetof(struct scatterlist, length),
	VFIO_RS_AT_delayed_work_work = offsetof(struct delayed_work, work),
	VFIO_RS_AT_device_driver_pm = offsetof(struct device_driver, pm),
	VFIO_RS_AT_file_operations_owner = offsetof(struct file_operations, owner),
	VFIO_RS_AT_inode_i_private = offsetof(struct inode, i_private),
	VFIO_RS_AT_iommu_domain_geometry_aperture_start =
		offsetof(struct iommu_domain_geometry, aperture_start),
	VFIO_RS_AT_iommu_domain_geometry_aperture_end =
		offsetof(struct iommu_domain_geometry, aperture_end),
	VFIO_RS_AT_iommu_resv_region_list = offsetof(struct iommu_resv_region, list),
	VFIO_RS_AT_list_head_next = offsetof(struct list_head, next),
	VFIO_RS_AT_list_head_prev = offsetof(struct list_head, prev),
	VFIO_RS_AT_pci_driver_driver = offsetof(struct pci_driver, driver),
	VFIO_RS_AT_pci_driver_driver_managed_dma = offsetof(struct pci_driver, driver_managed_dma),
	VFIO_RS_AT_pci_driver_err_handler = offsetof(struct pci_driver, err_handler),
	VFIO_RS_AT_pci_driver_id_table = offsetof(struct pci_driver, id_table),
	VFIO_RS_AT_pci_driver_name = offsetof(struct pci_driver, name),
	VFIO_RS_AT_pci_driver_probe = offsetof(struct pci_driver, probe),
	VFIO_RS_AT_pci_driver_remove = offsetof(struct pci_driver, remove),
	VFIO_RS_AT_pci_driver_sriov_configure = offsetof(struct pci_driver, sriov_configure),
	VFIO_RS_AT_phys_vec_len = offsetof(struct phys_vec, len),
	VFIO_RS_AT_phys_vec_paddr = offsetof(struct phys_vec, paddr),
	VFIO_RS_AT_seq_file_private = offsetof(struct seq_file, private),
	VFIO_RS_AT_vm_area_struct_vm_start = offsetof(struct vm_area_struct, vm_start),
	VFIO_RS_AT_vm_area_struct_vm_end = offsetof(struct vm_area_struct, vm_end),
	VFIO_RS_AT_vm_fault_vma = offsetof(struct vm_fault, vma),
	VFIO_RS_AT_vm_fault_address = offsetof(struct vm_fault, address),
	VFIO_RS_SIZE_cdev = sizeof(struct cdev),
	VFIO_RS_SIZE_class = sizeof(struct class),
	VFIO_RS_SIZE_dma_buf_ops = sizeof(struct dma_buf_ops),
	VFIO_RS_SIZE_phys_vec = sizeof(struct phys_vec),
	VFIO_RS_SIZE_device = sizeof(struct device),
	VFIO_RS_SIZE_file_operations = sizeof(struct file_operations),
	VFIO_RS_SIZE_file_system_type = sizeof(struct file_system_type),
	VFIO_RS_SIZE_follow_pfnmap_args = sizeof(struct follow_pfnmap_args),
	VFIO_RS_SIZE_irq_bypass_producer = sizeof(struct irq_bypass_producer),
	VFIO_RS_SIZE_miscdevice = sizeof(struct miscdevice),
	VFIO_RS_SIZE_page = sizeof(struct page),
	VFIO_RS_SIZE_pci_device_id = sizeof(struct pci_device_id),
	VFIO_RS_SIZE_dev_pm_ops = sizeof(struct dev_pm_ops),
	VFIO_RS_SIZE_pci_driver = sizeof(struct pci_driver),
	VFIO_RS_SIZE_pci_error_handlers = sizeof(struct pci_error_handlers),
	VFIO_RS_SIZE_resource = sizeof(struct resource),
	VFIO_RS_SIZE_rw_semaphore = sizeof(struct rw_semaphore),
	VFIO_RS_SIZE_wait_queue_entry = sizeof(struct wait_queue_entry),
	VFIO_RS_SIZE_wait_queue_head = sizeof(struct wait_queue_head),
	VFIO_RS_SIZE_work_struct = sizeof(struct work_struct),
	VFIO_RS_SIZE_delayed_work = sizeof(struct delayed_work),
	VFIO_RS_SIZE_scatterlist = sizeof(struct scatterlist),
	VFIO_RS_SIZE_vm_operations_struct = sizeof(struct vm_operations_struct),
	VFIO_RS_SIZE_completion = sizeof(struct completion),
	VFIO_RS_SIZE_iommu_iotlb_gather = sizeof(struct iommu_iotlb_gather),
	VFIO_RS_SIZE_list_head = sizeof(struct list_head),
	VFIO_RS_SIZE_mutex = sizeof(struct mutex),
	VFIO_RS_SIZE_notifier_block = sizeof(struct notifier_block),
};

#endif /* _VFIO_RS_LAYOUT_H */
