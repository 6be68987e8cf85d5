// SPDX-License-Identifier: GPL-2.0
//! type2: geometry, windows, and what edu reaches through them.

use nix::errno::Errno;
use vfio_client::dma::PageSize;
use vfio_client::pamu::*;
use vfio_client::uapi::*;
use vfio_client::{DmaBuf, Edu, Setting, counters};
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::pamu::{self, MIB, Wide, map, memory, open, open_with, reaches};
use vfio_rs_selftests::setup::{EDU, PAGE, PATIENCE, slowness};
use vfio_rs_selftests::{Outcome, ensure, errno, order, same, skip, suite, translation};
use vfio_rs_windows::{self as windows, Windows};

const RW: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
/// Bytes of a huge page.
const HUGE: u64 = 2 * MIB;

/// The table of the document that this interface comes from: what tools/windows shows.
fn example_of_the_document() -> Outcome {
    let _banks = pamu::banks(windows::BANKS)?;
    let _wide = Wide::new()?;
    let opened = open()?;
    let container = &opened.container;
    same("banks", container.msi_banks()?, windows::BANKS as i32)?;
    let example = Windows::set_up(container)?;
    let all = 256 * MIB + 3 * PAGE;
    if translation::is_shown(&opened.bound.pci) {
        let reached = translation::reachable(&opened.bound.pci, 0, 512 * MIB)?;
        same("bytes reached", reached, all)?;
        let entries = translation::entries(&opened.bound.pci)?;
        let least = entries
            .iter()
            .filter(|e| e.iova < 256 * MIB)
            .map(|e| e.size)
            .min();
        same("smallest entry of memory", least, Some(HUGE))?;
    }
    let edu = Edu::new(&opened.device)?;
    for window in 0..windows::RAM {
        let word = 0xabcd_ef01 + window;
        same("memory", example.into_memory(&edu, window, word)?, word)?;
    }
    for bank in 0..windows::BANKS {
        let got = example.into_bank(&edu, &opened.group, bank, 0x1000 + bank)?;
        same("register", got, 0x1000 + bank)?;
    }
    let mut log = Kmsg::now()?;
    let into_nothing = || same("changed", example.into_nothing(&edu)?, false);
    if translation::is_shown(&opened.bound.pci) {
        log.expect_of("fault addr 0x1c000000", into_nothing)?;
    } else {
        into_nothing()?;
    }
    same("unmapped", example.unmap()?, all)
}

fn short_window() -> Outcome {
    let opened = open_with(64 * MIB, 4)?;
    let buf = memory(2)?;
    opened.container.map(RW, buf.addr(), 16 * MIB, PAGE)?;
    let page = memory(1)?;
    map(&opened.container, &page, 0)?;
    let edu = Edu::new(&opened.device)?;
    let source = (&page, 0);
    let to = |at: u64| reaches(&edu, source, 16 * MIB + at, (&buf, at));
    ensure!(to(0)?, "the first bytes are not reached");
    ensure!(to(PAGE - 4)?, "the last bytes are not reached");
    ensure!(!to(PAGE)?, "the byte behind is reached");
    same("unmapped", opened.container.unmap(16 * MIB, PAGE)?, PAGE)?;
    ensure!(!to(0)?, "reached after the unmap");
    Ok(())
}

fn one_window() -> Outcome {
    let opened = open_with(MIB, 1)?;
    let buf = DmaBuf::new(MIB as usize)?;
    map(&opened.container, &buf, 0)?;
    let edu = Edu::new(&opened.device)?;
    ensure!(
        reaches(&edu, (&buf, 0), MIB - 4, (&buf, MIB - 4))?,
        "not reached"
    );
    errno(
        "more",
        map(&opened.container, &memory(1)?, 0),
        Errno::EEXIST,
    )?;
    same("unmapped", opened.container.unmap(0, MIB)?, MIB)
}

fn what_is_set_is_what_is_got() -> Outcome {
    let opened = open()?;
    let container = &opened.container;
    let [start, last, ..] = container.pamu_get(VFIO_ATTR_GEOMETRY)?;
    same("default aperture", (start, last), (0, (1 << 36) - 1))?;
    let limits = container.pamu_get(VFIO_ATTR_LIMITS)?;
    ensure!(
        limits[0] >= 1 << 36 && limits[0].is_power_of_two(),
        "largest aperture: {:#x}",
        limits[0]
    );
    same("smallest", limits[1], PAGE)?;
    same("caps", limits[2], VFIO_PAMU_CAP_SNOOP.into())?;
    same(
        "windows",
        halves(container.pamu_get(VFIO_ATTR_WINDOWS)?[0]),
        (0, 256),
    )?;
    container.set_geometry(0x4000_0000, 0x7fff_ffff)?;
    same(
        "no windows yet",
        container.pamu_get(VFIO_ATTR_WINDOWS)?[0] as u32,
        0,
    )?;
    for count in [1, 256, 16] {
        container.set_windows(count)?;
        same(
            "windows",
            halves(container.pamu_get(VFIO_ATTR_WINDOWS)?[0]),
            (count, 256),
        )?;
    }
    let geometry = container.pamu_get(VFIO_ATTR_GEOMETRY)?;
    same("geometry", geometry, [0x4000_0000, 0x7fff_ffff, 0, 0])?;
    container.set_geometry(0, limits[0] - 1)?;
    same(
        "dropped",
        container.pamu_get(VFIO_ATTR_WINDOWS)?[0] as u32,
        0,
    )?;
    same("stash", container.pamu_get(VFIO_ATTR_PAMU_STASH)?, [0; 4])?;
    errno(
        "set stash",
        container.pamu_set(VFIO_ATTR_PAMU_STASH, [1, 0]),
        Errno::EOPNOTSUPP,
    )?;
    errno(
        "set limits",
        container.pamu_set(VFIO_ATTR_LIMITS, limits[..2].try_into()?),
        Errno::EINVAL,
    )?;
    same("msi", container.pamu_get(VFIO_ATTR_MSI)?, [0; 4])?;
    container.set_msi_mode(1)?;
    same("msi", container.pamu_get(VFIO_ATTR_MSI)?, [1, 0, 0, 0])
}

fn extensions() -> Outcome {
    let opened = open()?;
    let has = |extension| opened.container.check_extension(extension);
    same("type2", has(VFIO_PAMU_IOMMU)?, 1)?;
    for extension in [VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, 0x101] {
        same("another", has(extension)?, 0)?;
    }
    let cc = has(VFIO_DMA_CC_IOMMU)?;
    drop(opened);
    let type1 = EDU.open()?;
    same(
        "DMA_CC",
        cc,
        type1.container.check_extension(VFIO_DMA_CC_IOMMU)?,
    )?;
    same(
        "type2 of type1",
        type1.container.check_extension(VFIO_PAMU_IOMMU)?,
        0,
    )
}

fn several_windows_by_one_map() -> Outcome {
    let opened = open_with(8 * MIB, 8)?;
    let container = &opened.container;
    let buf = DmaBuf::new(3 * MIB as usize)?;
    map(container, &buf, 2 * MIB)?;
    same("locked", counters::locked_kib()?, 3 * 1024)?;
    errno("overlap", map(container, &buf, 4 * MIB), Errno::EEXIST)?;
    same("still", counters::locked_kib()?, 3 * 1024)?;
    let edu = Edu::new(&opened.device)?;
    let page = memory(1)?;
    map(container, &page, 0)?;
    for at in [0, MIB, 3 * MIB - 4] {
        ensure!(
            reaches(&edu, (&page, 0), 2 * MIB + at, (&buf, at))?,
            "{at:#x} not reached"
        );
    }
    // Each window goes by itself.
    same("unmapped", container.unmap(3 * MIB, MIB)?, MIB)?;
    ensure!(
        !reaches(&edu, (&page, 0), 3 * MIB, (&buf, MIB))?,
        "reached after the unmap"
    );
    ensure!(
        reaches(&edu, (&page, 0), 4 * MIB, (&buf, 2 * MIB))?,
        "gone with its neighbour"
    );
    // A hole, and what is around it.
    same("unmapped", container.unmap(2 * MIB, 4 * MIB)?, 2 * MIB)?;
    same("left", container.unmap_all()?, PAGE)
}

fn failure_in_the_middle_of_several_windows() -> Outcome {
    let opened = open_with(8 * MIB, 8)?;
    let buf = DmaBuf::new(4 * MIB as usize)?;
    buf.protect_none(3 * MIB as usize)?;
    let before = counters::pinned_pages()?;
    errno("map", map(&opened.container, &buf, 0), Errno::EFAULT)?;
    same("locked", counters::locked_kib()?, 0)?;
    let after = counters::wait_pinned_pages(before, PATIENCE * slowness())?;
    same("pinned", after, before)?;
    same("mapped", opened.container.unmap_all()?, 0)?;
    // And the windows are free.
    opened.container.map(RW, buf.addr(), 0, 2 * MIB)?;
    same("mapped", opened.container.unmap_all()?, 2 * MIB)
}

fn two_groups_under_one_geometry() -> Outcome {
    let opened = open_with(8 * MIB, 8)?;
    let buf = memory(2)?;
    map(&opened.container, &buf, MIB)?;
    let other = pamu::second_edu()?;
    let group = other.open_group()?;
    group.set_container(&opened.container)?;
    let device = group.device(&other.pci.address)?;
    // It joined later and sees what was there, and what comes.
    let edu = Edu::new(&device)?;
    ensure!(
        reaches(&edu, (&buf, MIB), MIB + PAGE, (&buf, PAGE))?,
        "not reached by the second"
    );
    let later = memory(1)?;
    map(&opened.container, &later, 2 * MIB)?;
    ensure!(
        reaches(&edu, (&buf, MIB), 2 * MIB, (&later, 0))?,
        "what came is not reached"
    );
    // The first leaves.
    drop(opened.device);
    opened.group.unset_container()?;
    ensure!(
        reaches(&edu, (&buf, MIB), 2 * MIB, (&later, 0))?,
        "gone with the first"
    );
    same(
        "windows",
        opened.container.pamu_get(VFIO_ATTR_WINDOWS)?[0] as u32,
        8,
    )?;
    drop(device);
    group.unset_container()?;
    same("locked", counters::locked_kib()?, 0)?;
    errno(
        "without a group",
        opened.container.pamu_get(VFIO_ATTR_WINDOWS),
        Errno::EINVAL,
    )
}

fn closed_in_any_order() -> Outcome {
    for order in order::permutations(3) {
        let opened = open_with(8 * MIB, 8)?;
        let buf = memory(4)?;
        map(&opened.container, &buf, MIB)?;
        let mut parts: [Option<Box<dyn std::any::Any>>; 3] = [
            Some(Box::new(opened.container)),
            Some(Box::new(opened.group)),
            Some(Box::new(opened.device)),
        ];
        for part in order {
            parts[part] = None;
        }
        same("locked", counters::locked_kib()?, 0)?;
    }
    Ok(())
}

fn strict_mode() -> Outcome {
    let _strict = pamu::strict()?;
    let Ok(_huge) = Setting::huge_pages(2 * HUGE) else {
        skip!("no huge pages to be had");
    };
    let opened = open_with(8 * HUGE, 8)?;
    let container = &opened.container;
    let caps = container.pamu_get(VFIO_ATTR_LIMITS)?[2] as u32;
    ensure!(caps & VFIO_PAMU_CAP_CONTIG_REQUIRED != 0, "not told");
    same(
        "largest aperture",
        container.pamu_get(VFIO_ATTR_LIMITS)?[0],
        1 << 36,
    )?;
    let buf = DmaBuf::huge(2 * HUGE as usize)?;
    buf.set(0, 1);
    buf.set(HUGE as usize, 1);
    container.map(RW, buf.addr(), 0, HUGE)?;
    container.map(RW, buf.addr() + HUGE, HUGE, PAGE)?;
    container.map(RW, buf.addr() + 2 * PAGE, 2 * HUGE, 2 * PAGE)?;
    let odd = container.map(RW, buf.addr() + PAGE, 3 * HUGE, 2 * PAGE);
    errno("not aligned", odd, Errno::EINVAL)?;
    // Two pages with another one in between are not one piece.
    let small = memory(64)?;
    small.advise(PageSize::Small)?;
    small.fill(1);
    let pages = translation::physical_pages(small.addr(), 64)?;
    let apart = (0..63).find(|at| pages[*at + 1] != pages[*at] + 1);
    if let Some(at) = apart {
        let apart = container.map(RW, small.addr() + at as u64 * PAGE, 3 * HUGE, 2 * PAGE);
        errno("two pieces", apart, Errno::EINVAL)?;
    }
    let bar = opened
        .device
        .mmap(&opened.device.region(0)?, 0, PAGE as usize)?;
    let map = container.map(RW, bar.addr(), 3 * HUGE, PAGE);
    errno("a BAR", map, Errno::EINVAL)?;
    same("unmapped", container.unmap_all()?, HUGE + 3 * PAGE)
}

suite!(
    iommus: All, debug: Lifetimes;
    example_of_the_document,
    short_window,
    one_window,
    what_is_set_is_what_is_got,
    extensions,
    several_windows_by_one_map,
    failure_in_the_middle_of_several_windows,
    two_groups_under_one_geometry,
    closed_in_any_order,
    strict_mode,
);
