/* SPDX-License-Identifier: GPL-2.0 */
/* As vfio_helpers.h, for displays: without CONFIG_VGA_ARB these do nothing. */
#ifndef _VFIO_RS_VGA_H
#define _VFIO_RS_VGA_H

#include <linux/types.h>

struct pci_dev;

/* What a display may answer to: the legacy ranges, and all it can. */
#define VFIO_RS_VGA_LEGACY_IO 0x1u
#define VFIO_RS_VGA_LEGACY_MEM 0x2u
#define VFIO_RS_VGA_NORMAL 0xcu

bool vfio_rs_vga_arbiter(void);
int vfio_rs_vga_client_register(struct pci_dev *pdev,
				unsigned int (*set_decode)(struct pci_dev *pdev, bool single));
void vfio_rs_vga_set_legacy_decoding(struct pci_dev *pdev, unsigned int decodes);
int vfio_rs_vga_get_interruptible(struct pci_dev *pdev, unsigned int rsrc);
void vfio_rs_vga_put(struct pci_dev *pdev, unsigned int rsrc);
int vfio_rs_aperture_remove(struct pci_dev *pdev, const char *name);

#endif /* _VFIO_RS_VGA_H */
