// SPDX-License-Identifier: GPL-2.0
/* SR-IOV. A kernel without CONFIG_PCI_IOV has stubs for these, inline. */
#include <linux/dev_printk.h>
#include <linux/pci.h>

#include "vfio_helpers.h"

bool vfio_rs_pci_is_physfn(const struct pci_dev *pdev)
{
	return pdev->is_physfn;
}

struct pci_dev *vfio_rs_pci_physfn(struct pci_dev *pdev)
{
	return pci_physfn(pdev);
}

unsigned int vfio_rs_pci_num_vf(struct pci_dev *pdev)
{
	return pci_num_vf(pdev);
}

int vfio_rs_pci_enable_sriov(struct pci_dev *pdev, int count)
{
	return pci_enable_sriov(pdev, count);
}

void vfio_rs_pci_disable_sriov(struct pci_dev *pdev)
{
	pci_disable_sriov(pdev);
}

int vfio_rs_pci_set_driver_override(struct pci_dev *pdev, const char *name)
{
	return device_set_driver_override(&pdev->dev, name);
}

struct pci_dev *vfio_rs_to_pci_dev(struct device *dev)
{
	return to_pci_dev(dev);
}

/* With the device's lock held. */
const char *vfio_rs_pci_driver_name(struct pci_dev *pdev)
{
	return pdev->driver ? pdev->driver->name : NULL;
}

void vfio_rs_info_ratelimited(const struct device *dev, const char *text)
{
	dev_info_ratelimited(dev, "%s\n", text);
}
