// SPDX-License-Identifier: GPL-2.0
/*
 * Makes a device look like Intel graphics.
 *
 * The device named by the parameter "device" gets other ids, in the kernel's eyes
 * only, and its register ASLS the address of an OpRegion, which this module makes
 * with a VBT behind a hole: in memory that the kernel was told to leave alone, or
 * in its own, where no firmware has it. Bytes that mean nothing are a pattern, so that
 * vfio_rs_igd knows what to find. All is taken back when the module goes, so no
 * user may have the device open then.
 */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/unaligned.h>

#define ASLS 0xfc
#define ORDER 4
#define VBT 0x4000 /* from the start of the OpRegion */

static char *device;
module_param(device, charp, 0444);
MODULE_PARM_DESC(device, "Address of the device");

static ushort vendor = PCI_VENDOR_ID_INTEL;
module_param(vendor, ushort, 0444);
MODULE_PARM_DESC(vendor, "Its vendor id");

static uint class = PCI_CLASS_DISPLAY_OTHER << 8;
module_param(class, uint, 0444);
MODULE_PARM_DESC(class, "Its class code");

static bool sign = true;
module_param(sign, bool, 0444);
MODULE_PARM_DESC(sign, "Whether the OpRegion has its signature");

static ushort version = 0x0201;
module_param(version, ushort, 0444);
MODULE_PARM_DESC(version, "Version of the OpRegion");

static uint kib = 8;
module_param(kib, uint, 0444);
MODULE_PARM_DESC(kib, "Size that the OpRegion says it has, in KiB");

static uint vbt;
module_param(vbt, uint, 0444);
MODULE_PARM_DESC(vbt, "Bytes of the VBT outside of the OpRegion");

static ulong reserved;
module_param(reserved, ulong, 0444);
MODULE_PARM_DESC(reserved, "64 KiB of memory that the kernel leaves alone, 0 for its own");

static struct pci_dev *pdev;
static u8 *opregion;
static phys_addr_t phys;
static ulong vbt_at;
static u16 old_vendor;
static u32 old_class, old_asls;

static void igd_fill(void)
{
	u64 where = vbt_at ? vbt_at : phys + VBT;
	u64 rvda = version == 0x0200 ? where : where - phys;
	unsigned int i;

	for (i = 0; i < PAGE_SIZE << ORDER; i++)
		opregion[i] = i * 31 + (i >> 8);
	if (sign)
		memcpy(opregion, "IntelGraphicsMem", 16);
	put_unaligned_le32(kib, opregion + 0x10);
	put_unaligned_le16(version, opregion + 0x16);
	put_unaligned_le64(vbt ? rvda : 0, opregion + 0x3ba);
	put_unaligned_le32(vbt, opregion + 0x3c2);
}

static int set_vbt_at(const char *value, const struct kernel_param *kp)
{
	int ret = param_set_ulong(value, kp);

	if (!ret && opregion)
		igd_fill();
	return ret;
}

static const struct kernel_param_ops vbt_at_ops = {
	.set = set_vbt_at,
	.get = param_get_ulong,
};
module_param_cb(vbt_at, &vbt_at_ops, &vbt_at, 0644);
MODULE_PARM_DESC(vbt_at, "Where the OpRegion says that the VBT is, if that is not true");

static u8 *get_memory(void)
{
	if (reserved)
		return memremap(reserved, PAGE_SIZE << ORDER, MEMREMAP_WB);
	/* The register has 32 bits. */
	return (u8 *)__get_free_pages(GFP_KERNEL | GFP_DMA32, ORDER);
}

static void put_memory(void)
{
	if (reserved)
		memunmap(opregion);
	else
		free_pages((unsigned long)opregion, ORDER);
}

static int __init igd_init(void)
{
	struct device *dev;

	if (!device || vbt > (PAGE_SIZE << ORDER) - VBT)
		return -EINVAL;
	dev = bus_find_device_by_name(&pci_bus_type, NULL, device);
	if (!dev)
		return -ENODEV;
	pdev = to_pci_dev(dev);
	opregion = get_memory();
	if (!opregion) {
		pci_dev_put(pdev);
		return -ENOMEM;
	}
	phys = reserved ? reserved : virt_to_phys(opregion);
	igd_fill();
	old_vendor = pdev->vendor;
	old_class = pdev->class;
	pci_read_config_dword(pdev, ASLS, &old_asls);
	pdev->vendor = vendor;
	pdev->class = class;
	pci_write_config_dword(pdev, ASLS, phys);
	return 0;
}
module_init(igd_init);

static void __exit igd_exit(void)
{
	pci_write_config_dword(pdev, ASLS, old_asls);
	pdev->class = old_class;
	pdev->vendor = old_vendor;
	put_memory();
	pci_dev_put(pdev);
}
module_exit(igd_exit);

MODULE_DESCRIPTION("Makes a device look like Intel graphics, for tests");
MODULE_LICENSE("GPL");
