// SPDX-License-Identifier: GPL-2.0
//! type2: the mistakes of the first code that served this interface, the RFC of 2013, each with a
//! test.

use nix::errno::Errno;
use vfio_client::counters;
use vfio_client::pamu::*;
use vfio_client::uapi::*;
use vfio_rs_selftests::pamu::{self, MIB, eight, joined, map, memory, open};
use vfio_rs_selftests::setup::{PAGE, PATIENCE, slowness};
use vfio_rs_selftests::{Outcome, errno, same, suite};

const RW: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

fn rfc_errors_are_told() -> Outcome {
    let opened = open()?;
    let container = &opened.container;
    // Each of these returned 0.
    errno("geometry", container.set_geometry(1, 2), Errno::EINVAL)?;
    errno("windows", container.set_windows(8), Errno::EINVAL)?;
    errno(
        "stash",
        container.pamu_set(VFIO_ATTR_PAMU_STASH, [0, 0]),
        Errno::EOPNOTSUPP,
    )?;
    errno(
        "no attribute",
        container.pamu_set(77, [0, 0]),
        Errno::EINVAL,
    )?;
    errno("no attribute", container.pamu_get(77), Errno::EINVAL)?;
    errno("bank", container.map_bank(0, 0), Errno::ENODEV)?;
    errno("bank", container.unmap_bank(0), Errno::ENODEV)
}

fn rfc_iova_below_the_aperture() -> Outcome {
    let opened = open()?;
    let (container, buf) = (&opened.container, memory(1)?);
    container.set_geometry(8 * MIB, 16 * MIB - 1)?;
    container.set_windows(8)?;
    for iova in [0, PAGE, 7 * MIB, 8 * MIB - PAGE, 16 * MIB, 1 << 40] {
        errno("map", map(container, &buf, iova), Errno::EINVAL)?;
        errno("bank", container.map_bank(0, iova), Errno::ENODEV)?;
        errno("unmap", container.unmap(iova, PAGE), Errno::EINVAL)?;
    }
    map(container, &buf, 8 * MIB)?;
    same("mapped", container.unmap(0, 1 << 40)?, PAGE)
}

fn rfc_no_windows_divides_by_zero() -> Outcome {
    let opened = open()?;
    let (container, buf) = (&opened.container, memory(1)?);
    container.set_geometry(0, MIB - 1)?;
    errno("0 windows", container.set_windows(0), Errno::EINVAL)?;
    errno("map", map(container, &buf, 0), Errno::ENODEV)?;
    same("unmap", container.unmap(0, PAGE)?, 0)
}

fn rfc_unmap_of_a_window_and_a_half() -> Outcome {
    let (opened, buf) = eight()?;
    let container = &opened.container;
    container.map(RW, buf.addr(), 0, 4 * MIB)?;
    // This never returned.
    for size in [MIB + MIB / 2, MIB + PAGE, 3 * MIB - PAGE, 5 * PAGE] {
        errno("unmap", container.unmap(0, size), Errno::EINVAL)?;
    }
    same("mapped", container.unmap(0, 4 * MIB)?, 4 * MIB)
}

fn rfc_memory_that_cannot_be_pinned() -> Outcome {
    let (opened, buf) = eight()?;
    let container = &opened.container;
    let vaddr = buf.addr();
    buf.protect_none(2 * MIB as usize)?;
    let before = counters::pinned_pages()?;
    // This gave back a page that was none.
    for (offset, size) in [(2 * MIB, PAGE), (2 * MIB - PAGE, 2 * PAGE), (MIB, 2 * MIB)] {
        let result = container.map(RW, vaddr + offset, MIB, size);
        errno("map", result, Errno::EFAULT)?;
    }
    same("locked", counters::locked_kib()?, 0)?;
    let after = counters::wait_pinned_pages(before, PATIENCE * slowness())?;
    same("pinned", after, before)?;
    same("mapped", container.unmap_all()?, 0)
}

fn rfc_a_window_is_accounted_in_full() -> Outcome {
    let (opened, buf) = eight()?;
    let container = &opened.container;
    // This counted as one page.
    container.map(RW, buf.addr(), 0, MIB)?;
    same("locked", counters::locked_kib()?, 1024)?;
    container.map(RW, buf.addr(), MIB, 2 * MIB)?;
    same("locked", counters::locked_kib()?, 3 * 1024)?;
    container.unmap(MIB, MIB)?;
    same("locked", counters::locked_kib()?, 2 * 1024)?;
    container.unmap_all()?;
    same("locked", counters::locked_kib()?, 0)
}

fn rfc_geometry_with_live_mappings() -> Outcome {
    let _banks = pamu::banks(1)?;
    let (opened, buf) = eight()?;
    let container = &opened.container;
    container.map(RW, buf.addr(), MIB, PAGE)?;
    for what in ["memory", "a bank"] {
        errno(what, container.set_geometry(0, 8 * MIB - 1), Errno::EBUSY)?;
        errno(what, container.set_windows(4), Errno::EBUSY)?;
        errno(what, container.set_msi_mode(1), Errno::EBUSY)?;
        container.unmap_all()?;
        container.set_msi_mode(1)?;
        container.map_bank(0, 2 * MIB)?;
    }
    container.unmap_bank(2 * MIB)?;
    container.set_windows(4)?;
    Ok(())
}

fn rfc_bank_over_memory() -> Outcome {
    let _banks = pamu::banks(2)?;
    let (opened, buf) = eight()?;
    let container = &opened.container;
    for at in [6, 7] {
        let result = container.map(RW, buf.addr(), at * MIB, PAGE);
        errno("the kernel's", result, Errno::EBUSY)?;
    }
    let result = container.map(RW, buf.addr(), 4 * MIB, 4 * MIB);
    errno("among others", result, Errno::EBUSY)?;
    container.map(RW, buf.addr(), 5 * MIB, MIB)?;
    container.unmap_all()?;
    container.set_msi_mode(1)?;
    container.map(RW, buf.addr(), 7 * MIB, PAGE)?;
    errno(
        "bank over memory",
        container.map_bank(0, 7 * MIB),
        Errno::EEXIST,
    )?;
    errno(
        "banks over memory",
        container.map_banks(6 * MIB, 2 * MIB),
        Errno::EEXIST,
    )?;
    container.map_bank(0, 6 * MIB)?;
    let result = container.map(RW, buf.addr(), 6 * MIB, PAGE);
    errno("memory over a bank", result, Errno::EEXIST)?;
    same("mapped", container.unmap_all()?, 2 * PAGE)
}

fn rfc_banks_by_many_threads() -> Outcome {
    let _banks = pamu::banks(4)?;
    let (opened, _) = eight()?;
    let container = &opened.container;
    container.set_msi_mode(1)?;
    let rounds = 2000 / slowness();
    let thread = |number: u64| {
        move || {
            for round in 0..rounds {
                let iova = (number + u64::from(round)) % 8 * MIB;
                let mapped = container.map_bank(round % 4, iova);
                if mapped.is_err() {
                    errno("map", mapped, Errno::EEXIST)?;
                }
                let unmapped = container.unmap_bank(iova);
                if unmapped.is_err() {
                    errno("unmap", unmapped, Errno::ENOENT)?;
                }
            }
            Outcome::Ok(())
        }
    };
    std::thread::scope(|scope| {
        let threads = [0, 1].map(|number| scope.spawn(thread(number)));
        threads.into_iter().try_for_each(joined)
    })?;
    container.unmap_all()?;
    container.set_windows(4)?;
    Ok(())
}

suite!(
    iommus: All, debug: Answers;
    rfc_errors_are_told,
    rfc_iova_below_the_aperture,
    rfc_no_windows_divides_by_zero,
    rfc_unmap_of_a_window_and_a_half,
    rfc_memory_that_cannot_be_pinned,
    rfc_a_window_is_accounted_in_full,
    rfc_geometry_with_live_mappings,
    rfc_bank_over_memory,
    rfc_banks_by_many_threads,
);
