// SPDX-License-Identifier: GPL-2.0
//! Shadows of a guest's I/O page table: what devices reach, before and after the guest changes it.

use nix::errno::Errno;
use vfio_client::Edu;
use vfio_client::counters::locked_kib;
use vfio_client::nested::*;
use vfio_rs_selftests::nested::{FREE, LARGE, MEMORY, Nested, RO, RW, fault};
use vfio_rs_selftests::setup::PAGE;
use vfio_rs_selftests::{Outcome, ensure, errno, same, suite};

/// An I/O address with nothing beside it.
const AT: u64 = 0x20_0000;

fn pages_both_ways() -> Outcome {
    let mut nested = Nested::new()?;
    nested.guest.map(AT, FREE | RW);
    nested.guest.map(AT + PAGE, (FREE + 8 * PAGE) | RO);
    let (id, found) = nested.container.bind_table(&nested.guest.table())?;
    ensure!(id != 0);
    same("mapped", found.mapped, 2 * PAGE)?;
    same("walked", found.done, nested.guest.last + 1)?;
    same("bad entries", found.fault_count, 0)?;
    same("locked", locked_kib()?, 8)?;
    nested.translates(&[
        (AT, FREE, PAGE, true),
        (AT + PAGE, FREE + 8 * PAGE, PAGE, false),
    ])?;
    nested.reaches(AT, FREE, true)?;
    nested.reaches(AT + PAGE, FREE + 8 * PAGE, false)?;
    nested.is_kept_from(AT + 2 * PAGE, FREE)?;
    nested.container.unbind_table(id)?;
    same("locked when unbound", locked_kib()?, 0)?;
    nested.translates(&[])?;
    nested.is_kept_from(AT, FREE)
}

fn large_pages() -> Outcome {
    let mut nested = Nested::new()?;
    let two = nested.guest.entry(0x80_0000, 2);
    nested.guest.write(two, 0x40_0000 | LARGE | RW);
    let giga = nested.guest.entry(1 << 30, 3);
    nested.guest.write(giga, LARGE | RW);
    let (id, found) = nested.container.bind_table(&nested.guest.table())?;
    // Of the guest's first GiB there are 16 MiB, and behind them nothing.
    same("mapped", found.mapped, (2 << 20) + MEMORY)?;
    same("bad entries", found.fault_count, 1)?;
    fault(
        "behind memory",
        found,
        VFIO_KVM_FAULT_TARGET,
        3,
        (1 << 30) + MEMORY,
    )?;
    nested.reaches(0x80_0000, 0x40_0000, true)?;
    nested.reaches(0x9f_f000, 0x5f_f000, true)?;
    nested.translates(&[
        (0x80_0000, 0x40_0000, 2 << 20, true),
        (1 << 30, 0, MEMORY, true),
    ])?;
    // A part of a large page is all of it, before and after.
    nested.guest.write(two, 0);
    let found = nested.container.invalidate(id, 0x81_0000, PAGE)?;
    same("mapped then", found.mapped, 0)?;
    same("walked then", found.done, 2 << 20)?;
    nested.translates(&[(1 << 30, 0, MEMORY, true)])?;
    nested.guest.write(two, 0x40_0000 | LARGE | RW);
    let found = nested.container.invalidate(id, 0x9f_f000, PAGE)?;
    same("mapped again", found.mapped, 2 << 20)?;
    nested.reaches(0x80_0000, 0x40_0000, true)
}

fn a_change_counts_when_it_is_told() -> Outcome {
    let mut nested = Nested::new()?;
    nested.guest.map(AT, FREE | RW);
    let id = nested.bind()?;
    nested.guest.map(AT, (FREE + PAGE) | RW);
    nested.reaches(AT, FREE, true)?;
    let found = nested.container.invalidate(id, AT, PAGE)?;
    same("mapped", found.mapped, PAGE)?;
    nested.reaches(AT, FREE + PAGE, true)?;
    nested.is_kept_from(AT, FREE)?;
    // Less may be allowed.
    nested.guest.map(AT, (FREE + PAGE) | RO);
    nested.container.invalidate(id, AT, PAGE)?;
    nested.reaches(AT, FREE + PAGE, false)?;
    // And nothing; a range elsewhere does not say so.
    nested.guest.map(AT, 0);
    nested.container.invalidate(id, AT + PAGE, PAGE)?;
    nested.translates(&[(AT, FREE + PAGE, PAGE, false)])?;
    nested.container.invalidate_all(id)?;
    nested.is_kept_from(AT, FREE + PAGE)?;
    same("locked", locked_kib()?, 0)
}

/// Many pages of which some change, in each order: what devices reach is what the table says.
fn parts_of_a_run() -> Outcome {
    let mut nested = Nested::new()?;
    const PAGES: u64 = 24;
    let mut table = [0u64; PAGES as usize];
    let id = nested.bind()?;
    let mut seed = 1u64;
    for round in 0..60 {
        for (page, entry) in (0..).zip(&mut table) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if seed >> 60 < 4 {
                *entry = match seed >> 40 & 3 {
                    0 => 0,
                    1 => (FREE + page * PAGE) | RW,
                    2 => (FREE + (seed >> 44 & 15) * PAGE) | RO,
                    _ => (FREE + (page + 1) * PAGE) | RW,
                };
            }
            nested.guest.map(AT + page * PAGE, *entry);
        }
        if round % 2 == 0 {
            nested.container.invalidate(id, AT, PAGES * PAGE)?;
        } else {
            let mut ranges: Vec<_> = (0..PAGES)
                .map(|page| range(AT + page * PAGE, PAGE))
                .collect();
            nested.container.invalidate_many(id, &mut ranges)?;
            for (range, entry) in ranges.iter().zip(table) {
                same(
                    "mapped of a page",
                    range.mapped,
                    if entry == 0 { 0 } else { PAGE },
                )?;
            }
        }
        let mapped: Vec<_> = (0..)
            .zip(table)
            .filter(|(_, entry)| *entry != 0)
            .map(|(page, entry)| (AT + page * PAGE, entry & !0xfff, PAGE, entry & 2 != 0))
            .collect();
        nested.translates(&mapped)?;
        same("locked", locked_kib()?, mapped.len() as u64 * 4)?;
    }
    nested.container.unbind_table(id)?;
    same("locked when unbound", locked_kib()?, 0)
}

fn all_memory_at_its_address() -> Outcome {
    let nested = Nested::new()?;
    let table = Table {
        flags: VFIO_KVM_BIND_IDENTITY,
        format: 0,
        root: 0,
        ..nested.guest.table()
    };
    let (id, found) = nested.container.bind_table(&table)?;
    same("mapped", found.mapped, MEMORY)?;
    same("locked", locked_kib()?, MEMORY >> 10)?;
    nested.reaches(FREE, FREE, true)?;
    nested.reaches(MEMORY - PAGE, MEMORY - PAGE, true)?;
    // More memory, when it is told.
    let more = vfio_client::DmaBuf::new(2 * PAGE as usize)?;
    nested
        .guest
        .vm
        .set_slot(1, 0, MEMORY, more.addr(), 2 * PAGE)?;
    nested.is_kept_from(MEMORY, FREE)?;
    let found = nested.container.invalidate_all(id)?;
    same("mapped with more", found.mapped, MEMORY + 2 * PAGE)?;
    let edu = Edu::new(&nested.device)?;
    more.fill(0x77);
    edu.fetch(MEMORY + PAGE, 64)?;
    edu.store(FREE, 64)?;
    ensure!(nested.guest.memory.is_filled(FREE as usize, 64, 0x77));
    // A slot that goes is mapped until that is told.
    nested.guest.vm.set_slot(1, 0, MEMORY, more.addr(), 0)?;
    let found = nested.container.invalidate_all(id)?;
    same("mapped without", found.mapped, MEMORY)?;
    same("locked without", locked_kib()?, MEMORY >> 10)?;
    // What lies beneath an unchanged slot is looked at by a range only.
    nested.guest.memory.replace_page(
        FREE as usize,
        Some(nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE),
    )?;
    nested.guest.memory.put(FREE as usize, &[1; 64]);
    nested.container.invalidate_all(id)?;
    nested.is_kept_from(FREE, FREE)?;
    let found = nested.container.invalidate(id, FREE, PAGE)?;
    same("mapped in a range", found.mapped, 2 << 20)?;
    nested.reaches(FREE, FREE, true)?;
    nested.container.unbind_table(id)?;
    same("locked when unbound", locked_kib()?, 0)
}

fn zpci_tables() -> Outcome {
    let nested = Nested::new()?;
    let guest = &nested.guest;
    let put = |at: u64, entry: u64| guest.write(at, entry.to_be());
    // Everything is invalid, tables of 2048 and of 256 entries.
    let (root, segments, pages) = (0x20_0000, 0x20_4000, 0x20_8800);
    for table in [root, segments] {
        (0..2048).for_each(|n| put(table + n * 8, 0x2f));
    }
    (0..256).for_each(|n| put(pages + n * 8, 0x400));
    put(root, segments | 0x7);
    put(segments + 2 * 8, pages);
    put(pages + 3 * 8, FREE);
    put(pages + 4 * 8, (FREE + PAGE) | 0x200);
    let table = Table {
        format: VFIO_KVM_FMT_ZPCI_RT,
        root,
        window: (0, guest.last.min((1 << 42) - 1)),
        ..guest.table()
    };
    let (id, found) = nested.container.bind_table(&table)?;
    let at = (2 << 20) + 3 * PAGE;
    same("mapped", found.mapped, 2 * PAGE)?;
    nested.translates(&[
        (at, FREE, PAGE, true),
        (at + PAGE, FREE + PAGE, PAGE, false),
    ])?;
    nested.reaches(at, FREE, true)?;
    nested.reaches(at + PAGE, FREE + PAGE, false)?;
    // Protected further up: nothing may be written.
    put(segments + 2 * 8, pages | 0x200);
    nested.container.invalidate(id, at, PAGE)?;
    nested.reaches(at, FREE, false)?;
    // A table for another level.
    put(segments + 2 * 8, pages | 0x4);
    let found = nested.container.invalidate(id, at, PAGE)?;
    fault("type", found, VFIO_KVM_FAULT_TYPE, 2, at)
}

fn bad_entries() -> Outcome {
    let mut nested = Nested::new()?;
    let read_only = vfio_client::DmaBuf::new(PAGE as usize)?;
    read_only.fill(0x11);
    nested
        .guest
        .vm
        .set_slot(1, 2, MEMORY, read_only.addr(), PAGE)?;
    let id = nested.bind()?;
    // Not every IOMMU translates what the highest table is for.
    let top = nested.guest.last > 1 << 39;
    let mut check = |what: &str, level, iova: u64, entry, reason| -> Outcome {
        let at = nested.guest.entry(iova, level);
        nested.guest.write(at, entry);
        let found = nested.container.invalidate(id, iova & !0xfff, PAGE)?;
        same(what, found.fault_count, 1)?;
        same(what, found.mapped, 0)?;
        fault(what, found, reason, level as u16, iova)?;
        // Strictly it is an error, and what is mapped stays.
        let why = match reason {
            VFIO_KVM_FAULT_TABLE | VFIO_KVM_FAULT_TARGET | VFIO_KVM_FAULT_PIN => Errno::EFAULT,
            VFIO_KVM_FAULT_READONLY => Errno::EPERM,
            _ => Errno::EINVAL,
        };
        let flags = VFIO_KVM_INV_STRICT;
        let (found, result) = nested
            .container
            .invalidate_flags(flags, id, iova & !0xfff, PAGE);
        errno(what, result, why)?;
        fault(what, found, reason, level as u16, iova)?;
        nested.guest.write(at, 0);
        nested.container.invalidate(id, iova & !0xfff, PAGE)?;
        Ok(())
    };
    check("no memory", 1, AT, (1 << 30) | RW, VFIO_KVM_FAULT_TARGET)?;
    // The fault is met at the level below.
    if top {
        check(
            "large at the top",
            4,
            1 << 39,
            LARGE | RW,
            VFIO_KVM_FAULT_RESERVED,
        )?;
    }
    check(
        "not aligned",
        2,
        0x40_0000,
        0x1000 | LARGE | RW,
        VFIO_KVM_FAULT_MISALIGNED,
    )?;
    check("read-only", 1, AT, MEMORY | RW, VFIO_KVM_FAULT_READONLY)?;
    check("interrupts", 1, 0xfee0_0000, FREE | RW, VFIO_KVM_FAULT_IOVA)?;
    ensure!(read_only.is_filled(0, PAGE as usize, 0x11));
    // For reading it may be mapped.
    nested.guest.map(AT, MEMORY | RO);
    let found = nested.container.invalidate(id, AT, PAGE)?;
    same("read-only, to be read", found.mapped, PAGE)?;
    Edu::new(&nested.device)?.store(AT, 64)?;
    ensure!(read_only.is_filled(0, PAGE as usize, 0x11));
    Ok(())
}

suite!(
    iommus: All, debug: Lifetimes;
    pages_both_ways,
    large_pages,
    a_change_counts_when_it_is_told,
    parts_of_a_run,
    all_memory_at_its_address,
    zpci_tables,
    bad_entries,
);
