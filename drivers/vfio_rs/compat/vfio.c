// SPDX-License-Identifier: GPL-2.0
/*
 * Carries the name "vfio": what `modprobe vfio` and DPDK's look at
 * /sys/module/vfio expect. All code is in vfio_rs.ko.
 */
#include <linux/export.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

/* Pulls vfio_rs.ko in, as a parameter of it is named. */
#include "names.h"
#include "vfio_helpers.h"

static bool *const pulls_in_vfio_rs __used = &vfio_rs_allow_unsafe_interrupts;

/* Named by the other two carriers, so that they pull this one in. */
const bool vfio_rs_names_loaded = true;
EXPORT_SYMBOL_GPL(vfio_rs_names_loaded);

MODULE_DESCRIPTION("VFIO in Rust: carrier of the module name vfio");
MODULE_AUTHOR("The vfio-rs developers");
MODULE_LICENSE("GPL");
MODULE_ALIAS_MISCDEV(VFIO_MINOR);
MODULE_ALIAS("devname:vfio/vfio");
MODULE_SOFTDEP("post: vfio_iommu_type1");
