// SPDX-License-Identifier: GPL-2.0
/* Definitions for vfio_helpers.h. */
#include <linux/anon_inodes.h>
#include <linux/generic_pt/iommu.h>
#include <linux/highmem.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/io.h>
#include <linux/irq.h>
#include <linux/magic.h>
#include <linux/msi.h>
#include <linux/nospec.h>
#include <linux/pseudo_fs.h>
#include <linux/ratelimit.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "vfio_helpers.h"

/* vfio_kernel/pin.rs computes with addresses of struct pages. */
#if defined(CONFIG_SPARSEMEM) && !defined(CONFIG_SPARSEMEM_VMEMMAP)
#error "The struct pages must be one array: CONFIG_SPARSEMEM_VMEMMAP or CONFIG_FLATMEM"
#endif

struct page *vfio_rs_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

unsigned long vfio_rs_index_nospec(unsigned long index, unsigned long size)
{
	return array_index_nospec(index, size);
}

struct mm_struct *vfio_rs_current_mm(void)
{
	return current->mm;
}

pid_t vfio_rs_current_pid(void)
{
	return task_pid_nr(current);
}

bool vfio_rs_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

void vfio_rs_memcpy_to_page(struct page *page, size_t offset, const void *from, size_t len)
{
	memcpy_to_page(page, offset, from, len);
}

void vfio_rs_cond_resched(void)
{
	cond_resched();
}

bool vfio_rs_pci_config_blocked(struct pci_dev *dev)
{
	return dev->block_cfg_access;
}

int vfio_rs_pcibios_err_to_errno(int err)
{
	return pcibios_err_to_errno(err);
}

void vfio_rs_reinit_completion(struct completion *x)
{
	reinit_completion(x);
}

/* Returns 0 when *@rounds is no longer @seen. */
int vfio_rs_wait_killable(struct wait_queue_head *queue, const unsigned int *rounds,
			  unsigned int seen)
{
	return wait_event_killable(*queue, READ_ONCE(*rounds) != seen);
}

void vfio_rs_wake_all(struct wait_queue_head *queue)
{
	wake_up_all(queue);
}

void vfio_rs_mutex_lock_nested(struct mutex *lock)
{
	mutex_lock_nested(lock, SINGLE_DEPTH_NESTING);
}

int vfio_rs_mutex_lock_killable(struct mutex *lock)
{
	return mutex_lock_killable(lock);
}

/*
 * account_locked_vm(), which waits for no dying process's lock and looks at the
 * limit of the whole process. @mm is that of the current one.
 */
int vfio_rs_account_locked_vm(struct mm_struct *mm, unsigned long npages)
{
	bool bypass;
	int ret;

	if (!npages)
		return 0;
	bypass = capable(CAP_IPC_LOCK);
	ret = mmap_write_lock_killable(mm);
	if (ret)
		return ret;
	ret = __account_locked_vm(mm, npages, true, current->group_leader, bypass);
	mmap_write_unlock(mm);
	return ret;
}

/* The task is only looked at for a debug message. */
void vfio_rs_unaccount_locked_vm(struct mm_struct *mm, unsigned long npages)
{
	mmap_write_lock(mm);
	__account_locked_vm(mm, npages, false, current, true);
	mmap_write_unlock(mm);
}

/* The same, unless the lock is taken: mmap_write_lock() that does not wait. */
bool vfio_rs_try_unaccount_locked_vm(struct mm_struct *mm, unsigned long npages)
{
	if (!down_write_trylock(&mm->mmap_lock))
		return false;
	mm_lock_seqcount_begin(mm);
	__account_locked_vm(mm, npages, false, current, true);
	mmap_write_unlock(mm);
	return true;
}

/* The same, unless the task is being killed while it waits for the lock. */
int vfio_rs_unaccount_locked_vm_killable(struct mm_struct *mm, unsigned long npages)
{
	int ret = mmap_write_lock_killable(mm);

	if (ret)
		return ret;
	__account_locked_vm(mm, npages, false, current, true);
	mmap_write_unlock(mm);
	return 0;
}

/* Says that the current process may not lock @asked more bytes. */
void vfio_rs_warn_memlock(unsigned long asked)
{
	pr_warn_ratelimited("vfio_rs: %s[%d]: RLIMIT_MEMLOCK (%lu) exceeded: %lu bytes locked, %lu more asked for\n",
			    current->comm, task_pid_nr(current), rlimit(RLIMIT_MEMLOCK),
			    current->mm ? current->mm->locked_vm << PAGE_SHIFT : 0, asked);
}

/* Whether the log may have one more message about @subject, one of VFIO_RS_LOG_*. */
bool vfio_rs_may_log(unsigned int subject)
{
	static struct ratelimit_state states[] = {
		[0 ... VFIO_RS_LOG_LIMITS] =
			RATELIMIT_STATE_INIT(states, DEFAULT_RATELIMIT_INTERVAL,
					     DEFAULT_RATELIMIT_BURST),
	};

	return __ratelimit(&states[subject]);
}

bool vfio_rs_access_ok(unsigned long addr, unsigned long len)
{
	return access_ok((void __user *)addr, len);
}

/* Under mmap_lock. */
unsigned long vfio_rs_untagged_addr(struct mm_struct *mm, unsigned long addr)
{
	return untagged_addr_remote(mm, addr);
}

/* Whether a frame has no page that the kernel counts references of. */
bool vfio_rs_pfn_is_device(unsigned long pfn)
{
	return !pfn_valid(pfn) || PageReserved(pfn_to_page(pfn));
}

struct cdev *vfio_rs_inode_cdev(const struct inode *inode)
{
	return inode->i_cdev;
}

int vfio_rs_init_pseudo(struct fs_context *fc)
{
	return init_pseudo(fc, ANON_INODE_FS_MAGIC) ? 0 : -ENOMEM;
}

struct file *vfio_rs_anon_file(const char *name, const struct file_operations *fops,
			       void *priv, struct address_space *mapping)
{
	struct file *file = anon_inode_getfile_fmode(name, fops, priv, O_RDWR,
						     FMODE_PREAD | FMODE_PWRITE);

	if (!IS_ERR(file))
		file->f_mapping = mapping;
	return file;
}

/*
 * iommu_map() of one run of many, less what can wait until all are mapped: see
 * vfio_rs_iommu_sync_map(). Only for domains with a generic page table.
 */
int vfio_rs_iommu_pt_map(struct iommu_domain *domain, unsigned long iova, phys_addr_t phys,
			 size_t len, int prot, size_t *mapped)
{
	struct pt_iommu *pt = iommupt_from_domain(domain);

	return pt->ops->map_range(pt, iova, phys, len, prot, GFP_KERNEL_ACCOUNT, mapped);
}

/* iommu_map() without the trace event. Only for domains with a generic page table. */
int vfio_rs_iommu_pt_map_sync(struct iommu_domain *domain, unsigned long iova,
			      phys_addr_t phys, size_t len, int prot, size_t *mapped)
{
	struct pt_iommu *pt = iommupt_from_domain(domain);
	int ret;

	ret = pt->ops->map_range(pt, iova, phys, len, prot, GFP_KERNEL_ACCOUNT, mapped);
	if (ret || !domain->ops->iotlb_sync_map)
		return ret;
	return domain->ops->iotlb_sync_map(domain, iova, len);
}

bool vfio_rs_iommu_has_pt(struct iommu_domain *domain)
{
	return iommupt_from_domain(domain);
}

void vfio_rs_iommu_gather_init(struct iommu_iotlb_gather *gather)
{
	iommu_iotlb_gather_init(gather);
}

/* iommu_unmap_fast(), without the trace event if the domain @has_pt. */
size_t vfio_rs_iommu_unmap(struct iommu_domain *domain, bool has_pt, unsigned long iova,
			   size_t len, struct iommu_iotlb_gather *gather)
{
	struct pt_iommu *pt = iommupt_from_domain(domain);

	if (has_pt && pt)
		return pt->ops->unmap_range(pt, iova, len, gather);
	return iommu_unmap_fast(domain, iova, len, gather);
}

void vfio_rs_iommu_sync(struct iommu_domain *domain, struct iommu_iotlb_gather *gather)
{
	iommu_iotlb_sync(domain, gather);
}

int vfio_rs_iommu_sync_map(struct iommu_domain *domain, unsigned long iova, size_t len)
{
	return domain->ops->iotlb_sync_map ?
	       domain->ops->iotlb_sync_map(domain, iova, len) : 0;
}

bool vfio_rs_enforce_cache_coherency(struct iommu_domain *domain)
{
	return domain->ops->enforce_cache_coherency &&
	       domain->ops->enforce_cache_coherency(domain);
}

void vfio_rs_show_syspath(struct seq_file *seq, const struct device *dev)
{
	char *path = kobject_get_path(&dev->kobj, GFP_KERNEL);

	if (path)
		seq_printf(seq, "vfio-device-syspath: /sys%s\n", path);
	kfree(path);
}

struct resource *vfio_rs_pci_resource(struct pci_dev *pdev, unsigned int i)
{
	return &pdev->resource[i];
}

bool vfio_rs_request_region(bool is_memory, u64 start, u64 len, const char *name)
{
	return is_memory ? request_mem_region(start, len, name) : request_region(start, len, name);
}

void vfio_rs_release_region(bool is_memory, u64 start, u64 len)
{
	if (is_memory)
		release_mem_region(start, len);
	else
		release_region(start, len);
}

/* Bit fields, whose place nothing can compare. */
bool vfio_rs_pci_is_virtfn(const struct pci_dev *pdev)
{
	return pdev->is_virtfn;
}

bool vfio_rs_pci_no_command_memory(const struct pci_dev *pdev)
{
	return pdev->no_command_memory;
}

bool vfio_rs_pci_non_mappable_bars(const struct pci_dev *pdev)
{
	return pdev->non_mappable_bars;
}

struct pci_dev *vfio_rs_pci_upstream_bridge(struct pci_dev *pdev)
{
	return pci_upstream_bridge(pdev);
}

bool vfio_rs_pci_is_root_bus(struct pci_bus *bus)
{
	return pci_is_root_bus(bus);
}

int vfio_rs_pci_domain_nr(struct pci_bus *bus)
{
	return pci_domain_nr(bus);
}

u64 vfio_rs_ioread64(const void __iomem *addr)
{
	return ioread64(addr);
}

void vfio_rs_iowrite64(u64 value, void __iomem *addr)
{
	iowrite64(value, addr);
}

bool vfio_rs_pci_intx_mask_supported(struct pci_dev *pdev)
{
	return pci_intx_mask_supported(pdev);
}

/* Whether disabling the line is to reach the controller at once. */
void vfio_rs_irq_set_unlazy(unsigned int irq, bool unlazy)
{
	if (unlazy)
		irq_set_status_flags(irq, IRQ_DISABLE_UNLAZY);
	else
		irq_clear_status_flags(irq, IRQ_DISABLE_UNLAZY);
}

/* Puts the message of an MSI-X vector back where a reset may have cleared it. */
void vfio_rs_rewrite_msi_msg(unsigned int irq)
{
	struct msi_msg msg;

	get_cached_msi_msg(irq, &msg);
	pci_write_msi_msg(irq, &msg);
}

/* Returns the Linux interrupt number or a negative errno. */
int vfio_rs_pci_msix_alloc_irq_at(struct pci_dev *pdev, unsigned int vector)
{
	struct msi_map map = pci_msix_alloc_irq_at(pdev, vector, NULL);

	return map.index < 0 ? map.index : map.virq;
}
