// SPDX-License-Identifier: GPL-2.0
/*
 * Carries the name "vfio-pci-core", which is loaded by who would load a variant
 * driver, and keeps Linux's own module of that name out. All code is in vfio_rs.ko.
 */
#include <linux/export.h>
#include <linux/module.h>

#include "names.h"

static const bool *const pulls_in_vfio __used = &vfio_rs_names_loaded;

/* Named by vfio-pci.ko, which depends on this one as in C. */
const bool vfio_rs_core_loaded = true;
EXPORT_SYMBOL_GPL(vfio_rs_core_loaded);

MODULE_DESCRIPTION("VFIO in Rust: carrier of the module name vfio-pci-core");
MODULE_AUTHOR("The vfio-rs developers");
MODULE_LICENSE("GPL");
