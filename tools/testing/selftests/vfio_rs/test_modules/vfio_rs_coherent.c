// SPDX-License-Identifier: GPL-2.0
/*
 * Makes one device the only one whose DMA is always coherent.
 *
 * Devices differ in that where a machine has several kinds of IOMMUs, and QEMU
 * gives a machine one. So this changes the answer to the question whether an IOMMU
 * enforces coherency: yes for the device named by the parameter "device", no for all
 * others. Nothing is done to the IOMMU.
 */
#include <linux/iommu.h>
#include <linux/kprobes.h>
#include <linux/module.h>

static char *device;
module_param(device, charp, 0444);
MODULE_PARM_DESC(device, "Address of the device that is coherent");

struct question {
	bool coherent;
};

/* device_iommu_capable(dev, cap) */
static int coherent_asked(struct kretprobe_instance *asked, struct pt_regs *regs)
{
	struct question *question = (struct question *)asked->data;
	struct device *dev = (struct device *)regs_get_kernel_argument(regs, 0);

	if (regs_get_kernel_argument(regs, 1) != IOMMU_CAP_ENFORCE_CACHE_COHERENCY)
		return 1; /* left alone */
	question->coherent = !strcmp(dev_name(dev), device);
	return 0;
}

static int coherent_answered(struct kretprobe_instance *asked, struct pt_regs *regs)
{
	struct question *question = (struct question *)asked->data;

	regs_set_return_value(regs, question->coherent);
	return 0;
}

static struct kretprobe coherent_probe = {
	.kp.symbol_name = "device_iommu_capable",
	.entry_handler = coherent_asked,
	.handler = coherent_answered,
	.data_size = sizeof(struct question),
};

static int __init coherent_init(void)
{
	return device ? register_kretprobe(&coherent_probe) : -EINVAL;
}
module_init(coherent_init);

static void __exit coherent_exit(void)
{
	unregister_kretprobe(&coherent_probe);
}
module_exit(coherent_exit);

MODULE_DESCRIPTION("Makes one device the only coherent one, for tests");
MODULE_LICENSE("GPL");
