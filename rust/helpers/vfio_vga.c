// SPDX-License-Identifier: GPL-2.0
/* Definitions for vfio_vga.h. */
#include <linux/aperture.h>
#include <linux/pci.h>
#include <linux/vgaarb.h>

#include "vfio_vga.h"

static_assert(VFIO_RS_VGA_LEGACY_IO == VGA_RSRC_LEGACY_IO);
static_assert(VFIO_RS_VGA_LEGACY_MEM == VGA_RSRC_LEGACY_MEM);
static_assert(VFIO_RS_VGA_NORMAL == (VGA_RSRC_NORMAL_IO | VGA_RSRC_NORMAL_MEM));

/* Whether the legacy ranges are shared out, and are where a PC has them. */
bool vfio_rs_vga_arbiter(void)
{
	return IS_ENABLED(CONFIG_VGA_ARB) && IS_ENABLED(CONFIG_X86);
}

int vfio_rs_vga_client_register(struct pci_dev *pdev,
				unsigned int (*set_decode)(struct pci_dev *pdev, bool single))
{
	return vga_client_register(pdev, set_decode);
}

void vfio_rs_vga_set_legacy_decoding(struct pci_dev *pdev, unsigned int decodes)
{
	vga_set_legacy_decoding(pdev, decodes);
}

int vfio_rs_vga_get_interruptible(struct pci_dev *pdev, unsigned int rsrc)
{
	return vga_get_interruptible(pdev, rsrc);
}

void vfio_rs_vga_put(struct pci_dev *pdev, unsigned int rsrc)
{
	vga_put(pdev, rsrc);
}

/* Takes the display away from the firmware's framebuffer and the text console. */
int vfio_rs_aperture_remove(struct pci_dev *pdev, const char *name)
{
	return aperture_remove_conflicting_pci_devices(pdev, name);
}
