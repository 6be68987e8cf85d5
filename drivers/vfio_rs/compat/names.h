/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _VFIO_RS_NAMES_H
#define _VFIO_RS_NAMES_H

/* In vfio.ko and vfio-pci-core.ko; named by the carriers that pull these in. */
extern const bool vfio_rs_names_loaded;
extern const bool vfio_rs_core_loaded;

#endif /* _VFIO_RS_NAMES_H */
