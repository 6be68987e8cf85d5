// SPDX-License-Identifier: GPL-2.0

//! Parts of BARs as dma-bufs, for drivers of other devices.
//!
//! They are revoked and restored with the maps in I/O address spaces, see `backend/p2p.rs`.
//!
//! Stands for drivers/vfio/pci/vfio_pci_dmabuf.c.

use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};
use vfio_kernel::dma_buf::{
    BarExport,
    ExportRanges, //
};

use super::Open;

/// Longer ones are for the DMA layer's own bookkeeping.
const MAX_SIZE: u64 = 1 << 63;

impl Open {
    /// Whether a BAR is there and reserved.
    ///
    /// # Errors
    ///
    /// `ENODEV` if not.
    pub(crate) fn check_bar(&self, bar: u32) -> Result {
        self.bar(bar).map(drop).map_err(|_| ENODEV)
    }

    /// Makes a dma-buf of `parts` of `bar`, each an offset and bytes, and returns its descriptor.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the BAR is no memory, a part is empty, not whole pages or beyond it, or all
    /// together are too long; `EOVERFLOW`; `ENOMEM`, `EMFILE`.
    pub(crate) fn export_bar(&self, bar: u32, flags: u32, parts: &[[u64; 2]]) -> Result<i32> {
        let mut size = 0u64;
        for [offset, len] in parts {
            let whole = |value: u64| value.checked_rem(PAGE_SIZE as u64) == Some(0);
            if *len == 0 || !whole(*offset) || !whole(*len) {
                return Err(EINVAL);
            }
            size = size.checked_add(*len).ok_or(EINVAL)?;
        }
        if size >= MAX_SIZE {
            return Err(EINVAL);
        }
        // ERRNO: EINVAL for I/O ports before parts that lie beyond.
        let mut ranges = ExportRanges::new(self.pci(), bar, parts.len())?;
        for [offset, len] in parts {
            ranges.push(*offset, *len)?;
        }
        let (export, fresh) = BarExport::new(ranges, flags)?;
        // Held until it is listed, so that whoever disables memory finds it to revoke.
        let memory = self.read_memory();
        let dma = self.device.bar_dma();
        dma.add_export(&export)?;
        if self.maps(&memory) {
            export.restore();
        }
        drop(memory);
        fresh.install()
    }
}
