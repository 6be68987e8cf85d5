// SPDX-License-Identifier: GPL-2.0
/* SR-IOV. A kernel without CONFIG_PCI_IOV has stubs for these, inline. */
#include <linux/iommu.h>
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
	return pdev->dev.driver ? pdev->dev.driver->name : NULL;
}

/* As above, and it has a driver. */
bool vfio_rs_pci_driver_managed_dma(struct pci_dev *pdev)
{
	return to_pci_driver(pdev->dev.driver)->driver_managed_dma;
}

bool vfio_rs_dev_has_driver(const struct device *dev)
{
	return READ_ONCE(dev->driver);
}

bool vfio_rs_dev_has_iommu(const struct device *dev)
{
	return dev->iommu && dev->iommu->iommu_dev;
}

void vfio_rs_device_lock(struct device *dev)
{
	device_lock(dev);
}

void vfio_rs_device_unlock(struct device *dev)
{
	device_unlock(dev);
}
