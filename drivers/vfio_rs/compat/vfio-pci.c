// SPDX-License-Identifier: GPL-2.0
/* Carries the name "vfio-pci"; the PCI driver of that name is in vfio_rs.ko. */
#include <linux/module.h>
#include <linux/pci.h>

#include "names.h"

static const bool *const pulls_in_vfio __used = &vfio_rs_names_loaded;

/* The table of vfio_rs.ko's driver once more, for its "vfio_pci:" alias. */
static const struct pci_device_id vfio_pci_table[] = {
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(PCI_ANY_ID, PCI_ANY_ID) },
	{}
};
MODULE_DEVICE_TABLE(pci, vfio_pci_table);

MODULE_DESCRIPTION("VFIO in Rust: carrier of the module name vfio-pci");
MODULE_AUTHOR("The vfio-rs developers");
MODULE_LICENSE("GPL");
