// SPDX-License-Identifier: GPL-2.0
/* Definitions for vfio_pm.h. */
#include <linux/pm_runtime.h>

#include "vfio_pm.h"

int vfio_rs_pm_resume_and_get(struct device *dev)
{
	return pm_runtime_resume_and_get(dev);
}

int vfio_rs_pm_resume(struct device *dev)
{
	return pm_runtime_resume(dev);
}

void vfio_rs_pm_put(struct device *dev)
{
	pm_runtime_put(dev);
}

void vfio_rs_pm_put_noidle(struct device *dev)
{
	pm_runtime_put_noidle(dev);
}

void vfio_rs_pm_get_noresume(struct device *dev)
{
	pm_runtime_get_noresume(dev);
}

void vfio_rs_pm_allow(struct device *dev)
{
	pm_runtime_allow(dev);
}

void vfio_rs_pm_forbid(struct device *dev)
{
	pm_runtime_forbid(dev);
}
