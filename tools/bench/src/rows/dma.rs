// SPDX-License-Identifier: GPL-2.0
//! Memory into an address space and out of it, and the same memory by windows.

use anyhow::{Context, Result, ensure};
use vfio_client::DmaBuf;

use crate::Devices;
use crate::clock::Clock;
use crate::memory::{self, PAGE};
use crate::sheet::Sheet;
use crate::space::{APERTURE, Interface, Space, WINDOW};

/// Bytes of the large mappings.
const LARGE: usize = 256 << 20;
/// Pages of them.
const PAGES: f64 = (LARGE / PAGE) as f64;
/// Where mappings go: aligned to any page size, no IOMMU reserves it, and a window begins there.
const IOVA: u64 = APERTURE;
const _: () = assert!(LARGE as u64 == WINDOW);
/// How often what takes less than a tick of the clock is done, to have a round without one.
const TRIES: u32 = 5;
/// How often what takes many ticks is done: mapping for the second time is dear on C, as it makes
/// pages active.
const ROUNDS_LARGE: u32 = 2;
/// How often a single page is mapped and unmapped.
const ROUNDS: u32 = 1000;
/// Bytes of the BAR that is mapped for peers.
const BAR: u64 = 16 << 20;
/// Its index.
const BAR_INDEX: u32 = 2;
/// Bytes of edu's BAR.
const SMALL_BAR: u64 = 1 << 20;
/// Its index.
const SMALL_BAR_INDEX: u32 = 0;

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
    let space = Space::open(interface, &devices.edu)?;
    // On another device, so that both are there at a time and get the same memory.
    let windows = match &devices.testdev {
        Some(pci) if interface == Interface::Type1 && Space::has_windows()? => {
            Some(Space::open(Interface::Pamu, pci)?)
        }
        _ => None,
    };
    let spaces = Spaces { space, windows };
    spaces.measure(sheet, clock, "small", ROUNDS_LARGE, || {
        let buf = memory::small(LARGE)?;
        let start = buf.addr();
        Ok((buf, start))
    })?;
    sheet.measure(["map_scattered", "unmap_scattered"], || {
        let (buf, _other) = memory::scattered(LARGE)?;
        per_page(clock, &spaces.space, buf.addr(), ROUNDS_LARGE)
    });
    spaces.measure(sheet, clock, "huge", TRIES, || memory::huge(LARGE))?;
    spaces.each(sheet, "page", |space| single_page(clock, space, IOVA));
    drop(spaces);
    sheet.measure(["map_bar", "unmap_bar"], || {
        own_bar(clock, interface, devices, Touched::No)
    });
    sheet.measure(["map_bar_touched", "unmap_bar_touched"], || {
        own_bar(clock, interface, devices, Touched::All)
    });
    sheet.measure(["map_bar_small", "unmap_bar_small"], || {
        small_bar(clock, interface, devices)
    });
    Ok(())
}

/// What is measured with the same memory.
struct Spaces {
    space: Space,
    /// type2, if the stack has it.
    windows: Option<Space>,
}

impl Spaces {
    /// Measures rows named after `what` for each space.
    fn each(&self, sheet: &mut Sheet<'_>, what: &str, step: impl Fn(&Space) -> Result<[f64; 2]>) {
        let all = [("", Some(&self.space)), ("type2_", self.windows.as_ref())];
        for (prefix, space) in all {
            if let Some(space) = space {
                let [map, unmap] = ["map", "unmap"].map(|verb| format!("{prefix}{verb}_{what}"));
                sheet.measure([&map, &unmap], || step(space));
            }
        }
    }

    /// The same for `LARGE` bytes that `make` makes: memory, and its address.
    fn measure(
        &self,
        sheet: &mut Sheet<'_>,
        clock: Clock,
        what: &str,
        rounds: u32,
        make: impl FnOnce() -> Result<(DmaBuf, u64)>,
    ) -> Result<()> {
        if sheet.wants(&[&format!("type2_unmap_{what}"), &format!("type2_map_{what}")]) {
            let (_buf, vaddr) = make()?;
            self.each(sheet, what, |space| per_page(clock, space, vaddr, rounds));
        }
        Ok(())
    }
}

/// Maps `LARGE` bytes at `vaddr` by one call and unmaps them by one, per page; the best of
/// `rounds`, after one that is not counted: it marks each page dirty, which happens once.
fn per_page(clock: Clock, space: &Space, vaddr: u64, rounds: u32) -> Result<[f64; 2]> {
    let mut rounds = (0..=rounds).map(|_| {
        let ((), map) = clock.time(|| space.map(vaddr, IOVA, LARGE as u64))?;
        let ((), unmap) = clock.time(|| space.unmap(IOVA, LARGE as u64))?;
        Ok([map / PAGES, unmap / PAGES])
    });
    rounds.next().transpose()?;
    best(rounds)
}

/// The least of each value.
fn best(tries: impl Iterator<Item = Result<[f64; 2]>>) -> Result<[f64; 2]> {
    let mut least = [f64::MAX; 2];
    for values in tries {
        let values = values?;
        least = [least[0].min(values[0]), least[1].min(values[1])];
    }
    Ok(least)
}

/// Maps and unmaps one page at `iova`, on average.
pub(crate) fn single_page(clock: Clock, space: &Space, iova: u64) -> Result<[f64; 2]> {
    let buf = DmaBuf::new(PAGE)?;
    buf.set(0, 1);
    let mut sums = [0.0; 2];
    for round in 0..=ROUNDS {
        let ((), map) = clock.time(|| space.map(buf.addr(), iova, PAGE as u64))?;
        let ((), unmap) = clock.time(|| space.unmap(iova, PAGE as u64))?;
        // The first one makes page tables.
        if round > 0 {
            sums[0] += map;
            sums[1] += unmap;
        }
    }
    Ok(sums.map(|sum| sum / f64::from(ROUNDS)))
}

/// Whether the program has accessed its own map of a BAR before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touched {
    /// Not at all: the worst case of C, which has each page faulted in.
    No,
    /// All of it, the best case of C.
    All,
}

/// Maps a BAR of the device that is in the address space, as peers would reach it, and unmaps it.
fn own_bar(
    clock: Clock,
    interface: Interface,
    devices: &Devices,
    touched: Touched,
) -> Result<[f64; 2]> {
    let pci = devices
        .testdev
        .as_ref()
        .context("no pci-testdev with a large BAR")?;
    bar(
        clock,
        &Space::open(interface, pci)?,
        BAR_INDEX,
        BAR,
        touched,
    )
}

/// The same of one that is small, and has been accessed.
fn small_bar(clock: Clock, interface: Interface, devices: &Devices) -> Result<[f64; 2]> {
    let space = Space::open(interface, &devices.edu)?;
    bar(clock, &space, SMALL_BAR_INDEX, SMALL_BAR, Touched::All)
}

fn bar(clock: Clock, space: &Space, index: u32, size: u64, touched: Touched) -> Result<[f64; 2]> {
    let region = space.device.region(index)?;
    ensure!(region.size == size, "the BAR has {} bytes", region.size);
    let config = space.device.config()?;
    config.update_command(0, vfio_client::config::COMMAND_MEMORY)?;
    // At a multiple of the BAR's size, so that large entries of page tables can show it.
    let place = DmaBuf::new(2 * size as usize)?;
    let at = (place.addr().next_multiple_of(size) - place.addr()) as usize;
    best((0..TRIES).map(|_| {
        space
            .device
            .mmap_over(&region, 0, size as usize, &place, at)?;
        if touched == Touched::All {
            for page in (at..at + size as usize).step_by(PAGE) {
                std::hint::black_box(place.get(page));
            }
        }
        let vaddr = place.addr() + at as u64;
        let ((), map) = clock.time(|| space.map(vaddr, IOVA, size))?;
        let ((), unmap) = clock.time(|| space.unmap(IOVA, size))?;
        Ok([map, unmap])
    }))
}
