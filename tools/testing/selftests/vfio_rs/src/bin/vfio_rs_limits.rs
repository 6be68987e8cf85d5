// SPDX-License-Identifier: GPL-2.0
//! What is counted and limited: mappings, and the memory that a user locks.

use std::fs;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags};
use nix::sys::resource::{Resource, setrlimit};
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Group, counters};
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::nobody::{self, NOBODY};
use vfio_rs_selftests::setup::{Bound, EDU, IOVA, PAGE, is_rust_stack, read_trimmed};
use vfio_rs_selftests::{Context, Outcome, Result, errno, same, suite};

const LIMIT: &str = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";
const READ: u32 = VFIO_DMA_MAP_FLAG_READ;

fn attached() -> Result<(Container, Group)> {
    EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)
}

fn entry_limit() -> Outcome {
    let old = read_trimmed(LIMIT)?;
    same("the limit at first", old.as_str(), "65535")?;
    fs::write(LIMIT, "4")?;
    let outcome = entry_limit_of_four();
    fs::write(LIMIT, old)?;
    outcome
}

fn entry_limit_of_four() -> Outcome {
    let (container, _group) = attached()?;
    let buf = DmaBuf::new(PAGE as usize)?;
    for left in (0..4).rev() {
        container.map_buf(&buf, IOVA + left * PAGE)?;
        same(
            "mappings left",
            container.iommu_info()?.dma_avail,
            Some(left as u32),
        )?;
    }
    let mut log = Kmsg::now()?;
    errno(
        "a fifth",
        container.map_buf(&buf, IOVA + 4 * PAGE),
        Errno::ENOSPC,
    )?;
    if is_rust_stack() {
        log.expect(
            "Container is full: 4 mappings (parameter dma_entry_limit of vfio_iommu_type1)",
        )?;
    }
    // What overlaps is told before the limit, bad addresses and bad memory after it.
    errno(
        "an overlapping fifth",
        container.map_buf(&buf, IOVA),
        Errno::EEXIST,
    )?;
    errno(
        "a fifth without memory",
        container.map(READ, 0, IOVA + 4 * PAGE, PAGE),
        Errno::ENOSPC,
    )?;
    errno(
        "a fifth in the MSI window",
        container.map(READ, buf.addr(), 0xfee0_0000, PAGE),
        Errno::ENOSPC,
    )?;
    container.unmap(IOVA, PAGE)?;
    container.map_buf(&buf, IOVA + 4 * PAGE)?;
    // The limit is taken when the container gets its IOMMU.
    fs::write(LIMIT, "8")?;
    errno(
        "after raising it",
        container.map_buf(&buf, IOVA + 9 * PAGE),
        Errno::ENOSPC,
    )?;
    Ok(())
}

/// Runs `body` as user nobody with a memlock limit of 16 pages, who owns the group's node.
fn as_nobody(bound: &Bound, body: fn(&Bound) -> Outcome) -> Outcome {
    nobody::give_node(bound, NOBODY)?;
    nobody::expect_success(nobody::spawn(|| body(bound))?)
}

fn memlock_limit_of_a_user() -> Outcome {
    as_nobody(&EDU.bind()?, |bound| {
        let (container, _group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
        let buf = DmaBuf::new(32 * PAGE as usize)?;
        let map = |page: u64, count: u64| {
            container.map(READ, buf.addr(), IOVA + page * PAGE, count * PAGE)
        };
        errno("one more than the limit", map(0, 17), Errno::ENOMEM)?;
        same("locked memory then", counters::locked_kib()?, 0)?;
        map(0, 16).context("up to the limit")?;
        same("locked memory at the limit", counters::locked_kib()?, 64)?;
        errno("one more page", map(16, 1), Errno::ENOMEM)?;
        errno("the same page once more", map(20, 1), Errno::ENOMEM)?;
        same("unmapped", container.unmap(IOVA, 16 * PAGE)?, 16 * PAGE)?;
        same("locked memory at the end", counters::locked_kib()?, 0)?;
        map(16, 1).context("after the unmap")?;
        errno("one page too many", map(0, 16), Errno::ENOMEM)?;
        same("locked memory after a failure", counters::locked_kib()?, 4)
    })
}

fn user_needs_the_group_node() -> Outcome {
    let bound = EDU.bind()?;
    as_nobody(&bound, |bound| {
        Container::open()?;
        drop(bound.open_group()?);
        Ok(())
    })?;
    nobody::give_node(&bound, 0)?;
    nobody::expect_success(nobody::spawn(|| {
        errno("open", Group::open(bound.group), Errno::EACCES)
    })?)
}

fn root_has_no_memlock_limit() -> Outcome {
    setrlimit(Resource::RLIMIT_MEMLOCK, PAGE, PAGE)?;
    let (container, _group) = attached()?;
    let buf = DmaBuf::new(64 * PAGE as usize)?;
    container.map_buf(&buf, IOVA)?;
    same("locked memory", counters::locked_kib()?, 256)
}

fn one_page_many_times() -> Outcome {
    let (container, _group) = attached()?;
    let buf = DmaBuf::new(PAGE as usize)?;
    for i in 0..16 {
        container.map_buf(&buf, IOVA + i * PAGE)?;
    }
    same("locked memory", counters::locked_kib()?, 16 * PAGE / 1024)?;
    same("unmapped", container.unmap(IOVA, 15 * PAGE)?, 15 * PAGE)?;
    same("locked memory then", counters::locked_kib()?, PAGE / 1024)?;
    same("unmapped", container.unmap_all()?, PAGE)
}

/// Memory that is only read and was never touched is the same page of zeros everywhere, and counts
/// all the same.
fn pages_of_zeros_count() -> Outcome {
    let (container, _group) = attached()?;
    let size = 4 * PAGE;
    let zeros = DmaBuf::with_flags(size as usize, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE)?;
    container.map(READ, zeros.addr(), IOVA, size)?;
    same("locked memory", counters::locked_kib()?, size / 1024)?;
    same("unmapped", container.unmap_all()?, size)?;
    same("locked memory then", counters::locked_kib()?, 0)
}

fn accounting() -> Outcome {
    let (container, group) = attached()?;
    let pinned = counters::pinned_pages()?;
    let buf = DmaBuf::new(300 * PAGE as usize)?;
    container.map_buf(&buf, IOVA)?;
    same("locked memory", counters::locked_kib()?, 1200)?;
    same("pinned pages", counters::pinned_pages()? - pinned, 300)?;
    same(
        "mappings left",
        container.iommu_info()?.dma_avail,
        Some(65534),
    )?;
    same("unmapped", container.unmap(IOVA, 300 * PAGE)?, 300 * PAGE)?;
    same("pinned pages then", counters::pinned_pages()?, pinned)?;
    same(
        "mappings left then",
        container.iommu_info()?.dma_avail,
        Some(65535),
    )?;
    same("locked memory then", counters::locked_kib()?, 0)?;
    // Closing gives back as well.
    container.map_buf(&buf, IOVA)?;
    drop((container, group));
    same("locked memory when closed", counters::locked_kib()?, 0)?;
    same(
        "pinned pages when closed",
        counters::pinned_pages()?,
        pinned,
    )
}

suite!(
    iommus: All, debug: Answers;
    accounting,
    one_page_many_times,
    pages_of_zeros_count,
    entry_limit,
    memlock_limit_of_a_user,
    user_needs_the_group_node,
    root_has_no_memlock_limit,
);
