// SPDX-License-Identifier: GPL-2.0
/*
 * Parameters. They live in vfio_rs.ko, which reads them, and show up under the
 * modules whose names users know: see drivers/vfio_rs/compat/.
 */
#include <linux/export.h>
#include <linux/moduleparam.h>

#include "vfio_helpers.h"

/* vfio */
bool vfio_rs_enable_unsafe_noiommu_mode;
EXPORT_SYMBOL_GPL(vfio_rs_enable_unsafe_noiommu_mode);

const struct kernel_param_ops vfio_rs_cdev_groups_ops = {
	.set = vfio_rs_set_cdev_groups,
	.get = vfio_rs_get_cdev_groups,
};
EXPORT_SYMBOL_GPL(vfio_rs_cdev_groups_ops);

/* vfio_iommu_type1 */
bool vfio_rs_allow_unsafe_interrupts;
EXPORT_SYMBOL_GPL(vfio_rs_allow_unsafe_interrupts);

bool vfio_rs_disable_hugepages;
EXPORT_SYMBOL_GPL(vfio_rs_disable_hugepages);

/* The default of C VFIO; U16_MAX mappings a container. */
unsigned int vfio_rs_dma_entry_limit = 65535;
EXPORT_SYMBOL_GPL(vfio_rs_dma_entry_limit);

/* vfio-pci */
bool vfio_rs_nointxmask;
EXPORT_SYMBOL_GPL(vfio_rs_nointxmask);

bool vfio_rs_disable_vga;
EXPORT_SYMBOL_GPL(vfio_rs_disable_vga);

bool vfio_rs_disable_idle_d3;
EXPORT_SYMBOL_GPL(vfio_rs_disable_idle_d3);

bool vfio_rs_enable_sriov;
EXPORT_SYMBOL_GPL(vfio_rs_enable_sriov);

bool vfio_rs_disable_denylist;
EXPORT_SYMBOL_GPL(vfio_rs_disable_denylist);

bool vfio_rs_wc_mmap = true;
EXPORT_SYMBOL_GPL(vfio_rs_wc_mmap);

/* Of this module itself: type2 has no module of C VFIO to be named after. */
bool vfio_rs_pamu_strict;
module_param_named(pamu_strict, vfio_rs_pamu_strict, bool, 0644);
MODULE_PARM_DESC(pamu_strict,
		 "Have each window of a new VFIO_PAMU_IOMMU container map contiguous, aligned memory only, as PAMU does");

/* The same for VFIO_KVM_IOMMU. */
unsigned int vfio_rs_kvm_entry_limit = 1 << 24;
module_param_named(kvm_entry_limit, vfio_rs_kvm_entry_limit, uint, 0644);
MODULE_PARM_DESC(kvm_entry_limit,
		 "Entries of guests' tables that a VFIO_KVM_IOMMU container may shadow, and a walk may meet (16777216)");

unsigned int vfio_rs_msi_test_banks;

static const struct kernel_param_ops msi_test_banks_ops = {
	.set = vfio_rs_set_msi_test_banks,
	.get = param_get_uint,
};

module_param_cb(msi_test_banks, &msi_test_banks_ops, &vfio_rs_msi_test_banks, 0644);
MODULE_PARM_DESC(msi_test_banks,
		 "Banks of MSI registers, plain memory, that a new VFIO_PAMU_IOMMU container has for tests (0)");
