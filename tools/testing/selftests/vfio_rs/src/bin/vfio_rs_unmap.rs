// SPDX-License-Identifier: GPL-2.0
//! VFIO_IOMMU_UNMAP_DMA: misuse, holes, cut mappings, and how type1 differs from type1v2.

use nix::errno::Errno;
use vfio_client::sys;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Group};
use vfio_rs_selftests::setup::{EDU, IOVA, PAGE};
use vfio_rs_selftests::{Outcome, Result, errno, same, suite};

const ALL: u32 = VFIO_DMA_UNMAP_FLAG_ALL;
const VADDR: u32 = VFIO_DMA_UNMAP_FLAG_VADDR;
const BITMAP: u32 = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;

/// A container of type `kind` with mappings of `sizes` pages at pages `at`, counted from [`IOVA`].
fn mapped(kind: u32, ranges: &[(u64, u64)]) -> Result<(Container, Group, Vec<DmaBuf>)> {
    let (container, group) = EDU.bind()?.attach(kind)?;
    let mut bufs = Vec::new();
    for (at, count) in ranges {
        let buf = DmaBuf::new((count * PAGE) as usize)?;
        container.map_buf(&buf, IOVA + at * PAGE)?;
        bufs.push(buf);
    }
    Ok((container, group, bufs))
}

fn argsz() -> Outcome {
    let (container, _group, _bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[(0, 1)])?;
    for short in [0, 1, 8, 23] {
        let mut unmap = vfio_iommu_type1_dma_unmap {
            argsz: short,
            iova: IOVA,
            size: PAGE,
            ..Default::default()
        };
        let result = sys::with_struct(&container, IOMMU_UNMAP_DMA, &mut unmap);
        errno(&format!("argsz {short}"), result, Errno::EINVAL)?;
        same("size then", unmap.size, PAGE)?;
    }
    let mut unmap = vfio_iommu_type1_dma_unmap {
        argsz: 4096,
        iova: IOVA,
        size: PAGE,
        ..Default::default()
    };
    sys::with_struct(&container, IOMMU_UNMAP_DMA, &mut unmap)?;
    same("argsz and size", (unmap.argsz, unmap.size), (4096, PAGE))
}

fn flags() -> Outcome {
    let (container, _group, _bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[(0, 1)])?;
    for bit in 3..32 {
        errno(
            &format!("flag {bit}"),
            container.unmap_flags(1 << bit, IOVA, PAGE),
            Errno::EINVAL,
        )?;
    }
    for flags in [BITMAP, BITMAP | ALL, BITMAP | VADDR, BITMAP | ALL | VADDR] {
        // Without the bitmap behind the struct.
        errno(
            &format!("flags {flags}"),
            container.unmap_flags(flags, IOVA, PAGE),
            Errno::EINVAL,
        )?;
    }
    same("unmapped", container.unmap(IOVA, PAGE)?, PAGE)
}

fn size_and_alignment() -> Outcome {
    let (container, _group, _bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[(0, 1)])?;
    for (iova, size) in [
        (IOVA, 0),
        (IOVA, 1),
        (IOVA, PAGE + 1),
        (IOVA + 1, PAGE),
        (IOVA + 2048, PAGE),
        (0, 0),
    ] {
        errno(
            &format!("{iova:#x}, {size:#x}"),
            container.unmap(iova, size),
            Errno::EINVAL,
        )?;
    }
    same("unmapped", container.unmap(IOVA, PAGE)?, PAGE)
}

fn overflow() -> Outcome {
    let (container, _group, _bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[(0, 1)])?;
    let top = 0u64.wrapping_sub(PAGE);
    errno(
        "over the top",
        container.unmap(top, 2 * PAGE),
        Errno::EOVERFLOW,
    )?;
    errno(
        "far over the top",
        container.unmap(2 * PAGE, top),
        Errno::EOVERFLOW,
    )?;
    errno(
        "unaligned and over the top",
        container.unmap(top + 1, 2 * PAGE),
        Errno::EINVAL,
    )?;
    same("the last page", container.unmap(top, PAGE)?, 0)?;
    // Everything but the last page: the most that a range can say.
    same("unmapped", container.unmap(0, top)?, PAGE)
}

fn holes() -> Outcome {
    let (container, _group, _bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[(1, 1), (3, 2), (9, 1)])?;
    same("nothing before", container.unmap(IOVA, PAGE)?, 0)?;
    same(
        "nothing between",
        container.unmap(IOVA + 5 * PAGE, 4 * PAGE)?,
        0,
    )?;
    same(
        "nothing far away",
        container.unmap(IOVA + (1 << 30), 1 << 30)?,
        0,
    )?;
    same("two with holes", container.unmap(IOVA, 6 * PAGE)?, 3 * PAGE)?;
    same("again", container.unmap(IOVA, 6 * PAGE)?, 0)?;
    same("the rest", container.unmap(IOVA, 100 * PAGE)?, PAGE)
}

fn cut_mapping_v2() -> Outcome {
    let (container, _group, _bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[(0, 4), (4, 4)])?;
    let cases = [
        ("first page", 0, 1),
        ("last page", 3, 1),
        ("middle", 1, 2),
        ("end of two", 2, 6),
        ("start of two", 0, 6),
    ];
    for (what, at, count) in cases {
        errno(
            what,
            container.unmap(IOVA + at * PAGE, count * PAGE),
            Errno::EINVAL,
        )?;
    }
    errno(
        "from before",
        container.unmap(IOVA - PAGE, 3 * PAGE),
        Errno::EINVAL,
    )?;
    errno(
        "to behind",
        container.unmap(IOVA + 6 * PAGE, 4 * PAGE),
        Errno::EINVAL,
    )?;
    same(
        "both whole",
        container.unmap(IOVA - PAGE, 10 * PAGE)?,
        8 * PAGE,
    )
}

fn cut_mapping_v1() -> Outcome {
    let (container, _group, _bufs) = mapped(VFIO_TYPE1_IOMMU, &[(0, 4), (4, 4), (8, 4)])?;
    same(
        "the middle of one",
        container.unmap(IOVA + PAGE, 2 * PAGE)?,
        0,
    )?;
    same("the end of one", container.unmap(IOVA + 3 * PAGE, PAGE)?, 0)?;
    // A range that begins inside a mapping stops there.
    same(
        "from inside one over the next",
        container.unmap(IOVA + 2 * PAGE, 6 * PAGE)?,
        0,
    )?;
    same(
        "the start of one",
        container.unmap(IOVA + 4 * PAGE, PAGE)?,
        4 * PAGE,
    )?;
    same(
        "all but the end of the last",
        container.unmap(IOVA, 10 * PAGE)?,
        8 * PAGE,
    )?;
    same("nothing left", container.unmap_all()?, 0)
}

fn unmap_all() -> Outcome {
    let (container, _group, bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[(0, 1), (7, 2)])?;
    same("extension", container.check_extension(EXT_UNMAP_ALL)?, 1)?;
    for (iova, size) in [(IOVA, 0), (0, PAGE), (IOVA, PAGE), (0, u64::MAX)] {
        errno(
            &format!("of {iova:#x}, {size:#x}"),
            container.unmap_flags(ALL, iova, size),
            Errno::EINVAL,
        )?;
    }
    same("unmapped", container.unmap_all()?, 3 * PAGE)?;
    same("again", container.unmap_all()?, 0)?;
    container.map_buf(&bufs[0], IOVA)?;
    same("unmapped after a new map", container.unmap_all()?, PAGE)
}

fn vaddr_invalidation() -> Outcome {
    let (container, _group, bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[(0, 1), (1, 1)])?;
    let invalidate = |at, size| container.unmap_flags(VADDR, at, size);
    let update =
        |buf: usize, at, size| container.map(VFIO_DMA_MAP_FLAG_VADDR, bufs[buf].addr(), at, size);
    same("invalidated", invalidate(IOVA + PAGE, PAGE)?, PAGE)?;
    // A call that meets an invalid mapping takes back what it did itself, and no more.
    let both = invalidate(IOVA, 2 * PAGE);
    errno("invalidated twice", both, Errno::EINVAL)?;
    errno("update of the first", update(0, IOVA, PAGE), Errno::EINVAL)?;
    update(1, IOVA + PAGE, PAGE)?;
    same(
        "invalidated",
        container.unmap_flags(VADDR | ALL, 0, 0)?,
        2 * PAGE,
    )?;
    errno(
        "update of both at once",
        update(0, IOVA, 2 * PAGE),
        Errno::EINVAL,
    )?;
    update(0, IOVA, PAGE)?;
    errno("update twice", update(0, IOVA, PAGE), Errno::EINVAL)?;
    same("unmapped", container.unmap_all()?, 2 * PAGE)
}

fn freed_addresses_can_be_mapped_again() -> Outcome {
    let (container, _group, bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[(0, 4)])?;
    for _ in 0..50 {
        same("unmapped", container.unmap(IOVA, 4 * PAGE)?, 4 * PAGE)?;
        // Another cut of the same range each time.
        for page in 0..4 {
            let vaddr = bufs[0].addr() + page * PAGE;
            container.map(VFIO_DMA_MAP_FLAG_READ, vaddr, IOVA + page * PAGE, PAGE)?;
        }
        same(
            "unmapped page by page",
            container.unmap(IOVA, 4 * PAGE)?,
            4 * PAGE,
        )?;
        container.map_buf(&bufs[0], IOVA)?;
    }
    Ok(())
}

suite!(
    iommus: All, debug: Counted;
    argsz,
    flags,
    size_and_alignment,
    overflow,
    holes,
    cut_mapping_v2,
    cut_mapping_v1,
    unmap_all,
    vaddr_invalidation,
    freed_addresses_can_be_mapped_again,
);
