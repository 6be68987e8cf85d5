// SPDX-License-Identifier: GPL-2.0
/*
 * A driver that gets at a device of a group that a user has.
 *
 * The IOMMU core denies such a group to drivers that do DMA for the kernel, and
 * asks them only once, before it binds one. This one declares then that it
 * leaves DMA to others, and takes that back when it is let in: a bug of a driver,
 * which vfio_rs_cut_off needs to see what comes of it. It takes devices by
 * driver_override only, and does nothing with them.
 */
#include <linux/device/bus.h>
#include <linux/module.h>
#include <linux/pci.h>

static int intruder_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	pci_info(pdev, "Intruder sees the device\n");
	return 0;
}

static struct pci_driver intruder = {
	.name = "vfio-rs-intruder",
	.probe = intruder_probe,
	.driver_managed_dma = true,
};

static int intruder_notify(struct notifier_block *block, unsigned long action, void *data)
{
	struct device *dev = data;

	if (dev->driver != &intruder.driver)
		return NOTIFY_DONE;
	/* The core has asked, and will ask again when the driver goes. */
	if (action == BUS_NOTIFY_BIND_DRIVER)
		intruder.driver_managed_dma = false;
	else if (action == BUS_NOTIFY_UNBIND_DRIVER)
		intruder.driver_managed_dma = true;
	return NOTIFY_DONE;
}

/* Called before the listener under test. */
static struct notifier_block intruder_block = {
	.notifier_call = intruder_notify,
	.priority = 1,
};

static int __init intruder_init(void)
{
	int ret;

	ret = bus_register_notifier(&pci_bus_type, &intruder_block);
	if (ret)
		return ret;
	ret = pci_register_driver(&intruder);
	if (ret)
		bus_unregister_notifier(&pci_bus_type, &intruder_block);
	return ret;
}
module_init(intruder_init);

static void __exit intruder_exit(void)
{
	pci_unregister_driver(&intruder);
	bus_unregister_notifier(&pci_bus_type, &intruder_block);
}
module_exit(intruder_exit);

MODULE_DESCRIPTION("Takes a device from a group that a user has, for tests");
MODULE_LICENSE("GPL");
