/* SPDX-License-Identifier: GPL-2.0 */
/* As vfio_helpers.h, for the driver and the module that carries its name. */
#ifndef _VFIO_RS_DRIVER_H
#define _VFIO_RS_DRIVER_H

#include <linux/types.h>

struct module;
struct pci_driver;

bool vfio_rs_try_module_get(struct module *module);
void vfio_rs_module_put(struct module *module);

/* Names that other carriers make known; see vfio_kernel/module_ref.rs. */
#define VFIO_RS_NAME_VFIO	0
#define VFIO_RS_NAME_TYPE1	1

void vfio_rs_carry(unsigned int name, struct module *owner);
void vfio_rs_name_carried(unsigned int name, struct module *owner);

/* For compat/vfio-pci.c; see vfio_kernel/pci/carrier.rs, where the work is done. */
struct pci_driver *vfio_rs_register_driver(struct module *owner, const char *mod_name);
void vfio_rs_unregister_driver(struct pci_driver *driver);
struct pci_driver *vfio_rs_driver_register(struct module *owner, const char *mod_name);
void vfio_rs_driver_unregister(struct pci_driver *driver);

#endif /* _VFIO_RS_DRIVER_H */
