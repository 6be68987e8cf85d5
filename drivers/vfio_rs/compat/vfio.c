// SPDX-License-Identifier: GPL-2.0
/*
 * Carries the name "vfio" and its parameter: what `modprobe vfio` and DPDK's
 * look at /sys/module/vfio expect. All code is in vfio_rs.ko, where what is open
 * holds this module.
 */
#include <linux/export.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "names.h"
#include "vfio_driver.h"
#include "vfio_helpers.h"

#ifdef VFIO_RS_NOIOMMU
module_param_named(enable_unsafe_noiommu_mode, vfio_rs_enable_unsafe_noiommu_mode, bool, 0644);
MODULE_PARM_DESC(enable_unsafe_noiommu_mode,
		 "Enable UNSAFE, no-IOMMU mode: no isolation of devices, no translation of DMA, no protection of the kernel; needs RAWIO permission and taints the kernel. (default: false)");
#endif

/* Naming it also pulls vfio_rs.ko in. */
module_param_cb(cdev_groups, &vfio_rs_cdev_groups_ops, NULL, 0644);
MODULE_PARM_DESC(cdev_groups,
		 "Devices with a node in /dev/vfio/devices: all, or those that are alone in their group, singleton (default: all)");

/* Named by the other carriers, so that they pull this one in. */
const bool vfio_rs_names_loaded = true;
EXPORT_SYMBOL_GPL(vfio_rs_names_loaded);

static int __init carry(void)
{
	vfio_rs_carry(VFIO_RS_NAME_VFIO, THIS_MODULE);
	return 0;
}
module_init(carry);

static void __exit drop(void)
{
	vfio_rs_carry(VFIO_RS_NAME_VFIO, NULL);
}
module_exit(drop);

MODULE_DESCRIPTION("VFIO in Rust: carrier of the module name vfio");
MODULE_AUTHOR("The vfio-rs developers");
MODULE_LICENSE("GPL");
MODULE_ALIAS_MISCDEV(VFIO_MINOR);
MODULE_ALIAS("devname:vfio/vfio");
MODULE_SOFTDEP("post: vfio_iommu_type1");
