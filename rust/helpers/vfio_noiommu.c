// SPDX-License-Identifier: GPL-2.0
/* Devices without an IOMMU in users' hands: what the kernel's log is to show of that. */
#include <linux/dev_printk.h>
#include <linux/panic.h>
#include <linux/sched.h>

#include "vfio_helpers.h"

void vfio_rs_taint_user(void)
{
	add_taint(TAINT_USER, LOCKDEP_STILL_OK);
}

void vfio_rs_warn_opened_by_user(const struct device *dev)
{
	dev_warn_ratelimited(dev, "vfio-noiommu device opened by user (%s:%d)\n",
			     current->comm, task_pid_nr(current));
}
