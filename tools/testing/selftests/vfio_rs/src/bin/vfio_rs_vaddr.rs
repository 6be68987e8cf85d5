// SPDX-License-Identifier: GPL-2.0
//! Mappings that lose their address and get a new one, maybe in another process.

use std::fs;

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Uid, setresuid};
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Edu, Group, counters};
use vfio_rs_selftests::process::{self, Child};
use vfio_rs_selftests::setup::{EDU, IGB, IOVA, PAGE, open_edu};
use vfio_rs_selftests::{Context, Outcome, Result, errno, same, suite};

const RW: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
const NEW: u32 = VFIO_DMA_MAP_FLAG_VADDR;
const OLD: u32 = VFIO_DMA_UNMAP_FLAG_VADDR;
const ALL: u32 = VFIO_DMA_UNMAP_FLAG_ALL;

/// What is mapped: address and memory.
type Maps = Vec<(u64, DmaBuf)>;

/// A container with one mapping of each size in pages, each behind a hole of one page.
fn mapped(kind: u32, sizes: &[u64]) -> Result<(Container, Group, Maps)> {
    let (container, group) = EDU.bind()?.attach(kind)?;
    let (mut iova, mut bufs) = (IOVA, Vec::new());
    for pages in sizes {
        let buf = DmaBuf::new((pages * PAGE) as usize)?;
        container.map_buf(&buf, iova)?;
        bufs.push((iova, buf));
        iova += (pages + 1) * PAGE;
    }
    Ok((container, group, bufs))
}

fn flags_of_a_new_address() -> Outcome {
    let (container, _group, bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[2])?;
    let addr = bufs[0].1.addr();
    same(
        "taken back",
        container.unmap_flags(OLD, IOVA, 2 * PAGE)?,
        2 * PAGE,
    )?;
    for flags in [NEW | RW, NEW | VFIO_DMA_MAP_FLAG_READ, NEW | 8] {
        let result = container.map(flags, addr, IOVA, 2 * PAGE);
        errno(&format!("flags {flags}"), result, Errno::EINVAL)?;
    }
    for (what, addr, iova, size, want) in [
        ("no bytes", addr, IOVA, 0, Errno::EINVAL),
        (
            "wrapping iova",
            addr,
            u64::MAX - PAGE + 1,
            2 * PAGE,
            Errno::EOVERFLOW,
        ),
        (
            "wrapping vaddr",
            u64::MAX - PAGE + 1,
            IOVA,
            2 * PAGE,
            Errno::EOVERFLOW,
        ),
        ("vaddr", addr + 1, IOVA, 2 * PAGE, Errno::EINVAL),
        ("iova", addr, IOVA + 1, 2 * PAGE, Errno::EINVAL),
        ("size", addr, IOVA, PAGE + 1, Errno::EINVAL),
        ("a part", addr, IOVA, PAGE, Errno::EINVAL),
        ("the other part", addr, IOVA + PAGE, PAGE, Errno::EINVAL),
        ("more", addr, IOVA, 3 * PAGE, Errno::EINVAL),
        ("nothing mapped", addr, IOVA + 2 * PAGE, PAGE, Errno::ENOENT),
    ] {
        errno(what, container.map(NEW, addr, iova, size), want)?;
    }
    // Overlap is told before that there is no address.
    let over = container.map(RW, addr, IOVA, PAGE);
    errno("a map over it", over, Errno::EEXIST)?;
    container.map(NEW, addr, IOVA, 2 * PAGE)?;
    let again = container.map(NEW, addr, IOVA, 2 * PAGE);
    errno("again", again, Errno::EINVAL)
}

fn ranges_taken_back() -> Outcome {
    let (container, _group, bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[1, 2, 3])?;
    let at = |i: usize| bufs[i].0;
    let take = |flags, iova, size| container.unmap_flags(OLD | flags, iova, size);
    errno("cut", take(0, at(1), PAGE), Errno::EINVAL)?;
    errno(
        "cut in front",
        take(0, at(1) + PAGE, 3 * PAGE),
        Errno::EINVAL,
    )?;
    errno("no bytes", take(0, IOVA, 0), Errno::EINVAL)?;
    errno("all, and an address", take(ALL, IOVA, 0), Errno::EINVAL)?;
    errno("all, and a size", take(ALL, 0, PAGE), Errno::EINVAL)?;
    same("a hole", take(0, IOVA + PAGE, PAGE)?, 0)?;
    same("the second", take(0, at(1), 2 * PAGE)?, 2 * PAGE)?;
    // Meeting the second, these take nothing back.
    errno("all three", take(ALL, 0, 0), Errno::EINVAL)?;
    errno("the first two", take(0, at(0), 4 * PAGE), Errno::EINVAL)?;
    same("the third", take(0, at(2), 3 * PAGE)?, 3 * PAGE)?;
    same("the first", take(0, at(0), PAGE)?, PAGE)?;
    for (iova, buf) in &bufs {
        container.map(NEW, buf.addr(), *iova, buf.len() as u64)?;
    }
    same("all", take(ALL, 0, 0)?, 6 * PAGE)?;
    // They can be unmapped as they are.
    same("unmapped", container.unmap(at(0), 4 * PAGE)?, 3 * PAGE)?;
    same("unmapped all", container.unmap_all()?, 3 * PAGE)?;
    same("none left", take(ALL, 0, 0)?, 0)
}

fn version_1() -> Outcome {
    let (container, _group, bufs) = mapped(VFIO_TYPE1_IOMMU, &[4, 1])?;
    let take = |iova, size| container.unmap_flags(OLD, iova, size);
    same("from the middle", take(IOVA + PAGE, 8 * PAGE)?, 0)?;
    same("of the beginning", take(IOVA, PAGE)?, 4 * PAGE)?;
    container.map(NEW, bufs[0].1.addr(), IOVA, 4 * PAGE)?;
    Ok(())
}

fn devices_go_on() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let buf = opened.map_new(IOVA, 1)?;
    buf.fill_pattern(1);
    same(
        "taken back",
        opened.container.unmap_flags(OLD, IOVA, PAGE)?,
        PAGE,
    )?;
    edu.fetch(IOVA, 64)?;
    let want = buf.copy(0, 64);
    buf.fill(0);
    edu.store(IOVA, 64)?;
    same("copied", buf.copy(0, 64), want)?;
    opened.container.map(NEW, buf.addr(), IOVA, PAGE)?;
    edu.store(IOVA + 64, 64)?;
    same("copied then", buf.copy(64, 64), buf.copy(0, 64))
}

fn no_group_joins_meanwhile() -> Outcome {
    let (container, _group, bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[1, 1])?;
    let other = IGB.bind()?.open_group()?;
    same(
        "taken back",
        container.unmap_flags(OLD | ALL, 0, 0)?,
        2 * PAGE,
    )?;
    errno("joins", other.set_container(&container), Errno::EBUSY)?;
    container.map(NEW, bufs[0].1.addr(), bufs[0].0, PAGE)?;
    errno("joins", other.set_container(&container), Errno::EBUSY)?;
    // An unmap lets it in as well as an address.
    same("unmapped", container.unmap(bufs[1].0, PAGE)?, PAGE)?;
    other.set_container(&container).context("joins in the end")
}

/// Runs `body` in a child, which must succeed.
fn in_child(body: impl FnOnce() -> Outcome) -> Outcome {
    let mut child: Child = process::spawn(|| match body() {
        Ok(()) => 0,
        Err(err) => {
            println!("# child: {err:#}");
            1
        }
    })?;
    child.ended_well("status")
}

fn locked_memory_follows() -> Outcome {
    let (container, _group, bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[8, 3])?;
    let locked = counters::locked_kib()?;
    same("before", locked, 11 * 4)?;
    same(
        "taken back",
        container.unmap_flags(OLD | ALL, 0, 0)?,
        11 * PAGE,
    )?;
    same("without an address", counters::locked_kib()?, locked)?;
    in_child(|| {
        // Counters are this process's own.
        same("at first", counters::locked_kib()?, 0)?;
        let (iova, buf) = &bufs[0];
        container.map(NEW, buf.addr(), *iova, buf.len() as u64)?;
        same("after the first", counters::locked_kib()?, 8 * 4)
    })?;
    // The child has ended, and nobody counts its part any more.
    same("left here", counters::locked_kib()?, 3 * 4)?;
    container.map(NEW, bufs[1].1.addr(), bufs[1].0, 3 * PAGE)?;
    same("same process", counters::locked_kib()?, 3 * 4)?;
    same("unmapped", container.unmap_all()?, 11 * PAGE)?;
    same("in the end", counters::locked_kib()?, 0)
}

fn limit_of_the_new_process() -> Outcome {
    let (container, _group, bufs) = mapped(VFIO_TYPE1v2_IOMMU, &[8, 2])?;
    same(
        "taken back",
        container.unmap_flags(OLD | ALL, 0, 0)?,
        10 * PAGE,
    )?;
    in_child(|| {
        setrlimit(Resource::RLIMIT_MEMLOCK, 4 * PAGE, 4 * PAGE)?;
        let nobody = Uid::from_raw(65534);
        setresuid(nobody, nobody, nobody)?;
        let give = |i: usize| {
            let (iova, buf) = &bufs[i];
            container.map(NEW, buf.addr(), *iova, buf.len() as u64)
        };
        errno("eight pages", give(0), Errno::ENOMEM)?;
        give(1).context("two pages")?;
        let locked = fs::read_to_string("/proc/self/status")?;
        same("locked", locked.contains("VmPin:\t       0 kB"), true)
    })?;
    // The failed one is as it was.
    same("left here", counters::locked_kib()?, 8 * 4)?;
    container.map(NEW, bufs[0].1.addr(), bufs[0].0, 8 * PAGE)?;
    Ok(())
}

suite!(
    iommus: All, debug: Lifetimes;
    flags_of_a_new_address,
    ranges_taken_back,
    version_1,
    devices_go_on,
    no_group_joins_meanwhile,
    locked_memory_follows,
    limit_of_the_new_process,
);
