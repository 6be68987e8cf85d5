/* SPDX-License-Identifier: GPL-2.0 */
/* As vfio_helpers.h, for dma-bufs: without PCI_P2PDMA or DMA_SHARED_BUFFER there are none. */
#ifndef _VFIO_RS_DMA_BUF_H
#define _VFIO_RS_DMA_BUF_H

#include <linux/dma-direction.h>
#include <linux/types.h>

struct dma_buf;
struct dma_buf_attachment;
struct dma_buf_ops;
struct pci_dev;
struct sg_table;

bool vfio_rs_dma_buf_works(void);
int vfio_rs_p2pdma_init(struct pci_dev *pdev);
void *vfio_rs_p2pdma_provider(struct pci_dev *pdev, int bar);
struct dma_buf *vfio_rs_dma_buf_export(const struct dma_buf_ops *ops, size_t size, int flags,
				       void *priv);
int vfio_rs_dma_buf_fd(struct dma_buf *dmabuf, int flags);
void vfio_rs_dma_buf_put(struct dma_buf *dmabuf);
void vfio_rs_dma_buf_lock(struct dma_buf *dmabuf);
void vfio_rs_dma_buf_unlock(struct dma_buf *dmabuf);
void vfio_rs_dma_buf_invalidate(struct dma_buf *dmabuf);
bool vfio_rs_dma_buf_revocable(struct dma_buf_attachment *attachment);
struct sg_table *vfio_rs_dma_buf_map(struct dma_buf_attachment *attachment, void *provider,
				     struct phys_vec *ranges, size_t count, size_t size,
				     enum dma_data_direction dir);
void vfio_rs_dma_buf_unmap(struct dma_buf_attachment *attachment, struct sg_table *sgt,
			   enum dma_data_direction dir);

/* Defined in vfio_kernel/dma_buf.rs, for the export in vfio_dma_buf.c. */
int vfio_rs_dma_buf_phys(struct dma_buf_attachment *attachment, struct phys_vec *phys);

#endif /* _VFIO_RS_DMA_BUF_H */
