// SPDX-License-Identifier: GPL-2.0
//! Shadows of guests' tables: each errno of the calls, and callers and guests that mean no good.

use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::mman::ProtFlags;
use vfio_client::bindings::{
    vfio_kvm_bind_table, vfio_kvm_invalidate, vfio_kvm_invalidate_many, vfio_kvm_unbind,
};
use vfio_client::counters::locked_kib;
use vfio_client::nested::*;
use vfio_client::uapi::{VFIO_DMA_MAP_FLAG_READ, VFIO_TYPE1v2_IOMMU};
use vfio_client::{Container, DmaBuf, sys};
use vfio_rs_selftests::nested::{FREE, LARGE, MEMORY, Nested, ROOT, RW, required};
use vfio_rs_selftests::setup::{EDU, PAGE, number, slowness};
use vfio_rs_selftests::{Outcome, ensure, errno, same, skip, suite, translation};

const AT: u64 = 0x20_0000;

fn chosen_explicitly() -> Outcome {
    required()?;
    let bound = EDU.bind()?;
    let (container, _group) = bound.join()?;
    let has = |kind| container.check_extension(kind);
    same("before SET_IOMMU", has(VFIO_KVM_IOMMU)?, 1)?;
    container.set_iommu(VFIO_KVM_IOMMU)?;
    same("after", has(VFIO_KVM_IOMMU)?, 1)?;
    same("type1 then", has(VFIO_TYPE1v2_IOMMU)?, 0)?;
    let buf = DmaBuf::new(PAGE as usize)?;
    let map = container.map(VFIO_DMA_MAP_FLAG_READ, buf.addr(), AT, PAGE);
    errno("MAP_DMA", map, Errno::EOPNOTSUPP)?;
    errno("UNMAP_DMA", container.unmap(AT, PAGE), Errno::EOPNOTSUPP)?;
    let raw = |nr| sys::raw(container.as_raw_fd(), nr, 0);
    errno(
        "DIRTY_PAGES",
        raw(vfio_client::uapi::IOMMU_DIRTY_PAGES),
        Errno::EOPNOTSUPP,
    )?;
    errno(
        "another's",
        raw(vfio_client::pamu::PAMU_GET_ATTR),
        Errno::ENOTTY,
    )?;
    let info = container.iommu_info()?;
    ensure!(info.pgsizes & PAGE != 0 && !info.iova_ranges.is_empty());
    // type1 does not have its calls.
    drop(container);
    drop(_group);
    let (container, _group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let raw = |nr| sys::raw(container.as_raw_fd(), nr, 0);
    for nr in [
        KVM_BIND_TABLE,
        KVM_INVALIDATE,
        KVM_INVALIDATE_MANY,
        KVM_UNBIND,
    ] {
        errno("with type1", raw(nr), Errno::ENOTTY)?;
    }
    Ok(())
}

/// A struct as bytes.
fn bytes<T: sys::Plain>(value: T) -> Vec<u8> {
    let mut bytes = vec![0; size_of::<T>()];
    sys::write_struct(&mut bytes, value);
    bytes
}

/// All four calls with each field wrong, one at a time; none changes anything.
fn structs() -> Outcome {
    let mut nested = Nested::new()?;
    nested.guest.map(AT, FREE | RW);
    let id = nested.bind()?;
    let fd = nested.container.as_raw_fd();
    let send = |nr: u32, bytes: &mut [u8]| sys::raw(fd, nr, bytes.as_mut_ptr() as usize);
    let with = |template: &[u8], at: usize, value: u64, size: usize| {
        let mut bytes = template.to_vec();
        bytes[at..at + size].copy_from_slice(&value.to_ne_bytes()[..size]);
        bytes
    };
    let table = Table {
        window: (1 << 30, (1 << 30) + 0xfff),
        ..nested.guest.table()
    };
    let bind = bytes(table.arg());
    macro_rules! at {
        ($field:ident) => {
            offset_of!(vfio_kvm_bind_table, $field)
        };
    }
    for (what, at, value, size) in [
        ("size", at!(argsz), 87, 4),
        ("flags", at!(flags), 8, 4),
        ("no format", at!(format), 0, 4),
        ("unknown format", at!(format), 7, 4),
        ("root", at!(root_gpa), ROOT + 8, 8),
        ("root beyond", at!(root_gpa), 1 << 52, 8),
        ("start", at!(iova_start), (1 << 30) + 8, 8),
        ("empty", at!(iova_start), (1 << 30) + 0x1000, 8),
        ("last", at!(iova_last), (1 << 30) + 0x1000, 8),
        ("untranslated", at!(iova_last), (1 << 49) - 1, 8),
        ("few bits", at!(gpa_bits), 31, 4),
        ("many bits", at!(gpa_bits), 53, 4),
        ("reserved", at!(__reserved), 1, 4),
        ("identity with a format", at!(flags), 1, 4),
    ] {
        let mut bytes = with(&bind, at, value, size);
        errno(what, send(KVM_BIND_TABLE, &mut bytes), Errno::EINVAL)?;
    }
    // s390's roots are aligned to 16 KiB, and its smallest tables translate 2 GiB.
    let zpci = Table {
        format: VFIO_KVM_FMT_ZPCI_ST,
        root: 0x20_1000,
        ..table
    };
    errno(
        "zpci root",
        nested.container.bind_table(&zpci),
        Errno::EINVAL,
    )?;
    let zpci = Table {
        root: 0x20_4000,
        window: (0x8000_0000, 0x8000_0fff),
        ..zpci
    };
    errno(
        "zpci window",
        nested.container.bind_table(&zpci),
        Errno::EINVAL,
    )?;
    errno("no struct", sys::raw(fd, KVM_BIND_TABLE, 0), Errno::EFAULT)?;
    errno(
        "overlap",
        nested.container.bind_table(&table),
        Errno::EEXIST,
    )?;

    let template = vfio_kvm_invalidate {
        argsz: 72,
        bind_id: id,
        iova: AT,
        size: PAGE,
        ..Default::default()
    };
    let template = bytes(template);
    macro_rules! at {
        ($field:ident) => {
            offset_of!(vfio_kvm_invalidate, $field)
        };
    }
    for (what, at, value, size, why) in [
        ("size", at!(argsz), 71, 4, Errno::EINVAL),
        ("flags", at!(flags), 4, 4, Errno::EINVAL),
        ("all with a range", at!(flags), 1, 4, Errno::EINVAL),
        ("number", at!(bind_id), u64::from(id) + 1, 4, Errno::ENOENT),
        ("reserved", at!(__reserved), 1, 4, Errno::EINVAL),
        ("iova", at!(iova), AT + 1, 8, Errno::EINVAL),
        ("no bytes", at!(size), 0, 8, Errno::EINVAL),
        ("bytes", at!(size), 1, 8, Errno::EINVAL),
        (
            "wraps",
            at!(size),
            0u64.wrapping_sub(PAGE),
            8,
            Errno::EINVAL,
        ),
        ("outside", at!(iova), 1 << 48, 8, Errno::EINVAL),
    ] {
        let mut bytes = with(&template, at, value, size);
        errno(what, send(KVM_INVALIDATE, &mut bytes), why)?;
    }

    let ranges = [range(AT, PAGE)];
    let template = vfio_kvm_invalidate_many {
        argsz: 24,
        bind_id: id,
        count: 1,
        ranges: ranges.as_ptr() as u64,
        ..Default::default()
    };
    let template = bytes(template);
    macro_rules! at {
        ($field:ident) => {
            offset_of!(vfio_kvm_invalidate_many, $field)
        };
    }
    for (what, at, value, size, why) in [
        ("size", at!(argsz), 23, 4, Errno::EINVAL),
        ("flags", at!(flags), 1, 4, Errno::EINVAL),
        ("number", at!(bind_id), u64::from(id) + 1, 4, Errno::ENOENT),
        ("none", at!(count), 0, 4, Errno::EINVAL),
        ("many", at!(count), 4097, 4, Errno::EINVAL),
        ("nowhere", at!(ranges), 0, 8, Errno::EFAULT),
        ("kernel's", at!(ranges), 1 << 63, 8, Errno::EFAULT),
    ] {
        let mut bytes = with(&template, at, value, size);
        errno(what, send(KVM_INVALIDATE_MANY, &mut bytes), why)?;
    }

    let template = vfio_kvm_unbind {
        argsz: 16,
        bind_id: id,
        ..Default::default()
    };
    let template = bytes(template);
    for (what, at, value, why) in [
        ("size", 0, 15, Errno::EINVAL),
        ("flags", 4, 1, Errno::EINVAL),
        ("number", 8, u64::from(id) + 1, Errno::ENOENT),
        ("reserved", 12, 1, Errno::EINVAL),
    ] {
        let mut bytes = with(&template, at, value, 4);
        errno(what, send(KVM_UNBIND, &mut bytes), why)?;
    }
    nested.translates(&[(AT, FREE, PAGE, true)])
}

/// An element that fails ends the call; those before it are done, those behind it are not touched.
fn several_ranges() -> Outcome {
    let mut nested = Nested::new()?;
    let id = nested.bind()?;
    for page in 0..4 {
        nested
            .guest
            .map(AT + page * PAGE, (FREE + page * PAGE) | RW);
    }
    // No memory is a result, not an error.
    nested.guest.map(AT + PAGE, (1 << 30) | RW);
    let mut ranges = [
        range(AT, PAGE),
        range(AT + PAGE, PAGE),
        range(AT + 2 * PAGE, 1),
        range(AT + 3 * PAGE, PAGE),
    ];
    for range in &mut ranges {
        range.mapped = 99;
    }
    let many = nested.container.invalidate_many(id, &mut ranges);
    errno("the third", many, Errno::EINVAL)?;
    let results = ranges.map(|r| (r.mapped, r.done, r.fault_count, u32::from(r.fault_reason)));
    let target = VFIO_KVM_FAULT_TARGET;
    same("first", results[0], (PAGE, PAGE, 0, 0))?;
    same("second", results[1], (0, PAGE, 1, target))?;
    same("third", results[2].0, 99)?;
    same("fourth", results[3].0, 99)?;
    nested.translates(&[(AT, FREE, PAGE, true)])?;
    // The same range again and again, as many as there may be.
    let mut ranges = vec![range(AT + 3 * PAGE, PAGE); 4096];
    nested.container.invalidate_many(id, &mut ranges)?;
    ensure!(ranges.iter().all(|range| range.mapped == PAGE));
    // Results that cannot be written: what was found is mapped all the same.
    nested.translates(&[
        (AT, FREE, PAGE, true),
        (AT + 3 * PAGE, FREE + 3 * PAGE, PAGE, true),
    ])
}

fn many_bindings() -> Outcome {
    let mut nested = Nested::new()?;
    let container = &nested.container;
    let window = |n: u64| Table {
        window: (n << 30, (n << 30) + (1 << 30) - 1),
        ..nested.guest.table()
    };
    let mut ids = Vec::new();
    for n in 0..16 {
        ids.push(container.bind_table(&window(n))?.0);
    }
    errno("one more", container.bind_table(&window(16)), Errno::ENOSPC)?;
    let outside = container.invalidate(ids[3], 4 << 30, PAGE);
    errno("another's window", outside, Errno::EINVAL)?;
    container.unbind_table(ids[3])?;
    errno("again", container.unbind_table(ids[3]), Errno::ENOENT)?;
    let (id, _) = container.bind_table(&window(16))?;
    ensure!(!ids.contains(&id));
    // Each shows its window and no more.
    nested.guest.map(5 << 30, FREE | RW);
    nested.guest.map(6 << 30, FREE | RW);
    nested.container.invalidate_all(ids[5])?;
    nested.translates(&[(5 << 30, FREE, PAGE, true)])
}

/// Memory that goes away under a shadow, and what takes its place.
fn memory_that_goes() -> Outcome {
    let mut nested = Nested::new()?;
    nested.guest.map(AT, FREE | RW);
    nested.guest.map(AT + PAGE, (FREE + PAGE) | RW);
    let id = nested.bind()?;
    let read_write = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    nested
        .guest
        .memory
        .replace_page(FREE as usize, Some(read_write))?;
    nested.is_kept_from(AT, FREE)?;
    nested.container.invalidate(id, AT, PAGE)?;
    nested.reaches(AT, FREE, true)?;
    // Nothing at all, and not to be written.
    nested.guest.memory.replace_page(FREE as usize, None)?;
    let found = nested.container.invalidate_all(id)?;
    same("reason", u32::from(found.fault_reason), VFIO_KVM_FAULT_PIN)?;
    same("mapped", found.mapped, PAGE)?;
    nested
        .guest
        .memory
        .replace_page(FREE as usize, Some(ProtFlags::PROT_READ))?;
    let found = nested.container.invalidate_all(id)?;
    same(
        "reason then",
        u32::from(found.fault_reason),
        VFIO_KVM_FAULT_PIN,
    )?;
    nested
        .guest
        .memory
        .replace_page(FREE as usize, Some(read_write))?;
    nested.container.invalidate_all(id)?;
    nested.reaches(AT, FREE, true)?;
    same("locked", locked_kib()?, 8)?;
    // The slot itself.
    let memory = nested.guest.memory.addr();
    nested.guest.vm.set_slot(0, 0, 0, memory, 0)?;
    let found = nested.container.invalidate_all(id)?;
    same(
        "no table",
        u32::from(found.fault_reason),
        VFIO_KVM_FAULT_TABLE,
    )?;
    same("locked without", locked_kib()?, 0)?;
    nested.guest.vm.set_slot(0, 0, 0, memory, MEMORY)?;
    nested.container.invalidate_all(id)?;
    nested.reaches(AT, FREE, true)
}

/// Entries and memory slots that change while they are walked.
fn changes_under_the_walk() -> Outcome {
    let mut nested = Nested::new()?;
    let two = nested.guest.entry(0, 2);
    let page = nested.guest.entry(AT, 1);
    let more = DmaBuf::new(PAGE as usize)?;
    let id = nested.bind()?;
    let done = AtomicBool::new(false);
    let rounds = number("VFIO_RS_ROUNDS", if slowness() > 1 { 300 } else { 10_000 })?;
    let table = nested.guest.read(two);
    let (guest, container) = (&nested.guest, &nested.container);
    scope(|threads| -> Outcome {
        threads.spawn(|| {
            for turn in 0u64.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                guest.write(
                    page,
                    [0, FREE | RW, MEMORY | RW, 1 << 40 | RW][turn as usize % 4],
                );
                guest.write(
                    two,
                    [0, table, LARGE | RW, ROOT | RW][turn as usize / 4 % 4],
                );
            }
        });
        threads.spawn(|| {
            for turn in 0u64.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                let size = if turn % 2 == 0 { PAGE } else { 0 };
                let _ = guest.vm.set_slot(1, 0, MEMORY, more.addr(), size);
                std::thread::yield_now();
            }
        });
        let mut result = Ok(());
        for round in 0..rounds {
            let all = match round % 2 {
                0 => container.invalidate(id, 0, 4 << 20),
                _ => container.invalidate(id, AT, PAGE),
            };
            if let Err(e) = all {
                if e.raw_os_error() != Some(Errno::EAGAIN as i32) {
                    result = Err(e.into());
                    break;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        result
    })?;
    nested.guest.write(two, table);
    nested.guest.write(page, FREE | RW);
    let _ = nested.guest.vm.set_slot(1, 0, MEMORY, more.addr(), 0);
    nested.container.invalidate_all(id)?;
    nested.translates(&[(AT, FREE, PAGE, true)])?;
    same("locked", locked_kib()?, 4)
}

/// Whoever looks at what the IOMMU translates, at any moment, finds what did not change: page after
/// page beside it comes and goes, and all of it is invalidated without a pause.
fn no_gaps() -> Outcome {
    const KEPT: u64 = 16;
    let mut nested = Nested::new()?;
    if !translation::is_shown(&nested.bound.pci) {
        skip!("the IOMMU does not tell what it translates");
    }
    for page in 0..KEPT {
        nested
            .guest
            .map(AT + 2 * page * PAGE, (FREE + page * PAGE) | RW);
    }
    let large = nested.guest.entry(0x60_0000, 2);
    nested.guest.write(large, 0x80_0000 | LARGE | RW);
    let between: Vec<_> = (0..KEPT)
        .map(|page| nested.guest.entry(AT + (2 * page + 1) * PAGE, 1))
        .collect();
    let id = nested.bind()?;
    let kept = translation::pages(&nested.bound.pci)?;
    same("pages", kept.len() as u64, KEPT + 512)?;
    let done = AtomicBool::new(false);
    let (guest, container) = (&nested.guest, &nested.container);
    scope(|threads| {
        let changes = threads.spawn(|| -> Outcome {
            let mut turn = 0;
            while !done.load(Ordering::Relaxed) {
                turn += 1;
                let entry = [0, FREE | RW, (FREE + PAGE) | RW][turn % 3];
                guest.write(between[turn % between.len()], entry);
                container.invalidate_all(id)?;
            }
            ensure!(turn > 1, "nothing was invalidated");
            Ok(())
        });
        let end = Instant::now() + Duration::from_secs(number("VFIO_RS_SECONDS", 3)?);
        let mut looks = 0;
        let mut outcome = Ok(());
        while outcome.is_ok() && (Instant::now() < end || looks < 10) {
            looks += 1;
            outcome = translation::pages(&nested.bound.pci).and_then(|all| {
                let lost = kept
                    .iter()
                    .find(|(page, target)| all.get(page) != Some(target));
                ensure!(lost.is_none(), "look {looks}: {lost:x?} is not there");
                Ok(())
            });
        }
        done.store(true, Ordering::Relaxed);
        vfio_rs_selftests::joined(changes)??;
        outcome
    })
}

/// Bindings come and go in several threads: they take turns.
fn several_callers() -> Outcome {
    let mut nested = Nested::new()?;
    for page in 0..64 {
        nested.guest.map(page << 21, (FREE + page * PAGE) | RW);
    }
    let rounds = if slowness() > 1 { 20 } else { 300 };
    let (container, guest): (&Container, _) = (&nested.container, &nested.guest);
    scope(|threads| {
        let each = |n: u64| {
            let table = Table {
                window: (n << 23, (n << 23) + (1 << 23) - 1),
                ..guest.table()
            };
            move || -> Outcome {
                for _ in 0..rounds {
                    let (id, found) = container.bind_table(&table)?;
                    same("mapped", found.mapped, 4 * PAGE)?;
                    let found = container.invalidate_all(id)?;
                    same("mapped again", found.mapped, 4 * PAGE)?;
                    container.unbind_table(id)?;
                }
                Ok(())
            }
        };
        let all: Vec<_> = (0..4).map(|n| threads.spawn(each(n))).collect();
        for thread in all {
            vfio_rs_selftests::joined(thread)??;
        }
        Outcome::Ok(())
    })?;
    same("locked", locked_kib()?, 0)?;
    nested.translates(&[])
}

suite!(
    iommus: All, debug: Lifetimes;
    chosen_explicitly,
    structs,
    several_ranges,
    many_bindings,
    memory_that_goes,
    changes_under_the_walk,
    no_gaps,
    several_callers,
);
