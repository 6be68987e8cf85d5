// SPDX-License-Identifier: GPL-2.0

//! Pinned memory in a [`Domain`] by entries that are no larger than the caller wants.

use kernel::{
    error::to_result,
    prelude::*, //
};
use vfio_bindings as bindings;

use super::domain::{
    for_each_run,
    Domain,
    Prot, //
};
use crate::{
    params,
    runs::Cursor, //
};

impl Domain {
    /// Maps the next `npages` of `frames` with no entry larger than `largest`, a power of two;
    /// [`sync_map`](Self::sync_map) must follow. On failure nothing is mapped.
    pub(super) fn map_limited(
        &self,
        iova: u64,
        frames: &mut Cursor<'_>,
        npages: usize,
        prot: Prot,
        largest: usize,
    ) -> Result {
        let mut done = 0usize;
        for_each_run(frames, npages, |phys, len| {
            let mut part = 0usize;
            while part < len {
                let at = (iova as usize).wrapping_add(done);
                let phys = phys.wrapping_add(part as u64);
                // Up to the next multiple of `largest`, as an entry does not reach beyond.
                let size = (largest - (at & (largest - 1))).min(len - part);
                if !self.has_pt() || params::disable_hugepages() {
                    // The memory stays pinned until after it was unmapped, which `ShadowExtent`
                    // sees to.
                    self.map_run(at as u64, phys, size, prot.to_raw())?;
                    done += size;
                } else {
                    // SAFETY: The domain is alive (type invariant of `Domain`) and `has_pt`. The
                    // memory as above.
                    to_result(unsafe {
                        bindings::vfio_rs_iommu_pt_map(
                            self.as_ptr(),
                            at,
                            phys,
                            size,
                            prot.to_raw() as c_int,
                            &mut done,
                        )
                    })?;
                }
                part += size;
            }
            Ok(())
        })
        .inspect_err(|_| {
            self.unmap(iova, done);
        })
    }

    /// Tells the IOMMU of what was mapped in `size` bytes from `iova` on.
    pub(super) fn sync_map(&self, iova: u64, size: usize) -> Result {
        if !self.has_pt() || size == 0 {
            return Ok(());
        }
        // SAFETY: The domain is alive (type invariant of `Domain`). It may be told again of what
        // was mapped before.
        to_result(unsafe { bindings::vfio_rs_iommu_sync_map(self.as_ptr(), iova as usize, size) })
    }
}
