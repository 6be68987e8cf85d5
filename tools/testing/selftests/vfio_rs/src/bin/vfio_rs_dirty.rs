// SPDX-License-Identifier: GPL-2.0
//! VFIO_IOMMU_DIRTY_PAGES, and unmaps that tell which pages were dirty: every mapped page is, each
//! time.

use std::thread::scope;

use nix::errno::Errno;
use vfio_client::container::RawBitmap;
use vfio_client::sys;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Group};
use vfio_rs_selftests::absent::{Absent, Call};
use vfio_rs_selftests::setup::{EDU, IOVA, PAGE};
use vfio_rs_selftests::{Outcome, Result, ensure, errno, same, suite};

const START: u32 = VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
const STOP: u32 = VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
const GET: u32 = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
/// Bits that nobody should set or clear.
const JUNK: u64 = 0x5a5a_5a5a_5a5a_5a5a;

/// A container with mappings of (first page, pages) from IOVA on.
fn mapped(kind: u32, parts: &[(u64, u64)]) -> Result<(Container, Group, Vec<DmaBuf>)> {
    let (container, group) = EDU.bind()?.attach(kind)?;
    let mut bufs = Vec::new();
    for (first, count) in parts {
        let buf = DmaBuf::new((count * PAGE) as usize)?;
        container.map_buf(&buf, IOVA + first * PAGE)?;
        bufs.push(buf);
    }
    Ok((container, group, bufs))
}

fn v2(parts: &[(u64, u64)]) -> Result<(Container, Group, Vec<DmaBuf>)> {
    let all = mapped(VFIO_TYPE1v2_IOMMU, parts)?;
    all.0.dirty_pages(START)?;
    Ok(all)
}

/// Bitmap of `pages` pages from page `first` on, into words of junk, one more than needed.
fn bitmap(container: &Container, first: u64, pages: u64) -> Result<Vec<u64>> {
    let mut words = vec![JUNK; pages.div_ceil(64) as usize + 1];
    container.dirty_bitmap(
        IOVA + first * PAGE,
        pages * PAGE,
        RawBitmap::of(&mut words, PAGE),
    )?;
    same("word behind", words.pop(), Some(JUNK))?;
    Ok(words)
}

/// Tracks anew. Linux's own stack leaves bits of one call in a mapping's bitmap for the next, if
/// they were shifted.
fn restart(container: &Container) -> Outcome {
    container.dirty_pages(STOP)?;
    Ok(container.dirty_pages(START)?)
}

fn not_for_version_1() -> Outcome {
    let (container, _group, _bufs) = mapped(VFIO_TYPE1_IOMMU, &[(0, 1)])?;
    errno("start", container.dirty_pages(START), Errno::EACCES)?;
    // Before anything else is looked at.
    let null = sys::with_value(&container, IOMMU_DIRTY_PAGES, 0);
    errno("of NULL", null, Errno::EACCES)?;
    let mut words = [0];
    let unmap = container.unmap_dirty(0, IOVA, PAGE, RawBitmap::of(&mut words, PAGE));
    errno("unmap", unmap, Errno::EINVAL)?;
    same("unmapped", container.unmap(IOVA, PAGE)?, PAGE)
}

fn flags_and_size() -> Outcome {
    let (container, _group, _bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[(0, 1)])?;
    for flags in [
        START | STOP,
        START | GET,
        STOP | GET,
        START | STOP | GET,
        8,
        1 << 31,
    ] {
        let result = container.dirty_pages(flags);
        errno(&format!("flags {flags:#x}"), result, Errno::EINVAL)?;
    }
    for argsz in [0u64, 7] {
        let mut head = [argsz | u64::from(START) << 32];
        let result = sys::with_buffer(&container, IOMMU_DIRTY_PAGES, &mut head);
        errno(&format!("argsz {argsz}"), result, Errno::EINVAL)?;
    }
    // GET_BITMAP needs all of its struct.
    for argsz in [8u64, 32, 47] {
        let mut get = [argsz | u64::from(GET) << 32, IOVA, PAGE, PAGE, 8, 0];
        let result = sys::with_buffer(&container, IOMMU_DIRTY_PAGES, &mut get);
        errno(&format!("argsz {argsz} of GET"), result, Errno::EINVAL)?;
    }
    Ok(())
}

fn start_and_stop() -> Outcome {
    let (container, _group, _bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[(0, 3)])?;
    let get = || bitmap(&container, 0, 3);
    let is_off = |what| match get() {
        Err(err) => errno(
            what,
            Err::<(), _>(err.downcast::<std::io::Error>()?),
            Errno::EINVAL,
        ),
        Ok(_) => vfio_rs_selftests::bail!("{what}: tracking is on"),
    };
    is_off("before start")?;
    container.dirty_pages(STOP)?;
    for _ in 0..2 {
        container.dirty_pages(START)?;
        container.dirty_pages(START)?;
        same("while on", get()?, vec![7])?;
        same("again", get()?, vec![7])?;
        container.dirty_pages(STOP)?;
        is_off("after stop")?;
        container.dirty_pages(STOP)?;
    }
    Ok(())
}

fn range_checks() -> Outcome {
    let (container, _group, _bufs) = v2(&[(0, 4)])?;
    let mut words = [0u64; 8];
    let good = RawBitmap::of(&mut words, PAGE);
    let get = |iova, size, bitmap| container.dirty_bitmap(iova, size, bitmap);
    let with = |pgsize, size| RawBitmap {
        pgsize,
        size,
        ..good
    };
    for (what, iova, size, bitmap, want) in [
        ("no bytes", IOVA, 0, good, Errno::EINVAL),
        (
            "wraps",
            u64::MAX - PAGE + 1,
            2 * PAGE,
            good,
            Errno::EOVERFLOW,
        ),
        ("iova", IOVA + 1, PAGE, good, Errno::EINVAL),
        ("size", IOVA, PAGE + 1, good, Errno::EINVAL),
        ("part of a page", IOVA, 1, good, Errno::EINVAL),
        ("no page size", IOVA, PAGE, with(0, 8), Errno::EINVAL),
        ("small pages", IOVA, PAGE, with(PAGE / 2, 8), Errno::EINVAL),
        (
            "large pages",
            IOVA,
            1 << 21,
            with(1 << 21, 8),
            Errno::EINVAL,
        ),
        (
            "odd pages",
            IOVA,
            3 * PAGE,
            with(3 * PAGE, 8),
            Errno::EINVAL,
        ),
        ("no bitmap", IOVA, PAGE, with(PAGE, 0), Errno::EINVAL),
        ("few bytes", IOVA, PAGE, with(PAGE, 7), Errno::EINVAL),
        ("few words", IOVA, 65 * PAGE, with(PAGE, 15), Errno::EINVAL),
        (
            "too much",
            IOVA,
            PAGE,
            with(PAGE, (256 << 20) + 1),
            Errno::EINVAL,
        ),
        ("cut in front", IOVA + PAGE, 3 * PAGE, good, Errno::EINVAL),
        ("cut behind", IOVA, 3 * PAGE, good, Errno::EINVAL),
        ("cut on both sides", IOVA + PAGE, PAGE, good, Errno::EINVAL),
    ] {
        errno(what, get(iova, size, bitmap), want)?;
    }
    let kernel = RawBitmap {
        data: 1 << 63,
        ..good
    };
    errno(
        "kernel's memory",
        get(IOVA, 4 * PAGE, kernel),
        Errno::EINVAL,
    )?;
    let nowhere = RawBitmap { data: 0, ..good };
    errno("no memory", get(IOVA, 4 * PAGE, nowhere), Errno::EFAULT)?;
    // Where nothing is mapped, nothing is written.
    get(IOVA + 4 * PAGE, 4 * PAGE, nowhere)?;
    same("words", words, [0; 8])?;
    get(IOVA, 4 * PAGE, with(PAGE, 64))?;
    same("in the end", words, [0xf, 0, 0, 0, 0, 0, 0, 0])
}

fn bits_of_several_mappings() -> Outcome {
    // Mappings that begin and end in words, at their ends, and over several; with holes.
    let parts = [(0, 3), (5, 1), (62, 2), (64, 64), (130, 70), (260, 60)];
    let (container, _group, _bufs) = v2(&parts)?;
    let pages = 384;
    for round in 0..2 {
        restart(&container)?;
        let words = bitmap(&container, 0, pages)?;
        for page in 0..pages {
            let mapped = parts.iter().any(|(at, n)| (*at..at + n).contains(&page));
            let bit = words[page as usize / 64] >> (page % 64) & 1 != 0;
            // A word with no mapped page is left alone, one that begins before its first mapping is
            // added to.
            let junk = JUNK >> (page % 64) & 1 != 0;
            let word = page / 64 * 64;
            let first = parts.iter().find(|(at, n)| at + n > word).map(|p| p.0);
            let added = first.is_none_or(|first| first > word);
            let want = mapped || (added && junk);
            same(&format!("round {round}, page {page}"), bit, want)?;
        }
    }
    restart(&container)?;
    // A range that begins elsewhere shifts them.
    same(
        "from 62",
        bitmap(&container, 62, 66)?[..1].to_vec(),
        vec![u64::MAX],
    )?;
    restart(&container)?;
    same("from 61", bitmap(&container, 61, 3)?, vec![6 | JUNK])
}

fn unmap_tells() -> Outcome {
    let (container, _group, _bufs) = v2(&[(0, 3), (5, 1), (64, 4)])?;
    let mut words = [JUNK; 3];
    let unmapped =
        container.unmap_dirty(0, IOVA, 128 * PAGE, RawBitmap::of(&mut words[..2], PAGE))?;
    same("unmapped", unmapped, 8 * PAGE)?;
    same("bits", words, [0b10_0111, 0xf, JUNK])?;
    let again = container.unmap_dirty(0, IOVA, 128 * PAGE, RawBitmap::of(&mut words[..2], PAGE))?;
    same("again", again, 0)?;
    same(
        "mappings left",
        container.iommu_info()?.dma_avail,
        Some(65535),
    )
}

fn unmap_checks() -> Outcome {
    let (container, _group, _bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[(0, 4)])?;
    let mut words = [JUNK; 2];
    let good = RawBitmap::of(&mut words, PAGE);
    let unmap = |flags, iova, size, bitmap| container.unmap_dirty(flags, iova, size, bitmap);
    errno(
        "not tracking",
        unmap(0, IOVA, 4 * PAGE, good),
        Errno::EINVAL,
    )?;
    container.dirty_pages(START)?;
    for flags in [VFIO_DMA_UNMAP_FLAG_ALL, VFIO_DMA_UNMAP_FLAG_VADDR, 8] {
        let result = unmap(flags, 0, 0, good);
        errno(&format!("flags {flags}"), result, Errno::EINVAL)?;
    }
    let with = |pgsize, size| RawBitmap {
        pgsize,
        size,
        ..good
    };
    for (what, iova, size, bitmap, want) in [
        ("no bytes", IOVA, 0, good, Errno::EINVAL),
        (
            "large pages",
            IOVA,
            1 << 21,
            with(1 << 21, 16),
            Errno::EINVAL,
        ),
        ("no page size", IOVA, 4 * PAGE, with(0, 16), Errno::EINVAL),
        ("few bytes", IOVA, 4 * PAGE, with(PAGE, 7), Errno::EINVAL),
        ("no bitmap", IOVA, 4 * PAGE, with(PAGE, 0), Errno::EINVAL),
        ("iova", IOVA + 1, 4 * PAGE, good, Errno::EINVAL),
        (
            "wraps",
            u64::MAX - PAGE + 1,
            2 * PAGE,
            good,
            Errno::EOVERFLOW,
        ),
        ("cut", IOVA, 3 * PAGE, good, Errno::EINVAL),
    ] {
        errno(what, unmap(0, iova, size, bitmap), want)?;
    }
    let nowhere = RawBitmap { data: 0, ..good };
    errno(
        "no memory",
        unmap(0, IOVA, 4 * PAGE, nowhere),
        Errno::EFAULT,
    )?;
    let mut short = [
        47 | u64::from(VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) << 32,
        IOVA,
        PAGE,
        0,
        0,
        0,
    ];
    let result = sys::with_buffer(&container, IOMMU_UNMAP_DMA, &mut short);
    errno("argsz 47", result, Errno::EINVAL)?;
    same("words", words, [JUNK; 2])?;
    same("still mapped", container.unmap(IOVA, 4 * PAGE)?, 4 * PAGE)
}

/// A mapping that is made in a hole of the range while an unmap is under way there, and reaches
/// beyond the range, stays.
fn unmap_against_a_map_beyond_its_end() -> Outcome {
    let (container, _group, _bufs) = v2(&[(0, 1), (64, 1)])?;
    let words = Absent::new(1)?;
    let bitmap = RawBitmap {
        pgsize: PAGE,
        size: 16,
        data: words.buf.addr(),
    };
    let other = DmaBuf::new(257 * PAGE as usize)?;
    let at = IOVA + 65 * PAGE;
    let unmapped = scope(|threads| {
        let unmap = || Ok(container.unmap_dirty(0, IOVA, 128 * PAGE, bitmap)?);
        let unmap = Call::begin(threads, unmap)?;
        words.wait_wanted()?;
        let map = Call::begin(threads, || Ok(container.map_buf(&other, at)?))?;
        map.wait_done_or_stuck()?;
        words.let_come()?;
        map.end()?;
        unmap.end()
    })?;
    same("unmapped", unmapped, 2 * PAGE)?;
    let word = |at| u64::from_ne_bytes(words.buf.copy(at * 8, 8).try_into().unwrap_or_default());
    same("bits", [word(0), word(1)], [1, 1])?;
    for at in 2..PAGE as usize / 8 {
        same(&format!("word {at} behind the bitmap"), word(at), 0)?;
    }
    same("the other", container.unmap(at, 257 * PAGE)?, 257 * PAGE)
}

fn tracks_what_comes_later() -> Outcome {
    let (container, _group, _bufs) = v2(&[(0, 1)])?;
    let later = DmaBuf::new(PAGE as usize)?;
    container.map_buf(&later, IOVA + 2 * PAGE)?;
    same("with the new one", bitmap(&container, 0, 3)?, vec![5])?;
    container.unmap(IOVA, PAGE)?;
    restart(&container)?;
    same(
        "without the old one",
        bitmap(&container, 0, 3)?,
        vec![4 | JUNK],
    )
}

fn large_mapping() -> Outcome {
    // More words than any buffer on the way has.
    let pages = 16 * 1024
        / if vfio_rs_selftests::setup::slowness() > 1 {
            8
        } else {
            1
        };
    let (container, group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let buf = DmaBuf::new(PAGE as usize * pages)?;
    container.map_buf(&buf, IOVA)?;
    container.dirty_pages(START)?;
    let mut words = vec![0; pages / 64 + 2];
    // One page more in front, so that the bits are shifted.
    let size = (pages as u64 + 1) * PAGE;
    container.dirty_bitmap(IOVA - PAGE, size, RawBitmap::of(&mut words, PAGE))?;
    same("first word", words[0], !1)?;
    same("last words", words[pages / 64..].to_vec(), vec![1, 0])?;
    ensure!(
        words[1..pages / 64].iter().all(|word| *word == u64::MAX),
        "a clean page"
    );
    drop(group);
    Ok(())
}

suite!(
    iommus: All, debug: Lifetimes;
    not_for_version_1,
    flags_and_size,
    start_and_stop,
    range_checks,
    bits_of_several_mappings,
    unmap_tells,
    unmap_checks,
    unmap_against_a_map_beyond_its_end,
    tracks_what_comes_later,
    large_mapping,
);
