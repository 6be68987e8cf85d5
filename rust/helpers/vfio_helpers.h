/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One function for each static inline, macro or unexported constant that the
 * Rust side needs. No logic: what can be said in Rust is said there.
 */
#ifndef _VFIO_RS_HELPERS_H
#define _VFIO_RS_HELPERS_H

#include <linux/fs.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pci.h>

struct dentry;
struct fs_context;
struct kernel_param_ops;
struct seq_file;

/* Module parameters; see vfio_params.c. */
extern bool vfio_rs_enable_unsafe_noiommu_mode;
extern const struct kernel_param_ops vfio_rs_cdev_groups_ops;
extern bool vfio_rs_allow_unsafe_interrupts;
extern bool vfio_rs_disable_hugepages;
extern unsigned int vfio_rs_dma_entry_limit;
extern bool vfio_rs_nointxmask;
extern bool vfio_rs_disable_vga;
extern bool vfio_rs_disable_idle_d3;
extern bool vfio_rs_enable_sriov;
extern bool vfio_rs_disable_denylist;
extern bool vfio_rs_wc_mmap;
extern bool vfio_rs_pamu_strict;
extern unsigned int vfio_rs_msi_test_banks;

/* What is done when parameters are written or read: in Rust, vfio_kernel/params.rs. */
int vfio_rs_set_cdev_groups(const char *val, const struct kernel_param *kp);
int vfio_rs_get_cdev_groups(char *buffer, const struct kernel_param *kp);
int vfio_rs_set_msi_test_banks(const char *val, const struct kernel_param *kp);
extern unsigned int vfio_rs_kvm_entry_limit;

struct page *vfio_rs_pfn_to_page(unsigned long pfn);
unsigned long vfio_rs_index_nospec(unsigned long index, unsigned long size);

/*
 * Fields of the current task. bindgen drops the alignment of the empty struct
 * sched_statistics (CONFIG_SCHEDSTATS=n), so Rust must not look into task_struct.
 */
struct mm_struct *vfio_rs_current_mm(void);
pid_t vfio_rs_current_pid(void);

bool vfio_rs_fatal_signal_pending(void);
void vfio_rs_cond_resched(void);
bool vfio_rs_pci_config_blocked(struct pci_dev *dev);
int vfio_rs_pcibios_err_to_errno(int err);
void vfio_rs_reinit_completion(struct completion *x);
int vfio_rs_wait_killable(struct wait_queue_head *queue, const unsigned int *rounds,
			  unsigned int seen);
void vfio_rs_wake_all(struct wait_queue_head *queue);
void vfio_rs_mutex_lock_nested(struct mutex *lock);
int vfio_rs_mutex_lock_killable(struct mutex *lock);
int vfio_rs_account_locked_vm(struct mm_struct *mm, unsigned long npages);
void vfio_rs_unaccount_locked_vm(struct mm_struct *mm, unsigned long npages);
bool vfio_rs_try_unaccount_locked_vm(struct mm_struct *mm, unsigned long npages);
int vfio_rs_unaccount_locked_vm_killable(struct mm_struct *mm, unsigned long npages);
unsigned long vfio_rs_untagged_addr(struct mm_struct *mm, unsigned long addr);
bool vfio_rs_pfn_is_device(unsigned long pfn);
bool vfio_rs_access_ok(unsigned long addr, unsigned long len);
void vfio_rs_memcpy_to_page(struct page *page, size_t offset, const void *from, size_t len);
void vfio_rs_warn_memlock(unsigned long asked);

struct cdev *vfio_rs_inode_cdev(const struct inode *inode);
int vfio_rs_init_pseudo(struct fs_context *fc);
struct file *vfio_rs_anon_file(const char *name, const struct file_operations *fops,
			       void *priv, struct address_space *mapping);

int vfio_rs_iommu_pt_map_sync(struct iommu_domain *domain, unsigned long iova,
			      phys_addr_t phys, size_t len, int prot, size_t *mapped);
int vfio_rs_iommu_pt_map(struct iommu_domain *domain, unsigned long iova, phys_addr_t phys,
			 size_t len, int prot, size_t *mapped);
bool vfio_rs_iommu_has_pt(struct iommu_domain *domain);
void vfio_rs_iommu_gather_init(struct iommu_iotlb_gather *gather);
size_t vfio_rs_iommu_unmap(struct iommu_domain *domain, bool has_pt, unsigned long iova,
			   size_t len, struct iommu_iotlb_gather *gather);
void vfio_rs_iommu_sync(struct iommu_domain *domain, struct iommu_iotlb_gather *gather);
int vfio_rs_iommu_sync_map(struct iommu_domain *domain, unsigned long iova, size_t len);
bool vfio_rs_enforce_cache_coherency(struct iommu_domain *domain);

struct dentry *vfio_rs_debugfs_dir(const char *name);
struct dentry *vfio_rs_debugfs_subdir(const char *name, struct dentry *parent);
struct dentry *vfio_rs_debugfs_file(const char *name, umode_t mode, struct dentry *parent,
				    void *data, const struct file_operations *fops);
void vfio_rs_debugfs_remove(struct dentry *dentry);

void vfio_rs_show_syspath(struct seq_file *seq, const struct device *dev);
struct resource *vfio_rs_pci_resource(struct pci_dev *pdev, unsigned int i);
bool vfio_rs_request_region(bool is_memory, u64 start, u64 len, const char *name);
void vfio_rs_release_region(bool is_memory, u64 start, u64 len);
bool vfio_rs_pci_is_virtfn(const struct pci_dev *pdev);
bool vfio_rs_pci_no_command_memory(const struct pci_dev *pdev);
bool vfio_rs_pci_non_mappable_bars(const struct pci_dev *pdev);
struct pci_dev *vfio_rs_pci_upstream_bridge(struct pci_dev *pdev);
bool vfio_rs_pci_is_root_bus(struct pci_bus *bus);
int vfio_rs_pci_domain_nr(struct pci_bus *bus);
u64 vfio_rs_ioread64(const void __iomem *addr);
void vfio_rs_iowrite64(u64 value, void __iomem *addr);
bool vfio_rs_pci_intx_mask_supported(struct pci_dev *pdev);
void vfio_rs_irq_set_unlazy(unsigned int irq, bool unlazy);
void vfio_rs_rewrite_msi_msg(unsigned int irq);
int vfio_rs_pci_msix_alloc_irq_at(struct pci_dev *pdev, unsigned int vector);

bool vfio_rs_pci_is_physfn(const struct pci_dev *pdev);
struct pci_dev *vfio_rs_pci_physfn(struct pci_dev *pdev);
unsigned int vfio_rs_pci_num_vf(struct pci_dev *pdev);
int vfio_rs_pci_enable_sriov(struct pci_dev *pdev, int count);
void vfio_rs_pci_disable_sriov(struct pci_dev *pdev);
int vfio_rs_pci_set_driver_override(struct pci_dev *pdev, const char *name);
struct pci_dev *vfio_rs_to_pci_dev(struct device *dev);
const char *vfio_rs_pci_driver_name(struct pci_dev *pdev);
bool vfio_rs_pci_driver_managed_dma(struct pci_dev *pdev);
bool vfio_rs_dev_has_driver(const struct device *dev);
bool vfio_rs_dev_has_iommu(const struct device *dev);
void vfio_rs_device_lock(struct device *dev);
void vfio_rs_device_unlock(struct device *dev);
void vfio_rs_taint_user(void);
void vfio_rs_warn_opened_by_user(const struct device *dev);

/* What vfio_rs_may_log() counts apart. */
#define VFIO_RS_LOG_REFUSALS	0
#define VFIO_RS_LOG_INTERRUPTS	1
#define VFIO_RS_LOG_TOKENS	2
#define VFIO_RS_LOG_OPENS	3
#define VFIO_RS_LOG_DEVICES	4
#define VFIO_RS_LOG_LINES	5
#define VFIO_RS_LOG_FAILURES	6
#define VFIO_RS_LOG_LIMITS	7

bool vfio_rs_may_log(unsigned int subject);

#endif /* _VFIO_RS_HELPERS_H */
