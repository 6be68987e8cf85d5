// SPDX-License-Identifier: GPL-2.0
/*
 * Looks at a device's domain, over and over on a CPU of its own, until it is
 * removed: whether an address is mapped there. Whoever loads it keeps all domains
 * alive that the device is attached to meanwhile.
 */
#include <linux/err.h>
#include <linux/iommu.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/pci.h>

static char *device;
module_param(device, charp, 0400);
MODULE_PARM_DESC(device, "Its address, as in sysfs");

static unsigned long iova;
module_param(iova, ulong, 0400);
MODULE_PARM_DESC(iova, "What should be mapped");

static unsigned long looks;
module_param(looks, ulong, 0400);
MODULE_PARM_DESC(looks, "How often it looked");

static unsigned long gaps;
module_param(gaps, ulong, 0400);
MODULE_PARM_DESC(gaps, "How often it was not");

static struct pci_dev *pdev;
static struct task_struct *watch;

static int look(void *unused)
{
	while (!kthread_should_stop()) {
		struct iommu_domain *domain = iommu_get_domain_for_dev(&pdev->dev);

		if (!domain || !iommu_iova_to_phys(domain, iova))
			WRITE_ONCE(gaps, gaps + 1);
		WRITE_ONCE(looks, looks + 1);
		cond_resched();
	}
	return 0;
}

static int __init watch_init(void)
{
	unsigned int domain, bus, slot, func;

	if (!device || sscanf(device, "%x:%x:%x.%x", &domain, &bus, &slot, &func) != 4)
		return -EINVAL;
	pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, func));
	if (!pdev)
		return -ENODEV;
	watch = kthread_run(look, NULL, "vfio_rs_domain");
	if (IS_ERR(watch)) {
		pci_dev_put(pdev);
		return PTR_ERR(watch);
	}
	return 0;
}
module_init(watch_init);

static void __exit watch_exit(void)
{
	kthread_stop(watch);
	pci_dev_put(pdev);
}
module_exit(watch_exit);

MODULE_DESCRIPTION("Looks at the domain of a device");
MODULE_AUTHOR("The vfio-rs developers");
MODULE_LICENSE("GPL");
