// SPDX-License-Identifier: GPL-2.0
/* Definitions for vfio_mmap.h. */
#include <linux/io.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#ifdef CONFIG_X86
#include <asm/memtype.h>
#endif

#include "vfio_mmap.h"

static_assert(VFIO_RS_MAP_FIXED == MAP_FIXED);

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

/* Whether new maps of the current process go below those that are there. */
bool vfio_rs_maps_top_down(void)
{
	return mm_flags_test(MMF_TOPDOWN, current->mm);
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

/*
 * Whether what a fault has put in, a page or a huge one, is write-combining, or
 * not to be seen. Macros of page tables, that nothing else can read.
 */
#ifdef CONFIG_X86_PAT
static bool combines(pgprotval_t val)
{
	return !((val ^ pgprot_val(pgprot_writecombine(__pgprot(0)))) & (_PAGE_PWT | _PAGE_PCD));
}

bool vfio_rs_pte_combines(struct vm_fault *vmf)
{
	struct follow_pfnmap_args args = { .vma = vmf->vma, .address = vmf->address };
	bool yes;

	if (follow_pfnmap_start(&args))
		return true;
	yes = combines(pgprot_val(args.pgprot));
	follow_pfnmap_end(&args);
	return yes;
}

bool vfio_rs_pmd_combines(struct vm_fault *vmf)
{
	pmd_t pmd = pmdp_get(vmf->pmd);

	return !pmd_leaf(pmd) || combines(pmd_val(pmd));
}

bool vfio_rs_pud_combines(struct vm_fault *vmf)
{
	pud_t pud = pudp_get(vmf->pud);

	return !pud_leaf(pud) || combines(pud_val(pud));
}
#else
bool vfio_rs_pte_combines(struct vm_fault *vmf)
{
	return true;
}

bool vfio_rs_pmd_combines(struct vm_fault *vmf)
{
	return true;
}

bool vfio_rs_pud_combines(struct vm_fault *vmf)
{
	return true;
}
#endif
