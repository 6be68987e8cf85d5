/* SPDX-License-Identifier: GPL-2.0 */
#include <linux/anon_inodes.h>
#include <linux/cdev.h>
#include <linux/eventfd.h>
#include <linux/iommu.h>
#include <linux/irqbypass.h>
#include <linux/msi.h>
#include <linux/pci.h>
#include <linux/pseudo_fs.h>
#include "vfio_dma_buf.h"
#include "vfio_driver.h"
#include "vfio_helpers.h"
#include "vfio_irq.h"
#include "vfio_kvm.h"
#include "vfio_layout.h"
#include "vfio_mmap.h"
#include "vfio_pm.h"
#include "vfio_vga.h"
