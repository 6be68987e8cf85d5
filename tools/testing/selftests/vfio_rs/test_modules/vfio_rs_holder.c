// SPDX-License-Identifier: GPL-2.0
/*
 * Reserves memory that a device has, as drivers do that know it by its address
 * only: a boot framebuffer is one.
 */
#include <linux/ioport.h>
#include <linux/module.h>

static ulong start;
module_param(start, ulong, 0);
MODULE_PARM_DESC(start, "Its physical address");

static ulong len;
module_param(len, ulong, 0);
MODULE_PARM_DESC(len, "Its bytes");

static int __init holder_init(void)
{
	return request_mem_region(start, len, "vfio-rs-holder") ? 0 : -EBUSY;
}
module_init(holder_init);

static void __exit holder_exit(void)
{
	release_mem_region(start, len);
}
module_exit(holder_exit);

MODULE_DESCRIPTION("Keeps a device's memory from drivers, for tests");
MODULE_LICENSE("GPL");
