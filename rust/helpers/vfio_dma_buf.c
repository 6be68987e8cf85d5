// SPDX-License-Identifier: GPL-2.0
/* Definitions for vfio_dma_buf.h. */
#include <linux/err.h>
#include <linux/export.h>
#include <linux/module.h>

#include "vfio_dma_buf.h"

#if IS_ENABLED(CONFIG_PCI_P2PDMA) && IS_ENABLED(CONFIG_DMA_SHARED_BUFFER)
#include <linux/dma-buf-mapping.h>
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/pci-p2pdma.h>

MODULE_IMPORT_NS("DMA_BUF");

bool vfio_rs_dma_buf_works(void)
{
	return true;
}

int vfio_rs_p2pdma_init(struct pci_dev *pdev)
{
	return pcim_p2pdma_init(pdev);
}

/* NULL if the BAR is no memory. */
void *vfio_rs_p2pdma_provider(struct pci_dev *pdev, int bar)
{
	return pcim_p2pdma_provider(pdev, bar);
}

struct dma_buf *vfio_rs_dma_buf_export(const struct dma_buf_ops *ops, size_t size, int flags,
				       void *priv)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);

	info.exp_name = "vfio_pci";
	info.ops = ops;
	info.size = size;
	info.flags = flags;
	info.priv = priv;
	return dma_buf_export(&info);
}

int vfio_rs_dma_buf_fd(struct dma_buf *dmabuf, int flags)
{
	return dma_buf_fd(dmabuf, flags);
}

void vfio_rs_dma_buf_put(struct dma_buf *dmabuf)
{
	dma_buf_put(dmabuf);
}

void vfio_rs_dma_buf_lock(struct dma_buf *dmabuf)
{
	dma_resv_lock(dmabuf->resv, NULL);
}

void vfio_rs_dma_buf_unlock(struct dma_buf *dmabuf)
{
	dma_resv_unlock(dmabuf->resv);
}

/* Tells importers, and waits for what their devices have begun. */
void vfio_rs_dma_buf_invalidate(struct dma_buf *dmabuf)
{
	dma_buf_invalidate_mappings(dmabuf);
	dma_resv_wait_timeout(dmabuf->resv, DMA_RESV_USAGE_BOOKKEEP, false,
			      MAX_SCHEDULE_TIMEOUT);
}

/* Whether the importer gives its map up when told. */
bool vfio_rs_dma_buf_revocable(struct dma_buf_attachment *attachment)
{
	return dma_buf_attach_revocable(attachment);
}

struct sg_table *vfio_rs_dma_buf_map(struct dma_buf_attachment *attachment, void *provider,
				     struct phys_vec *ranges, size_t count, size_t size,
				     enum dma_data_direction dir)
{
	return dma_buf_phys_vec_to_sgt(attachment, provider, ranges, count, size, dir);
}

void vfio_rs_dma_buf_unmap(struct dma_buf_attachment *attachment, struct sg_table *sgt,
			   enum dma_data_direction dir)
{
	dma_buf_free_sgt(attachment, sgt, dir);
}

/* iommufd finds it by name: where the one range of a dma-buf of ours is. */
int vfio_pci_dma_buf_iommufd_map(struct dma_buf_attachment *attachment, struct phys_vec *phys);
int vfio_pci_dma_buf_iommufd_map(struct dma_buf_attachment *attachment, struct phys_vec *phys)
{
	dma_resv_assert_held(attachment->dmabuf->resv);
	return vfio_rs_dma_buf_phys(attachment, phys);
}
EXPORT_SYMBOL_FOR_MODULES(vfio_pci_dma_buf_iommufd_map, "iommufd");
#else
bool vfio_rs_dma_buf_works(void)
{
	return false;
}

int vfio_rs_p2pdma_init(struct pci_dev *pdev)
{
	return -EOPNOTSUPP;
}

void *vfio_rs_p2pdma_provider(struct pci_dev *pdev, int bar)
{
	return NULL;
}

struct dma_buf *vfio_rs_dma_buf_export(const struct dma_buf_ops *ops, size_t size, int flags,
				       void *priv)
{
	return ERR_PTR(-EOPNOTSUPP);
}

int vfio_rs_dma_buf_fd(struct dma_buf *dmabuf, int flags)
{
	return -EOPNOTSUPP;
}

void vfio_rs_dma_buf_put(struct dma_buf *dmabuf)
{
}

void vfio_rs_dma_buf_lock(struct dma_buf *dmabuf)
{
}

void vfio_rs_dma_buf_unlock(struct dma_buf *dmabuf)
{
}

void vfio_rs_dma_buf_invalidate(struct dma_buf *dmabuf)
{
}

bool vfio_rs_dma_buf_revocable(struct dma_buf_attachment *attachment)
{
	return false;
}

struct sg_table *vfio_rs_dma_buf_map(struct dma_buf_attachment *attachment, void *provider,
				     struct phys_vec *ranges, size_t count, size_t size,
				     enum dma_data_direction dir)
{
	return ERR_PTR(-EOPNOTSUPP);
}

void vfio_rs_dma_buf_unmap(struct dma_buf_attachment *attachment, struct sg_table *sgt,
			   enum dma_data_direction dir)
{
}
#endif
