// SPDX-License-Identifier: GPL-2.0
//! An address space with many small mappings that continue each other, as those of a client that
//! maps page by page.

use anyhow::{Context, Result};
use vfio_client::container::RawBitmap;
use vfio_client::uapi::VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
use vfio_client::{DmaBuf, Group};

use crate::Devices;
use crate::clock::Clock;
use crate::memory::{self, PAGE};
use crate::rows::dma::single_page;
use crate::sheet::Sheet;
use crate::space::{Interface, Space};

/// How many there are.
const COUNT: usize = 16_384;
/// Where they go: above all that an IOMMU of a PC reserves.
const IOVA: u64 = 4 << 30;
/// Bytes of a mapping that is large.
const LARGE: usize = 256 << 20;
/// How often what takes less than a tick of the clock is done, to have a round without one.
const TRIES: usize = 5;

/// All rows.
///
/// # Errors
/// If no address space is to be had.
pub(crate) fn all(
    sheet: &mut Sheet<'_>,
    clock: Clock,
    interface: Interface,
    devices: &Devices,
) -> Result<()> {
    let names = [
        "map_page_many",
        "unmap_page_many",
        "dirty_small",
        "dirty_large",
        "unmap_adjacent",
        "close_many",
        "join",
        "join_many",
    ];
    if !sheet.wants(&names) {
        return Ok(());
    }
    let buf = memory::small(COUNT * PAGE)?;
    let space = filled(interface, devices, &buf)?;
    sheet.measure(["map_page_many", "unmap_page_many"], || {
        // At the other end, and no neighbour.
        single_page(clock, &space, IOVA + (2 * COUNT * PAGE) as u64)
    });
    sheet.measure(["dirty_small"], || {
        let call = dirty(clock, &space, IOVA, COUNT)?;
        Ok([call / COUNT as f64])
    });
    sheet.measure(["unmap_adjacent"], || {
        let ((), took) = clock.time(|| space.unmap_rest(IOVA, (COUNT * PAGE) as u64))?;
        Ok([took / COUNT as f64])
    });
    sheet.measure(["dirty_large"], || {
        let (_huge, start) = memory::huge(LARGE)?;
        space.map(start, IOVA, LARGE as u64)?;
        let call = dirty(clock, &space, IOVA, LARGE / PAGE)?;
        space.unmap(IOVA, LARGE as u64)?;
        Ok([call])
    });
    drop(space);
    sheet.measure(["close_many"], || {
        let space = filled(interface, devices, &buf)?;
        let ((), took) = clock.time(|| {
            drop(space);
            anyhow::Ok(())
        })?;
        Ok([took / COUNT as f64])
    });
    sheet.measure(["join"], || {
        let space = Space::open(interface, &devices.edu)?;
        join(clock, &space, devices)
    });
    sheet.measure(["join_many"], || {
        let space = filled(interface, devices, &buf)?;
        join(clock, &space, devices)
    });
    Ok(())
}

/// A space with `buf` in it, page by page.
fn filled(interface: Interface, devices: &Devices, buf: &DmaBuf) -> Result<Space> {
    let space = Space::open(interface, &devices.edu)?;
    for at in (0..COUNT * PAGE).map(|at| at as u64).step_by(PAGE) {
        space.map(buf.addr() + at, IOVA + at, PAGE as u64)?;
    }
    Ok(space)
}

/// What it takes to be told which of `pages` pages are dirty.
fn dirty(clock: Clock, space: &Space, iova: u64, pages: usize) -> Result<f64> {
    let container = space.container().context("no container")?;
    container.dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_START)?;
    let mut words = vec![0; pages / 64];
    let mut least = f64::MAX;
    for _ in 0..=TRIES {
        let bitmap = RawBitmap::of(&mut words, PAGE as u64);
        let size = (pages * PAGE) as u64;
        let ((), took) = clock.time(|| container.dirty_bitmap(iova, size, bitmap))?;
        least = least.min(took);
    }
    anyhow::ensure!(
        words.iter().all(|word| *word == u64::MAX),
        "not all are dirty"
    );
    Ok(least)
}

/// Has another group join the container.
fn join(clock: Clock, space: &Space, devices: &Devices) -> Result<[f64; 1]> {
    let container = space.container().context("no container")?;
    let pci = devices.testdev.as_ref().context("no second device")?;
    let number = pci.group().context("no IOMMU group")?;
    let mut least = f64::MAX;
    for _ in 0..=TRIES {
        let group = Group::open(number)?;
        let ((), took) = clock.time(|| group.set_container(container))?;
        least = least.min(took);
    }
    Ok([least])
}
