// SPDX-License-Identifier: GPL-2.0
//! VFIO_IOMMU_MAP_DMA: every way to get it wrong, and that a refused map leaves nothing behind.

use std::num::NonZeroUsize;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use vfio_client::sys;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Group, counters};
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::setup::{EDU, IOVA, PAGE, is_rust_stack, slowness};
use vfio_rs_selftests::{Context, Outcome, Result, errno, same, skip, suite};

const READ: u32 = VFIO_DMA_MAP_FLAG_READ;
const WRITE: u32 = VFIO_DMA_MAP_FLAG_WRITE;
const VADDR: u32 = VFIO_DMA_MAP_FLAG_VADDR;

fn attached() -> Result<(Container, Group)> {
    EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)
}

fn pages(count: u64) -> Result<DmaBuf> {
    Ok(DmaBuf::new((count * PAGE) as usize)?)
}

/// Nothing is mapped, nothing is locked, and all mappings are still to be had.
fn untouched(container: &Container) -> Outcome {
    same(
        "mappings left",
        container.iommu_info()?.dma_avail,
        Some(65535),
    )?;
    same("locked memory", counters::locked_kib()?, 0)?;
    same("unmapped", container.unmap_all()?, 0)
}

/// A kernel that counts which pages are mapped wants to know of all of them; on others page tables
/// are changed directly. Only the debug kernel can count.
fn pages_are_counted_where_asked() -> Outcome {
    if !is_rust_stack() {
        skip!("C VFIO always uses the IOMMU core");
    }
    let asked = std::fs::read_to_string("/proc/cmdline")?.contains("iommu.debug_pagealloc=1");
    // It also says so when it could not find out.
    let says = |line: &String| line.contains("vfio_rs: ") && line.contains("the IOMMU core");
    let said = Kmsg::all()?.lines()?.iter().any(says);
    same("by the IOMMU core", said, asked && slowness() != 1)
}

fn argsz() -> Outcome {
    let (container, _group) = attached()?;
    let buf = pages(1)?;
    let map = |argsz| {
        let mut map = vfio_iommu_type1_dma_map {
            argsz,
            flags: READ,
            vaddr: buf.addr(),
            iova: IOVA,
            size: PAGE,
        };
        sys::with_struct(&container, IOMMU_MAP_DMA, &mut map)
    };
    for short in [0, 1, 16, 31] {
        errno(&format!("argsz {short}"), map(short), Errno::EINVAL)?;
    }
    untouched(&container)?;
    for enough in [32, 33, 4096, u32::MAX] {
        map(enough)?;
        same("unmapped", container.unmap(IOVA, PAGE)?, PAGE)?;
    }
    Ok(())
}

fn flags() -> Outcome {
    let (container, _group) = attached()?;
    let buf = pages(1)?;
    for flags in [0, READ | VADDR, WRITE | VADDR, READ | WRITE | VADDR] {
        errno(
            &format!("flags {flags:#x}"),
            container.map(flags, buf.addr(), IOVA, PAGE),
            Errno::EINVAL,
        )?;
    }
    for bit in 3..32 {
        let flags = READ | WRITE | 1 << bit;
        errno(
            &format!("flags {flags:#x}"),
            container.map(flags, buf.addr(), IOVA, PAGE),
            Errno::EINVAL,
        )?;
    }
    untouched(&container)?;
    for flags in [READ, WRITE, READ | WRITE] {
        container.map(flags, buf.addr(), IOVA, PAGE)?;
        container.unmap(IOVA, PAGE)?;
    }
    Ok(())
}

fn vaddr_update_of_nothing() -> Outcome {
    let (container, _group) = attached()?;
    let buf = pages(1)?;
    errno(
        "of no mapping",
        container.map(VADDR, buf.addr(), IOVA, PAGE),
        Errno::ENOENT,
    )?;
    container.map_buf(&buf, IOVA)?;
    errno(
        "of a valid mapping",
        container.map(VADDR, buf.addr(), IOVA, PAGE),
        Errno::EINVAL,
    )
}

fn size_and_alignment() -> Outcome {
    let (container, _group) = attached()?;
    let buf = pages(2)?;
    let (vaddr, rw) = (buf.addr(), READ | WRITE);
    let cases = [
        ("size 0", vaddr, IOVA, 0),
        ("size 1", vaddr, IOVA, 1),
        ("size of a page and a byte", vaddr, IOVA, PAGE + 1),
        ("half a page", vaddr, IOVA, PAGE / 2),
        ("unaligned iova", vaddr, IOVA + 1, PAGE),
        ("iova in mid-page", vaddr, IOVA + PAGE / 2, PAGE),
        ("unaligned vaddr", vaddr + 1, IOVA, PAGE),
        ("vaddr in mid-page", vaddr + PAGE / 2, IOVA, PAGE),
        (
            "iova at the top, unaligned size",
            vaddr,
            0u64.wrapping_sub(PAGE),
            1,
        ),
    ];
    for (what, vaddr, iova, size) in cases {
        errno(what, container.map(rw, vaddr, iova, size), Errno::EINVAL)?;
    }
    untouched(&container)
}

fn overflow() -> Outcome {
    let (container, _group) = attached()?;
    let buf = pages(1)?;
    let (vaddr, rw, top) = (buf.addr(), READ | WRITE, 0u64.wrapping_sub(PAGE));
    let cases = [
        ("iova + size", vaddr, top, 2 * PAGE),
        ("iova + huge size", vaddr, PAGE, 0u64.wrapping_sub(PAGE) + 1),
        ("vaddr + size", top, IOVA, 2 * PAGE),
        ("both", top, top, 2 * PAGE),
        ("an unaligned sum", vaddr, u64::MAX, 2),
    ];
    for (what, vaddr, iova, size) in cases {
        errno(what, container.map(rw, vaddr, iova, size), Errno::EOVERFLOW)?;
    }
    // Overflow is looked at before the flags, an empty size before both.
    errno(
        "with bad flags",
        container.map(0, top, top, 2 * PAGE),
        Errno::EOVERFLOW,
    )?;
    errno("with size 0", container.map(rw, top, top, 0), Errno::EINVAL)?;
    untouched(&container)
}

fn beyond_the_aperture() -> Outcome {
    let (container, _group) = attached()?;
    let buf = pages(1)?;
    let top = 0u64.wrapping_sub(PAGE);
    let ranges = container.iommu_info()?.iova_ranges;
    let last = ranges.last().map_or(u64::MAX, |range| *range.end());
    if last < u64::MAX {
        errno(
            "the first page behind",
            container.map(READ, buf.addr(), last + 1, PAGE),
            Errno::EINVAL,
        )?;
        errno(
            "the last page of all",
            container.map(READ, buf.addr(), top, PAGE),
            Errno::EINVAL,
        )?;
        let two = pages(2)?;
        errno(
            "half behind",
            container.map(READ, two.addr(), last + 1 - PAGE, 2 * PAGE),
            Errno::EINVAL,
        )?;
    }
    untouched(&container)?;
    container.map(READ, buf.addr(), last - (PAGE - 1), PAGE)?;
    same("unmapped", container.unmap(last - (PAGE - 1), PAGE)?, PAGE)
}

fn overlap() -> Outcome {
    let (container, _group) = attached()?;
    let (buf, other) = (pages(4)?, pages(8)?);
    container.map_buf(&buf, IOVA)?;
    let cases = [
        ("the same", 0i64, 4),
        ("the first page", 0, 1),
        ("the last page", 3, 1),
        ("the middle", 1, 2),
        ("around", -1, 6),
        ("over the start", -1, 2),
        ("over the end", 3, 2),
    ];
    for (what, page, count) in cases {
        let iova = IOVA.wrapping_add_signed(page * PAGE as i64);
        errno(
            what,
            container.map(READ, other.addr(), iova, count * PAGE),
            Errno::EEXIST,
        )?;
    }
    // Overlap comes before what is wrong with the memory.
    errno(
        "without memory",
        container.map(READ, 0, IOVA, PAGE),
        Errno::EEXIST,
    )?;
    container.map(READ, other.addr(), IOVA - PAGE, PAGE)?;
    container.map(READ, other.addr(), IOVA + 4 * PAGE, PAGE)?;
    same(
        "unmapped",
        container.unmap(IOVA - PAGE, 6 * PAGE)?,
        6 * PAGE,
    )
}

fn bad_memory() -> Outcome {
    let (container, _group) = attached()?;
    let gone = pages(1)?.addr();
    errno(
        "unmapped memory",
        container.map(READ, gone, IOVA, PAGE),
        Errno::EFAULT,
    )?;
    errno(
        "NULL",
        container.map(READ | WRITE, 0, IOVA, PAGE),
        Errno::EFAULT,
    )?;
    let none = DmaBuf::with_flags(PAGE as usize, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE)?;
    errno(
        "PROT_NONE",
        container.map(READ, none.addr(), IOVA, PAGE),
        Errno::EFAULT,
    )?;
    let kernel = 0xffff_8880_0000_0000;
    errno(
        "kernel memory",
        container.map(READ, kernel, IOVA, PAGE),
        Errno::EFAULT,
    )?;
    untouched(&container)
}

fn read_only_memory() -> Outcome {
    let (container, _group) = attached()?;
    let buf = DmaBuf::with_flags(PAGE as usize, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE)?;
    errno(
        "for writing",
        container.map(WRITE, buf.addr(), IOVA, PAGE),
        Errno::EFAULT,
    )?;
    errno(
        "for both",
        container.map(READ | WRITE, buf.addr(), IOVA, PAGE),
        Errno::EFAULT,
    )?;
    untouched(&container)?;
    container.map(READ, buf.addr(), IOVA, PAGE)?;
    same("unmapped", container.unmap(IOVA, PAGE)?, PAGE)
}

/// Where an area of this process begins.
fn area(name: &str) -> Result<Option<u64>> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let line = maps.lines().find(|line| line.ends_with(name));
    let start = line.and_then(|line| line.split('-').next());
    Ok(start
        .map(|start| u64::from_str_radix(start, 16))
        .transpose()?)
}

/// A page of the kernel's that each process has may be read by devices as well.
fn page_of_the_kernels() -> Outcome {
    let (container, _group) = attached()?;
    let Some(vvar) = area("[vvar]")? else {
        skip!("no [vvar] here");
    };
    errno(
        "for writing",
        container.map(READ | WRITE, vvar, IOVA, PAGE),
        Errno::EFAULT,
    )?;
    container.map(READ, vvar, IOVA, PAGE)?;
    same("unmapped", container.unmap(IOVA, PAGE)?, PAGE)?;
    untouched(&container)
}

/// A page that a private map of a device's memory has copied is the process's own.
fn page_that_was_copied_from_a_device() -> Outcome {
    let bound = EDU.bind()?;
    let resource = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(bound.pci.path().join("resource0"))?;
    let rw = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let len = NonZeroUsize::new(PAGE as usize).context("no page")?;
    // SAFETY: a new map.
    let map = unsafe { mmap(None, len, rw, MapFlags::MAP_PRIVATE, &resource, 0)? };
    // SAFETY: inside of the map; this copies the page.
    unsafe { map.cast::<u32>().write_volatile(7) };
    let addr = map.as_ptr() as u64;
    let (container, _group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let mapped = container.map(READ | WRITE, addr, IOVA, PAGE);
    match is_rust_stack() {
        true => {
            mapped?;
            same("locked KiB", counters::locked_kib()?, PAGE / 1024)?;
            same("unmapped", container.unmap(IOVA, PAGE)?, PAGE)?;
        }
        false => errno("the copy", mapped, Errno::EFAULT)?,
    }
    // SAFETY: mapped above, and not used any more.
    unsafe { munmap(map, PAGE as usize)? };
    untouched(&container)
}

fn hole_in_memory_undoes_all() -> Outcome {
    let (container, _group) = attached()?;
    // Each page of a small buffer, and some of such as are pinned in several steps.
    let small = (0..20).map(|hole| (20, hole));
    let large = [(2048, 1), (2048, 600), (2048, 2047), (9000, 8500)];
    for (count, hole) in small.chain(large) {
        let buf = pages(count)?;
        buf.fill(1);
        // SAFETY: inside `buf`, which is not touched there any more.
        let err = unsafe { libc::munmap((buf.addr() + hole * PAGE) as *mut _, PAGE as usize) };
        same("munmap", err, 0)?;
        errno(
            &format!("hole at page {hole} of {count}"),
            container.map(READ | WRITE, buf.addr(), IOVA, count * PAGE),
            Errno::EFAULT,
        )?;
        untouched(&container)?;
    }
    Ok(())
}

suite!(
    iommus: All, debug: Counted;
    pages_are_counted_where_asked,
    argsz,
    flags,
    vaddr_update_of_nothing,
    size_and_alignment,
    overflow,
    beyond_the_aperture,
    overlap,
    bad_memory,
    read_only_memory,
    page_of_the_kernels,
    page_that_was_copied_from_a_device,
    hole_in_memory_undoes_all,
);
