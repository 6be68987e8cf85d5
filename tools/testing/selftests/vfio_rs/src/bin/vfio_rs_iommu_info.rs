// SPDX-License-Identifier: GPL-2.0
//! What VFIO_IOMMU_GET_INFO tells, and that the addresses it leaves out cannot be mapped.

use nix::errno::Errno;
use vfio_client::sys;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Group};
use vfio_rs_selftests::setup::{EDU, IOVA, PAGE, read_trimmed};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, suite};

const READ: u32 = VFIO_DMA_MAP_FLAG_READ;

fn attached() -> Result<(Container, Group)> {
    EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)
}

/// GET_INFO into a buffer of 0xaa, of which `argsz` bytes are the kernel's.
fn info_of(container: &Container, argsz: u32) -> std::io::Result<Vec<u8>> {
    let mut buf = sys::buffer(4096);
    sys::bytes_mut(&mut buf).fill(0xaa);
    sys::bytes_mut(&mut buf)[..4].copy_from_slice(&argsz.to_ne_bytes());
    sys::with_buffer(container, IOMMU_GET_INFO, &mut buf)?;
    Ok(sys::bytes(&buf).to_vec())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn info_argsz() -> Outcome {
    let (container, _group) = attached()?;
    for short in [0, 8, 15] {
        errno(
            &format!("argsz {short}"),
            info_of(&container, short),
            Errno::EINVAL,
        )?;
    }
    let full = container.iommu_info()?;
    same(
        "flags",
        full.flags,
        VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS,
    )?;
    ensure!(full.pgsizes & PAGE != 0, "page sizes {:#x}", full.pgsizes);
    // Each call that lacks room for the capabilities says how much they need, and writes no more
    // than it was given.
    let need = u32_at(&info_of(&container, 16)?, 0);
    ensure!(need > 24, "needs {need}");
    for argsz in [16u32, 20, 24, need - 1] {
        let bytes = info_of(&container, argsz)?;
        same(
            &format!("argsz {argsz}: argsz then"),
            u32_at(&bytes, 0),
            need,
        )?;
        same("flags", u32_at(&bytes, 4), full.flags)?;
        let written = argsz.min(24) as usize;
        ensure!(
            bytes[written..].iter().all(|b| *b == 0xaa),
            "argsz {argsz}: wrote behind it"
        );
        if written >= 20 {
            same("cap_offset", u32_at(&bytes, 16), 0)?;
        }
    }
    let bytes = info_of(&container, need)?;
    same("argsz when enough", u32_at(&bytes, 0), need)?;
    same("cap_offset when enough", u32_at(&bytes, 16), 24)?;
    ensure!(
        bytes[need as usize..].iter().all(|b| *b == 0xaa),
        "wrote behind the capabilities"
    );
    Ok(())
}

fn info_capabilities() -> Outcome {
    let (container, _group) = attached()?;
    let info = container.iommu_info()?;
    same("mappings available", info.dma_avail, Some(65535))?;
    same("migration", info.migration, Some((PAGE, 256 << 20)))?;
    ensure!(!info.iova_ranges.is_empty(), "no address ranges");
    let buf = DmaBuf::new(PAGE as usize)?;
    container.map_buf(&buf, IOVA)?;
    same(
        "after a map",
        container.iommu_info()?.dma_avail,
        Some(65534),
    )?;
    container.unmap_all()?;
    same(
        "after the unmap",
        container.iommu_info()?.dma_avail,
        Some(65535),
    )
}

/// Reserved regions of the group as (first, last, type).
fn reserved(group: u32) -> Result<Vec<(u64, u64, String)>> {
    let text = read_trimmed(&format!(
        "/sys/kernel/iommu_groups/{group}/reserved_regions"
    ))?;
    let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16);
    text.lines()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let [first, last, kind] = words[..] else {
                anyhow_line(line)?
            };
            Ok((hex(first)?, hex(last)?, kind.to_owned()))
        })
        .collect()
}

fn anyhow_line<T>(line: &str) -> Result<T> {
    Err(std::io::Error::other(format!("strange line {line:?}"))).context("reserved_regions")
}

fn ranges_leave_reserved_regions_out() -> Outcome {
    let bound = EDU.bind()?;
    let (container, _group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let ranges = container.iommu_info()?.iova_ranges;
    for pair in ranges.windows(2) {
        ensure!(
            pair[0].end() < pair[1].start(),
            "ranges {pair:x?} are out of order"
        );
    }
    let regions = reserved(bound.group)?;
    for (first, last, kind) in regions.iter().filter(|r| r.2 != "direct-relaxable") {
        let clash = ranges
            .iter()
            .find(|r| r.start() <= last && first <= r.end());
        ensure!(
            clash.is_none(),
            "range {clash:x?} holds the {kind} region {first:x}-{last:x}"
        );
    }
    // Each hole between two ranges is reserved.
    for pair in ranges.windows(2) {
        let (hole, hole_last) = (pair[0].end() + 1, pair[1].start() - 1);
        ensure!(
            regions.iter().any(|r| r.0 >= hole && r.1 <= hole_last),
            "hole {hole:x}-{hole_last:x}"
        );
    }
    Ok(())
}

fn reserved_regions_cannot_be_mapped() -> Outcome {
    let bound = EDU.bind()?;
    let (container, _group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let buf = DmaBuf::new(2 * PAGE as usize)?;
    let regions = reserved(bound.group)?;
    ensure!(
        regions.iter().any(|r| r.0 == 0xfee0_0000),
        "the MSI window is not reserved: {regions:x?}"
    );
    for (first, last, _) in regions
        .iter()
        .filter(|r| r.2 != "direct-relaxable" && r.1 - r.0 >= PAGE - 1)
    {
        let map = |iova, size| container.map(READ, buf.addr(), iova, size);
        let last_page = last - (PAGE - 1);
        errno(
            &format!("first page of {first:x}"),
            map(*first, PAGE),
            Errno::EINVAL,
        )?;
        errno(
            &format!("last page of {first:x}"),
            map(last_page, PAGE),
            Errno::EINVAL,
        )?;
        errno(
            &format!("into {first:x}"),
            map(first - PAGE, 2 * PAGE),
            Errno::EINVAL,
        )?;
        if *first == 0xfee0_0000 {
            map(first - PAGE, PAGE).context("the page before the MSI window")?;
            map(last + 1, PAGE).context("the page behind the MSI window")?;
        }
    }
    same("unmapped", container.unmap_all()?, 2 * PAGE)
}

suite!(
    iommus: All, debug: Answers;
    info_argsz,
    info_capabilities,
    ranges_leave_reserved_regions_out,
    reserved_regions_cannot_be_mapped,
);
