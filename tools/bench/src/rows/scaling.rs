// SPDX-License-Identifier: GPL-2.0
//! What one more mapping costs when there are many, and what memory they take.

use std::fs;

use anyhow::{Context, Result};

use crate::Devices;
use crate::clock::Clock;
use crate::memory::{self, PAGE};
use crate::sheet::Sheet;
use crate::space::{Interface, Space};
use vfio_rs_bench::Point;

/// Where the curve has points.
const POINTS: [u64; 6] = [1, 1_000, 4_000, 16_000, 65_535, 1_000_000];
/// How many mappings a point is the average of; fewer if there are fewer.
const SAMPLE: u64 = 256;
/// Pages that are mapped again and again.
const BUFFER: usize = 1024;
/// Where mappings go: above all that an IOMMU of a PC reserves.
const IOVA: u64 = 4 << 30;
/// Bytes of the scattered mapping whose bookkeeping is weighed.
const SCATTERED: usize = 256 << 20;
const LIMIT: &str = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit";

/// The curve up to `most` mappings, and bookkeeping per mapping and per run.
///
/// # Errors
/// If the limit of mappings cannot be raised, or a mapping fails.
pub(crate) fn all(
    sheet: &mut Sheet<'_>,
    clock: Clock,
    interface: Interface,
    devices: &Devices,
    most: u64,
) -> Result<()> {
    if interface == Interface::Type1 {
        fs::write(LIMIT, (most + 1).max(65_535).to_string()).context(LIMIT)?;
    }
    sheet.measure(["bytes_per_run"], || {
        let space = Space::open(interface, &devices.edu)?;
        let (buf, _other) = memory::scattered(SCATTERED)?;
        let (size, pages) = (SCATTERED as u64, (SCATTERED / PAGE) as f64);
        // Page tables of the IOMMU stay when a mapping goes, and are not counted.
        space.map(buf.addr(), IOVA, size)?;
        space.unmap(IOVA, size)?;
        let before = used()?;
        space.map(buf.addr(), IOVA, size)?;
        Ok([(used()? - before) / pages])
    });
    if most == 0 || !sheet.wants(&["scaling"]) {
        return Ok(());
    }
    let space = Space::open(interface, &devices.edu)?;
    let buf = memory::small(BUFFER * PAGE)?;
    let page = PAGE as u64;
    let vaddr = |number: u64| buf.addr() + number % BUFFER as u64 * page;
    // Every other page of the address space, so that no neighbours can be put together.
    let iova = |number: u64| IOVA + number * 2 * page;
    let map = |number: u64| space.map(vaddr(number), iova(number), page);
    let before = used()?;
    let mut count = 0;
    for at in POINTS.into_iter().filter(|at| *at <= most) {
        let sample = SAMPLE.min(at);
        (count..at - sample).try_for_each(map)?;
        let first = at - sample;
        let ((), mapped) = clock.time(|| (first..at).try_for_each(map))?;
        let ((), unmapped) =
            clock.time(|| (first..at).try_for_each(|number| space.unmap(iova(number), page)))?;
        (first..at).try_for_each(map)?;
        count = at;
        sheet.point(Point {
            mappings: at,
            map: mapped / sample as f64,
            unmap: unmapped / sample as f64,
        });
    }
    let per_mapping = (used()? - before) / count as f64;
    sheet.measure(["bytes_per_mapping"], || Ok([per_mapping]));
    let ((), all) = clock.time(|| space.unmap_rest(IOVA, count * 2 * page))?;
    sheet.measure(["unmap_many"], || Ok([all / count as f64]));
    Ok(())
}

/// Bytes of memory in use that are no page tables, of the IOMMU or of processes.
fn used() -> Result<f64> {
    // Has every CPU hand in its counts.
    fs::read("/proc/sys/vm/stat_refresh")?;
    let text = fs::read_to_string("/proc/meminfo")?;
    let field = |name: &str| -> Result<f64> {
        let line = text.lines().find(|line| line.starts_with(name));
        let words = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(words.context("field of /proc/meminfo")?.parse::<f64>()? * 1024.0)
    };
    Ok(field("MemTotal:")? - field("MemFree:")? - field("SecPageTables:")? - field("PageTables:")?)
}
