// SPDX-License-Identifier: GPL-2.0
//! Capability chains: lists of variable length behind the info structs. Pure, for trust goes only
//! as far as the buffer.

use std::mem::offset_of;
use std::ops::RangeInclusive;

use crate::bindings::vfio_region_info_cap_mmap_alt;
use crate::uapi::{
    vfio_info_cap_header, vfio_iommu_type1_info_cap_iova_range,
    vfio_iommu_type1_info_cap_migration, vfio_iommu_type1_info_dma_avail, vfio_iova_range,
    vfio_region_info_cap_type,
};

/// One capability: its header's fields and its body (what follows the 8-byte header, up to the end
/// of the buffer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap<'a> {
    /// Which capability.
    pub id: u16,
    /// Version of its layout.
    pub version: u16,
    /// Bytes after the header.
    pub body: &'a [u8],
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(
        bytes.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

/// Walks the chain that starts at byte `first` of `info`, the whole info struct as the kernel
/// returned it.
///
/// Offsets count from the start of the struct, as the interface says. The walk ends at offset 0, at
/// a header beyond the buffer, or at a step backwards, so it ends always.
#[must_use]
pub fn walk(info: &[u8], first: u32) -> Vec<Cap<'_>> {
    let mut caps = Vec::new();
    let mut at = first as usize;
    while at != 0 {
        let (Some(id), Some(version), Some(next)) =
            (u16_at(info, at), u16_at(info, at + 2), u32_at(info, at + 4))
        else {
            break;
        };
        caps.push(Cap {
            id,
            version,
            body: &info[at + 8..],
        });
        if next as usize <= at {
            break;
        }
        at = next as usize;
    }
    caps
}

/// The first capability with `id`.
#[must_use]
pub fn find<'a>(caps: &[Cap<'a>], id: u32) -> Option<Cap<'a>> {
    caps.iter().copied().find(|cap| u32::from(cap.id) == id)
}

/// Where the field of a capability is in its body.
macro_rules! at {
    ($cap:ident, $field:ident) => {
        offset_of!($cap, $field) - size_of::<vfio_info_cap_header>()
    };
}

/// Body of the IOVA range capability as address ranges; fewer than announced if the body is short.
#[must_use]
pub fn iova_ranges(body: &[u8]) -> Vec<RangeInclusive<u64>> {
    type Ranges = vfio_iommu_type1_info_cap_iova_range;
    let count = u32_at(body, at!(Ranges, nr_iovas)).unwrap_or(0) as usize;
    let range = |i: usize| {
        let at = at!(Ranges, iova_ranges) + i * size_of::<vfio_iova_range>();
        let start = u64_at(body, at + offset_of!(vfio_iova_range, start))?;
        Some(start..=u64_at(body, at + offset_of!(vfio_iova_range, end))?)
    };
    (0..count).map_while(range).collect()
}

/// Body of the DMA-available capability: mappings left.
#[must_use]
pub fn dma_avail(body: &[u8]) -> Option<u32> {
    u32_at(body, at!(vfio_iommu_type1_info_dma_avail, avail))
}

/// Body of the migration capability: page size bitmap and largest dirty bitmap, in bytes.
#[must_use]
pub fn migration(body: &[u8]) -> Option<(u64, u64)> {
    type Migration = vfio_iommu_type1_info_cap_migration;
    Some((
        u64_at(body, at!(Migration, pgsize_bitmap))?,
        u64_at(body, at!(Migration, max_dirty_bitmap_size))?,
    ))
}

/// Body of the capability that says what a region is: type and subtype.
#[must_use]
pub fn region_type(body: &[u8]) -> Option<(u32, u32)> {
    type Kind = vfio_region_info_cap_type;
    Some((
        u32_at(body, at!(Kind, type_))?,
        u32_at(body, at!(Kind, subtype))?,
    ))
}

/// Body of the capability that tells of another way to map a region: attribute, flags, offset,
/// size.
#[must_use]
pub fn mmap_alt(body: &[u8]) -> Option<(u32, u32, u64, u64)> {
    type Alt = vfio_region_info_cap_mmap_alt;
    Some((
        u32_at(body, at!(Alt, attr))?,
        u32_at(body, at!(Alt, flags))?,
        u64_at(body, at!(Alt, offset))?,
        u64_at(body, at!(Alt, size))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(id: u16, next: u32) -> Vec<u8> {
        let mut out = id.to_ne_bytes().to_vec();
        out.extend(1u16.to_ne_bytes());
        out.extend(next.to_ne_bytes());
        out
    }

    #[test]
    fn two_caps() {
        let mut info = vec![0; 24];
        info.extend(header(3, 40));
        info.extend(7u32.to_ne_bytes());
        info.extend([0; 4]);
        info.extend(header(1, 0));
        let caps = walk(&info, 24);
        assert_eq!(caps.iter().map(|c| c.id).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(find(&caps, 3).and_then(|c| dma_avail(c.body)), Some(7));
        assert!(find(&caps, 2).is_none());
    }

    #[test]
    fn loop_ends() {
        let mut info = vec![0; 8];
        info.extend(header(1, 8));
        assert_eq!(walk(&info, 8).len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_end(info in proptest::collection::vec(any::<u8>(), 0..256), first in 0u32..300) {
            let caps = walk(&info, first);
            prop_assert!(caps.len() <= info.len() / 8);
            for cap in caps {
                let _ = (iova_ranges(cap.body), dma_avail(cap.body), migration(cap.body));
            }
        }

        #[test]
        fn ranges_round_trip(ranges in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..8)) {
            let mut body = (ranges.len() as u32).to_ne_bytes().to_vec();
            body.extend([0; 4]);
            for (start, end) in &ranges {
                body.extend(start.to_ne_bytes());
                body.extend(end.to_ne_bytes());
            }
            let got: Vec<_> = iova_ranges(&body).into_iter().map(|r| (*r.start(), *r.end())).collect();
            prop_assert_eq!(got, ranges);
        }
    }
}
