/* SPDX-License-Identifier: GPL-2.0 */
/* What scripts/uapi makes src/bindings.rs of, with the headers of the kernel's user interface. */
#include <linux/vfio.h>
#include <linux/vfio_rs.h>
#include <linux/iommufd.h>
#include <linux/kvm.h>
