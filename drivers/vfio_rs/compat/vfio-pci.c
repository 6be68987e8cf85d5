// SPDX-License-Identifier: GPL-2.0
/*
 * Carries the name "vfio-pci", its parameters and the PCI driver of that name:
 * the code is in vfio_rs.ko, which registers the driver for this module. The one
 * thing done here is to give it the ids= of the command line.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/string.h>

#include "names.h"
#include "vfio_driver.h"
#include "vfio_helpers.h"

static const bool *const pulls_in_core __used = &vfio_rs_core_loaded;

static struct pci_driver *driver;

/* Room for as many as C VFIO takes; a longer value fails the load. */
static char ids[1024] __initdata;
module_param_string(ids, ids, sizeof(ids), 0);
MODULE_PARM_DESC(ids,
		 "Ids of devices to bind, vendor:device[:subvendor[:subdevice[:class[:class_mask]]]] in hex, comma separated");

module_param_named(nointxmask, vfio_rs_nointxmask, bool, 0644);
MODULE_PARM_DESC(nointxmask,
		 "Do not use the interrupt disable bit of PCI 2.3 to mask INTx");
#if defined(VFIO_RS_PCI_VGA) && IS_ENABLED(CONFIG_VGA_ARB) && IS_ENABLED(CONFIG_X86)
module_param_named(disable_vga, vfio_rs_disable_vga, bool, 0444);
MODULE_PARM_DESC(disable_vga, "Do not give access to legacy VGA ranges");
#endif
module_param_named(disable_idle_d3, vfio_rs_disable_idle_d3, bool, 0644);
MODULE_PARM_DESC(disable_idle_d3, "Do not put unused devices to D3");
#if IS_ENABLED(CONFIG_PCI_IOV)
module_param_named(enable_sriov, vfio_rs_enable_sriov, bool, 0644);
MODULE_PARM_DESC(enable_sriov,
		 "Allow to configure SR-IOV of bound devices. The user of the PF must know how to serve VFs, else neither may work.");
#endif
module_param_named(wc_mmap, vfio_rs_wc_mmap, bool, 0644);
MODULE_PARM_DESC(wc_mmap, "Offer write-combining maps of prefetchable BARs");
module_param_named(disable_denylist, vfio_rs_disable_denylist, bool, 0444);
MODULE_PARM_DESC(disable_denylist,
		 "Allow to bind devices with known errata that their users may exploit");

/* The table of vfio_rs.ko's driver once more, for its "vfio_pci:" alias. */
static const struct pci_device_id vfio_pci_table[] = {
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(PCI_ANY_ID, PCI_ANY_ID) },
	{}
};
MODULE_DEVICE_TABLE(pci, vfio_pci_table);

/* Tells the driver of one more id, in the words of the parameter. */
static void __init take_id(const char *text)
{
	u32 id[] = { 0, 0, PCI_ANY_ID, PCI_ANY_ID, 0, 0 };
	int ret;

	if (sscanf(text, "%x:%x:%x:%x:%x:%x", &id[0], &id[1], &id[2], &id[3], &id[4], &id[5]) < 2) {
		pr_warn("invalid id string \"%s\"\n", text);
		return;
	}
	ret = pci_add_dynid(driver, id[0], id[1], id[2], id[3], id[4], id[5], 0);
	if (ret)
		pr_warn("failed to add dynamic id [%04x:%04x[%04x:%04x]] class %#08x/%08x (%d)\n",
			id[0], id[1], id[2], id[3], id[4], id[5], ret);
	else
		pr_info("add [%04x:%04x[%04x:%04x]] class %#08x/%08x\n",
			id[0], id[1], id[2], id[3], id[4], id[5]);
}

static int __init carry(void)
{
	char *rest = ids;
	char *text;

	driver = vfio_rs_register_driver(THIS_MODULE, KBUILD_MODNAME);
	if (IS_ERR(driver))
		return PTR_ERR(driver);
	while ((text = strsep(&rest, ",")))
		if (*text)
			take_id(text);
	if (vfio_rs_disable_denylist)
		pr_warn("device denylist disabled.\n");
	return 0;
}
module_init(carry);

/* Unbinds the devices. The next load starts from the defaults again. */
static void __exit drop(void)
{
	vfio_rs_unregister_driver(driver);
	vfio_rs_nointxmask = false;
	vfio_rs_disable_vga = false;
	vfio_rs_disable_idle_d3 = false;
	vfio_rs_enable_sriov = false;
	vfio_rs_disable_denylist = false;
	vfio_rs_wc_mmap = true;
}
module_exit(drop);

MODULE_DESCRIPTION("VFIO in Rust: carrier of the module name vfio-pci");
MODULE_AUTHOR("The vfio-rs developers");
MODULE_LICENSE("GPL");
