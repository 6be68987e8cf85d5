// SPDX-License-Identifier: GPL-2.0
/* Definitions for vfio_driver.h, and what the carrier of the driver's name calls. */
#include <linux/export.h>
#include <linux/module.h>

#include "vfio_driver.h"

bool vfio_rs_try_module_get(struct module *module)
{
	return try_module_get(module);
}

void vfio_rs_module_put(struct module *module)
{
	module_put(module);
}

struct pci_driver *vfio_rs_register_driver(struct module *owner, const char *mod_name)
{
	return vfio_rs_driver_register(owner, mod_name);
}
EXPORT_SYMBOL_GPL(vfio_rs_register_driver);

void vfio_rs_unregister_driver(struct pci_driver *driver)
{
	vfio_rs_driver_unregister(driver);
}
EXPORT_SYMBOL_GPL(vfio_rs_unregister_driver);

void vfio_rs_carry(unsigned int name, struct module *owner)
{
	vfio_rs_name_carried(name, owner);
}
EXPORT_SYMBOL_GPL(vfio_rs_carry);
