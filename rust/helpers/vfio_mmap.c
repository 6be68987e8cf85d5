// SPDX-License-Identifier: GPL-2.0
/* Definitions for vfio_mmap.h. */
#include <linux/io.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#ifdef CONFIG_X86
#include <asm/memtype.h>
#endif

#include "vfio_mmap.h"

/* What io_remap_pfn_range() would set; the fault handler may not change it. */
void vfio_rs_vma_set_mmio(struct vm_area_struct *vma, bool write_combining)
{
	pgprot_t prot = write_combining ? pgprot_writecombine(vma->vm_page_prot) :
					  pgprot_noncached(vma->vm_page_prot);

	vma->vm_page_prot = pgprot_decrypted(prot);
	vm_flags_set(vma, VM_ALLOW_ANY_UNCACHED | VM_IO | VM_PFNMAP |
			  VM_DONTEXPAND | VM_DONTDUMP);
}

void vfio_rs_vma_set_page(struct vm_area_struct *vma)
{
	vm_flags_mod(vma, VM_MIXEDMAP | VM_DONTEXPAND | VM_DONTDUMP, VM_MAYEXEC);
}

vm_fault_t vfio_rs_insert_page(struct vm_fault *vmf, struct page *page)
{
	return vmf_insert_page(vmf->vma, vmf->address, page);
}

u64 vfio_rs_page_to_phys(struct page *page)
{
	return page_to_phys(page);
}

unsigned int vfio_rs_fault_flags(struct vm_fault *vmf)
{
	return vmf->flags;
}

void vfio_rs_release_fault_lock(struct vm_fault *vmf)
{
	release_fault_lock(vmf);
}

vm_fault_t vfio_rs_insert_pfn(struct vm_fault *vmf, unsigned long pfn, unsigned int order)
{
	if (!order)
		return vmf_insert_pfn(vmf->vma, vmf->address, pfn);
#ifdef CONFIG_ARCH_SUPPORTS_PMD_PFNMAP
	if (order == PMD_ORDER)
		return vmf_insert_pfn_pmd(vmf, pfn, false);
#endif
#ifdef CONFIG_ARCH_SUPPORTS_PUD_PFNMAP
	if (order == PUD_ORDER)
		return vmf_insert_pfn_pud(vmf, pfn, false);
#endif
	return VM_FAULT_FALLBACK;
}

/* Where the kernel would put any map. */
unsigned long vfio_rs_get_unmapped_area(struct file *file, unsigned long addr,
					unsigned long len, unsigned long pgoff,
					unsigned long flags)
{
	return mm_get_unmapped_area(file, addr, len, pgoff, flags);
}

#ifdef CONFIG_ARCH_SUPPORTS_PMD_PFNMAP
/*
 * Room for @len bytes where a huge page of @size can map @phys: both have the
 * same place in it. 0 if there is none, or if @len holds no whole huge page.
 */
static unsigned long huge_area(struct file *file, unsigned long len, unsigned long pgoff,
			       unsigned long flags, u64 phys, unsigned long size)
{
	unsigned long addr, shift;

	if (round_up(phys, size) + size > phys + len || len + size < len)
		return 0;
	addr = mm_get_unmapped_area(file, 0, len + size, pgoff, flags);
	if (IS_ERR_VALUE(addr))
		return 0;
	shift = (phys - addr) & (size - 1);
	/* Top down, the end of the area is where the next map begins. */
	if (!shift && mm_flags_test(MMF_TOPDOWN, current->mm))
		shift = size;
	return addr + shift;
}
#endif

unsigned long vfio_rs_huge_unmapped_area(struct file *file, unsigned long len,
					 unsigned long pgoff, unsigned long flags, u64 phys)
{
	unsigned long addr = 0;

	if (flags & MAP_FIXED)
		return mm_get_unmapped_area(file, 0, len, pgoff, flags);
#ifdef CONFIG_ARCH_SUPPORTS_PUD_PFNMAP
	addr = huge_area(file, len, pgoff, flags, phys, PUD_SIZE);
#endif
#ifdef CONFIG_ARCH_SUPPORTS_PMD_PFNMAP
	if (!addr)
		addr = huge_area(file, len, pgoff, flags, phys, PMD_SIZE);
#endif
	return addr ?: mm_get_unmapped_area(file, 0, len, pgoff, flags);
}

/* Whether a physical range can be made write-combining. */
bool vfio_rs_write_combining_works(void)
{
#ifdef CONFIG_X86_PAT
	return pat_enabled();
#else
	return false;
#endif
}

int vfio_rs_reserve_wc(u64 start, u64 size)
{
	return arch_io_reserve_memtype_wc(start, size);
}

void vfio_rs_free_wc(u64 start, u64 size)
{
	arch_io_free_memtype_wc(start, size);
}

static u32 wc_downgraded;

/*
 * Counts a page of a write-combining map that was just put in and is something
 * else, as somebody else's map of the range was there first: that the range
 * could be reserved proves nothing.
 */
void vfio_rs_check_wc(struct vm_fault *vmf, unsigned int order)
{
#ifdef CONFIG_X86_PAT
	const pgprotval_t mask = _PAGE_PWT | _PAGE_PCD;
	pgprotval_t want = pgprot_val(pgprot_writecombine(__pgprot(0))) & mask;
	pgprotval_t got = want;

	if (order == PMD_ORDER) {
		pmd_t pmd = pmdp_get(vmf->pmd);

		if (pmd_leaf(pmd))
			got = pmd_val(pmd) & mask;
	} else if (order == PUD_ORDER) {
		pud_t pud = pudp_get(vmf->pud);

		if (pud_leaf(pud))
			got = pud_val(pud) & mask;
	} else if (!(vmf->flags & FAULT_FLAG_VMA_LOCK)) {
		struct follow_pfnmap_args args = { .vma = vmf->vma, .address = vmf->address };

		if (!follow_pfnmap_start(&args)) {
			got = pgprot_val(args.pgprot) & mask;
			follow_pfnmap_end(&args);
		}
	}
	if (got != want)
		WRITE_ONCE(wc_downgraded, READ_ONCE(wc_downgraded) + 1);
#endif
}

u32 vfio_rs_wc_downgraded(void)
{
	return READ_ONCE(wc_downgraded);
}
