// SPDX-License-Identifier: GPL-2.0

//! New addresses for mapped memory: `VFIO_DMA_UNMAP_FLAG_VADDR` and `VFIO_DMA_MAP_FLAG_VADDR`.
//!
//! For a client that replaces itself by exec() and then has its memory, a file of it, elsewhere. It
//! first takes the addresses of its mappings back; devices go on with the memory meanwhile. Then it
//! gives new ones. The addresses themselves are not needed here, as the memory is pinned; what
//! changes is the process against whose limit it counts. While a mapping has no address, which is
//! its mark, no group can be attached, as in C.

use kernel::prelude::*;

use super::{
    maps::{
        tenant,
        MapEntry, //
    },
    Type1,
    Version, //
};
use crate::iova::IovaRange;

impl Type1 {
    /// Takes back the addresses of all mappings in a range, or of none; returns their bytes.
    ///
    /// # Errors
    ///
    /// As for an unmap; and `EINVAL` if one has no address.
    pub(super) fn invalidate_vaddr(&self, iova: u64, size: u64, all: bool) -> Result<u64> {
        let (_turn, mut maps, range) = self.claim(iova, size, all)?;
        // v1: a mapping that starts before the range stays, and so does all behind it.
        let cut = self.version == Version::V1
            && maps
                .ranges
                .first_overlap(range)
                .is_some_and(|found| found.start() < range.start());
        let mut left = Some(range).filter(|_| !cut);
        let (mut count, mut bytes) = (0usize, 0u64);
        while let Some(found) = left.and_then(|left| maps.ranges.first_overlap(left)) {
            left = range.above(&found);
            let entry = maps.ranges.get(found);
            if entry.is_none_or(|entry| entry.is_busy() || entry.mark()) {
                return Err(EINVAL);
            }
        }
        let mut left = Some(range).filter(|_| !cut);
        while let Some(found) = left.and_then(|left| maps.ranges.first_overlap(left)) {
            left = range.above(&found);
            maps.ranges.set_mark(found, true);
            count = count.saturating_add(1);
            bytes = bytes.wrapping_add(found.size().unwrap_or(0));
        }
        maps.vaddr_invalid = maps.vaddr_invalid.saturating_add(count);
        Ok(bytes)
    }

    /// Gives exactly the mapping `range` a new address, in the current process.
    ///
    /// # Errors
    ///
    /// In this order: `EINVAL` (not aligned), `ENOENT` (no mapping there), `EINVAL` (other bounds,
    /// or it has an address), `ENOMEM` (locked memory of the process), `EINTR`.
    pub(super) fn update_vaddr(&self, range: IovaRange, vaddr: u64) -> Result {
        let maps = self.lock_to_wait();
        if !range.is_aligned(maps.granule()) || !maps.aligned(vaddr) {
            return Err(EINVAL);
        }
        let (_turn, mut maps) = self.turn(maps, range)?;
        if maps.ranges.first_overlap(range).ok_or(ENOENT)? != range {
            return Err(EINVAL);
        }
        if !maps.ranges.get(range).is_some_and(MapEntry::mark) {
            return Err(EINVAL);
        }
        let tenant = tenant(&mut maps.tenant, &self.space)?;
        let mut content = maps.ranges.take(range).ok_or(EINVAL)?;
        drop(maps);
        let _held = self.hold();
        let result = content.pay_with(tenant);
        let mut maps = self.maps.lock();
        if result.is_ok() {
            content.set_mark(false);
            maps.vaddr_invalid = maps.vaddr_invalid.saturating_sub(1);
        }
        maps.ranges.put(content);
        self.wake(&maps);
        result
    }
}
