// SPDX-License-Identifier: GPL-2.0
/*
 * Makes the configuration space of a device odd.
 *
 * Bytes of the device named by the parameter "device" are replaced by others,
 * which may then be written, or zeroed from one on; behind one of them can be
 * vital product data. The
 * space can end early, and all of it can go away, as when the device is pulled
 * out. All is taken back when the module goes, so no user may have the device
 * open then.
 */
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/unaligned.h>

#define SPACE 4096
#define CONVENTIONAL 256
#define VPD_MAX 64

static char *device;
module_param(device, charp, 0444);
MODULE_PARM_DESC(device, "Address of the device");

static char *bytes = "";
module_param(bytes, charp, 0444);
MODULE_PARM_DESC(bytes, "Its other bytes: offset=value in hex, comma separated");

static uint zero;
module_param(zero, uint, 0444);
MODULE_PARM_DESC(zero, "From where on all its other bytes are 0");

static uint size;
module_param(size, uint, 0444);
MODULE_PARM_DESC(size, "Bytes of its configuration space, if not as many as it has");

static uint vpd;
module_param(vpd, uint, 0444);
MODULE_PARM_DESC(vpd, "Where among the bytes its VPD capability is");

static uint msix;
module_param(msix, uint, 0444);
MODULE_PARM_DESC(msix, "Where among the bytes its MSI-X capability is");

static bool gone;
module_param(gone, bool, 0644);
MODULE_PARM_DESC(gone, "Reads return ones and writes are lost");

static struct pci_dev *pdev;
static struct pci_ops *old_ops;
static int old_size;
static u8 old_msix;
static u8 fake[SPACE], vpd_data[VPD_MAX];
static DECLARE_BITMAP(is_fake, SPACE);

static bool covers(int where, int len, unsigned int at)
{
	return where <= at && at < where + len;
}

static int odd_read(struct pci_bus *bus, unsigned int devfn, int where, int len, u32 *val)
{
	int ret = old_ops->read(bus, devfn, where, len, val);
	int i;

	if (devfn != pdev->devfn)
		return ret;
	if (gone) {
		*val = ~0;
		return ret;
	}
	for (i = 0; i < len; i++) {
		if (where + i >= SPACE || !test_bit(where + i, is_fake))
			continue;
		*val &= ~(0xffu << 8 * i);
		*val |= fake[where + i] << 8 * i;
	}
	return ret;
}

/* The address register was written: 0 in its upper bit asks for a read. */
static void vpd_access(void)
{
	u8 *reg = fake + vpd + PCI_VPD_ADDR;
	u16 addr = get_unaligned_le16(reg);
	u8 *data = vpd_data + (addr & ~PCI_VPD_ADDR_F) % VPD_MAX;

	if (addr & PCI_VPD_ADDR_F)
		memcpy(data, fake + vpd + PCI_VPD_DATA, 4);
	else
		memcpy(fake + vpd + PCI_VPD_DATA, data, 4);
	put_unaligned_le16(addr ^ PCI_VPD_ADDR_F, reg);
}

static int odd_write(struct pci_bus *bus, unsigned int devfn, int where, int len, u32 val)
{
	int i, kept = 0;

	if (devfn != pdev->devfn)
		return old_ops->write(bus, devfn, where, len, val);
	if (gone)
		return PCIBIOS_SUCCESSFUL;
	for (i = 0; i < len; i++) {
		if (where + i >= SPACE || !test_bit(where + i, is_fake))
			continue;
		/* The kernel restores the header as it was before this module came. */
		if (where >= PCI_STD_HEADER_SIZEOF)
			fake[where + i] = val >> 8 * i;
		kept++;
	}
	if (vpd && covers(where, len, vpd + PCI_VPD_ADDR + 1))
		vpd_access();
	return kept ? PCIBIOS_SUCCESSFUL : old_ops->write(bus, devfn, where, len, val);
}

static struct pci_ops odd_ops = {
	.read = odd_read,
	.write = odd_write,
};

/* An identifier of ten letters and the end: 14 bytes, the last dword is cut. */
static const u8 vpd_start[] = "\202\012\0000123456789xbeyond";

static int __init odd_init(void)
{
	unsigned int at, value;
	struct device *dev;
	char *text;

	if (!device || msix >= CONVENTIONAL || (vpd && vpd > CONVENTIONAL - PCI_CAP_VPD_SIZEOF))
		return -EINVAL;
	if (zero && zero < SPACE)
		bitmap_set(is_fake, zero, SPACE - zero);
	while ((text = strsep(&bytes, ",")) && *text) {
		if (sscanf(text, "%x=%x", &at, &value) != 2 || at >= SPACE)
			return -EINVAL;
		fake[at] = value;
		set_bit(at, is_fake);
	}
	dev = bus_find_device_by_name(&pci_bus_type, NULL, device);
	if (!dev)
		return -ENODEV;
	pdev = to_pci_dev(dev);
	old_size = pdev->cfg_size;
	if (size)
		pdev->cfg_size = size;
	old_msix = pdev->msix_cap;
	if (msix)
		pdev->msix_cap = msix;
	memcpy(vpd_data, vpd_start, sizeof(vpd_start));
	if (vpd)
		bitmap_set(is_fake, vpd + PCI_VPD_ADDR, PCI_CAP_VPD_SIZEOF - PCI_VPD_ADDR);
	pdev->vpd.cap = vpd;
	pdev->vpd.len = 0;
	old_ops = pdev->bus->ops;
	pci_bus_set_ops(pdev->bus, &odd_ops);
	return 0;
}
module_init(odd_init);

static void __exit odd_exit(void)
{
	pci_bus_set_ops(pdev->bus, old_ops);
	/* Those that are still in odd_read() have interrupts off. */
	synchronize_rcu();
	pdev->vpd.cap = 0;
	pdev->msix_cap = old_msix;
	pdev->cfg_size = old_size;
	pci_dev_put(pdev);
}
module_exit(odd_exit);

MODULE_DESCRIPTION("Makes the configuration space of a device odd, for tests");
MODULE_LICENSE("GPL");
