/* SPDX-License-Identifier: GPL-2.0 */
/* As vfio_helpers.h, for user maps of device memory and how they are cached. */
#ifndef _VFIO_RS_MMAP_H
#define _VFIO_RS_MMAP_H

#include <linux/mm.h>
#include <linux/mman.h>

#define VFIO_RS_MAP_FIXED 0x10

void vfio_rs_vma_set_mmio(struct vm_area_struct *vma, bool write_combining);
void vfio_rs_vma_set_page(struct vm_area_struct *vma);
vm_fault_t vfio_rs_insert_page(struct vm_fault *vmf, struct page *page);
u64 vfio_rs_page_to_phys(struct page *page);
unsigned int vfio_rs_fault_flags(struct vm_fault *vmf);
void vfio_rs_release_fault_lock(struct vm_fault *vmf);
vm_fault_t vfio_rs_insert_pfn(struct vm_fault *vmf, unsigned long pfn, unsigned int order);
unsigned long vfio_rs_get_unmapped_area(struct file *file, unsigned long addr,
					unsigned long len, unsigned long pgoff,
					unsigned long flags);
bool vfio_rs_maps_top_down(void);

bool vfio_rs_write_combining_works(void);
int vfio_rs_reserve_wc(u64 start, u64 size);
void vfio_rs_free_wc(u64 start, u64 size);
bool vfio_rs_pte_combines(struct vm_fault *vmf);
bool vfio_rs_pmd_combines(struct vm_fault *vmf);
bool vfio_rs_pud_combines(struct vm_fault *vmf);

#endif /* _VFIO_RS_MMAP_H */
