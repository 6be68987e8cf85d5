// SPDX-License-Identifier: GPL-2.0
/* Carries the name "vfio_iommu_type1" and its parameters; all code is in vfio_rs.ko. */
#include <linux/module.h>

#include "names.h"
#include "vfio_driver.h"
#include "vfio_helpers.h"

static const bool *const pulls_in_vfio __used = &vfio_rs_names_loaded;

module_param_named(allow_unsafe_interrupts, vfio_rs_allow_unsafe_interrupts, bool, 0644);
MODULE_PARM_DESC(allow_unsafe_interrupts,
		 "Enable VFIO IOMMU support on platforms without interrupt remapping support.");
module_param_named(disable_hugepages, vfio_rs_disable_hugepages, bool, 0644);
MODULE_PARM_DESC(disable_hugepages, "Disable VFIO IOMMU support for IOMMU hugepages.");
module_param_named(dma_entry_limit, vfio_rs_dma_entry_limit, uint, 0644);
MODULE_PARM_DESC(dma_entry_limit,
		 "Maximum number of user DMA mappings per container (65535).");

static int __init carry(void)
{
	vfio_rs_carry(VFIO_RS_NAME_TYPE1, THIS_MODULE);
	return 0;
}
module_init(carry);

static void __exit drop(void)
{
	vfio_rs_carry(VFIO_RS_NAME_TYPE1, NULL);
}
module_exit(drop);

MODULE_DESCRIPTION("VFIO in Rust: carrier of the module name vfio_iommu_type1");
MODULE_AUTHOR("The vfio-rs developers");
MODULE_LICENSE("GPL");
