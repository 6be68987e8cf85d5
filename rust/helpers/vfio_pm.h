/* SPDX-License-Identifier: GPL-2.0 */
/* Runtime power management; all of it does nothing without CONFIG_PM. */
#ifndef _VFIO_RS_PM_H
#define _VFIO_RS_PM_H

struct device;

int vfio_rs_pm_resume_and_get(struct device *dev);
int vfio_rs_pm_resume(struct device *dev);
void vfio_rs_pm_put(struct device *dev);
void vfio_rs_pm_put_noidle(struct device *dev);
void vfio_rs_pm_get_noresume(struct device *dev);
void vfio_rs_pm_allow(struct device *dev);
void vfio_rs_pm_forbid(struct device *dev);

#endif /* _VFIO_RS_PM_H */
