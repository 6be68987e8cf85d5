// SPDX-License-Identifier: GPL-2.0
/*
 * Parameters. They live in vfio_rs.ko, which reads them, and show up under the
 * modules whose names users know: see drivers/vfio_rs/compat/.
 */
#include <linux/export.h>

#include "vfio_helpers.h"

/* vfio */
bool vfio_rs_enable_unsafe_noiommu_mode;
EXPORT_SYMBOL_GPL(vfio_rs_enable_unsafe_noiommu_mode);

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
