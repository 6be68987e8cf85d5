// SPDX-License-Identifier: GPL-2.0
/*
 * Parameters. They live in vfio_rs.ko, which reads them, and show up under the
 * modules whose names users know: see drivers/vfio_rs/compat/.
 */
#include <linux/export.h>

#include "vfio_helpers.h"

bool vfio_rs_allow_unsafe_interrupts;
EXPORT_SYMBOL_GPL(vfio_rs_allow_unsafe_interrupts);

/* The default of C VFIO; U16_MAX mappings a container. */
unsigned int vfio_rs_dma_entry_limit = 65535;
EXPORT_SYMBOL_GPL(vfio_rs_dma_entry_limit);
