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
        // The next larger size that an entry can have, if any.
        let above = self.pgsize_bitmap() & !((largest - 1) << 1 | 1);
        let larger = above & above.wrapping_neg();
        let mut done = 0usize;
        for_each_run(frames, npages, |phys, len| {
            let mut part = 0usize;
            while part < len {
                let at = (iova as usize).wrapping_add(done);
                let phys = phys.wrapping_add(part as u64);
                let left = len - part;
                let size;
                if !self.has_pt() || params::disable_hugepages() {
                    // By one call each, as some drivers, such as that of virtio-iommu, unmap what
                    // one call has mapped as a whole or not at all, and it may be cut here.
                    size = left.min(largest - (at & (largest - 1)));
                    // The memory stays pinned until after it was unmapped, which `ShadowExtent`
                    // sees to.
                    self.map_run(at as u64, phys, size, prot.to_raw())?;
                    done += size;
                } else {
                    size = step(at, phys as usize, left, largest, larger);
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

/// How many of `left` bytes from `at` on, which lead to `phys`, can be mapped in one go without an
/// entry of `larger` bytes or more; `largest` can be in any case. 0 for `larger` is never too much.
fn step(at: usize, phys: usize, left: usize, largest: usize, larger: usize) -> usize {
    // Such an entry is at a multiple of its size, and so is what it leads to.
    if left < larger || larger == 0 || (at ^ phys) & (larger - 1) != 0 {
        return left;
    }
    match at & (larger - 1) {
        0 => largest,
        offset => larger - offset,
    }
}

#[cfg(CONFIG_VFIO_RS_KUNIT_TEST)]
#[kernel::prelude::kunit_tests(vfio_rs_limited)]
mod tests {
    use super::*;

    #[test]
    fn no_step_has_a_larger_page() {
        const K4: usize = 1 << 12;
        const M2: usize = 1 << 21;
        for (at, phys, pages) in [(0, 0, 1536), (K4, K4, 1024), (0, K4, 1024), (M2, 0, 511)] {
            let (mut done, mut steps) = (0, 0);
            while done < pages * K4 {
                let (start, phys) = (at + done, phys + done);
                let size = step(start, phys, pages * K4 - done, K4, M2);
                // Is there one that begins and ends in it?
                let first = start.next_multiple_of(M2);
                let fits = first + M2 <= start + size && (phys + (first - start)) % M2 == 0;
                assert!(size != 0 && size % K4 == 0 && !fits);
                done += size;
                steps += 1;
            }
            assert_eq!(done, pages * K4);
            assert!(steps <= 2 * (pages / 512 + 1));
        }
    }
}
