// SPDX-License-Identifier: GPL-2.0
//! Maps of BARs: huge pages, and what users may do to a map once it is there.

use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::sysfs::{self, PciDevice};
use vfio_rs_selftests::setup::{Bound, IVSHMEM, Opened, PAGE, PATIENCE, is_rust_stack, slowness};
use vfio_rs_selftests::{Outcome, ensure, errno, process, same, skip, suite};

/// Bytes of a huge page, and of the next size.
const HUGE: u64 = 2 << 20;
const GIANT: u64 = 1 << 30;

fn open() -> anyhow::Result<(Opened, u64)> {
    open_bound(IVSHMEM.bind()?)
}

/// An open device, and where its memory is.
fn open_bound(bound: Bound) -> anyhow::Result<(Opened, u64)> {
    let start = bound.pci.resource(2)?.0;
    let opened = bound.open()?;
    opened.device.config()?.update_command(0, COMMAND_MEMORY)?;
    Ok((opened, start))
}

fn faults() -> anyhow::Result<i64> {
    Ok(getrusage(UsageWho::RUSAGE_SELF)?.minor_page_faults())
}

/// How many pages, the largest that fit, show `len` bytes at physical address `start`.
fn pages(start: u64, len: u64) -> i64 {
    let (mut at, mut count) = (start, 0);
    while at < start + len {
        let fits = |size: &u64| at % size == 0 && at + size <= start + len;
        at += [GIANT, HUGE].into_iter().find(fits).unwrap_or(PAGE);
        count += 1;
    }
    count
}

/// Touching all of a large BAR takes a fault for each huge page, wherever the kernel puts the map.
fn huge_pages() -> Outcome {
    let (opened, start) = open()?;
    let bar = opened.device.region(2)?;
    ensure!(bar.size >= 16 * HUGE, "BAR 2 has {:#x} bytes", bar.size);
    // Something that moves the next place a little.
    let _odd = opened.device.mmap(&bar, 0, PAGE as usize)?;
    for (at, len) in [
        (0, bar.size),
        (PAGE, bar.size - 3 * PAGE),
        (0, 4 * HUGE + PAGE),
    ] {
        let map = opened.device.mmap(&bar, at, len as usize)?;
        if !is_rust_stack() {
            // C VFIO leaves the place to chance.
            continue;
        }
        same(
            "place in a huge page",
            map.addr() % HUGE,
            (start + at) % HUGE,
        )?;
        let before = faults()?;
        for at in (0..len).step_by(PAGE as usize) {
            let _ = map.read32(at as usize);
        }
        let took = faults()? - before;
        let most = pages(start + at, len);
        ensure!(took <= most + 8, "{took} faults, at most {most} expected");
    }
    Ok(())
}

/// A BAR of 1 GiB takes one fault, and one more whenever it was revoked.
fn giant_page() -> Outcome {
    if !is_rust_stack() {
        skip!("C VFIO leaves the place to chance");
    }
    let large = |pci: &PciDevice| {
        pci.resource(2)
            .is_ok_and(|(first, last)| last - first >= GIANT - 1)
    };
    let all = sysfs::find_all(IVSHMEM.id.0, IVSHMEM.id.1)?;
    let Some(pci) = all.into_iter().find(large) else {
        skip!("no BAR of 1 GiB");
    };
    pci.bind_vfio()?;
    let (opened, start) = open_bound(Bound::new(pci)?)?;
    let (bar, config) = (opened.device.region(2)?, opened.device.config()?);
    let map = opened.device.mmap(&bar, 0, bar.size as usize)?;
    for round in 0..3 {
        let before = faults()?;
        for at in (0..bar.size).step_by(HUGE as usize) {
            map.write32(at as usize, round);
        }
        let (took, most) = (faults()? - before, pages(start, bar.size));
        ensure!(took <= most + 8, "{took} faults, at most {most} expected");
        config.update_command(COMMAND_MEMORY, 0)?;
        let mut child = process::spawn(|| map.read32(HUGE as usize) as i32)?;
        child.killed_by(Signal::SIGBUS)?;
        config.update_command(0, COMMAND_MEMORY)?;
        same("word", map.read32((bar.size - HUGE) as usize), round)?;
    }
    Ok(())
}

/// A place that the user asks for is taken.
fn fixed_place() -> Outcome {
    use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
    use std::num::NonZeroUsize;
    let (opened, _) = open()?;
    let offset = opened.device.region(2)?.offset as i64;
    let size = |pages: u64| NonZeroUsize::new((pages * HUGE) as usize).ok_or(Errno::EINVAL);
    let (len, short) = (size(4)?, size(3)?);
    let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: new mappings, the second in the place of the first.
    unsafe {
        let anon = nix::sys::mman::mmap_anonymous(None, len, prot, MapFlags::MAP_PRIVATE)?;
        let at = NonZeroUsize::new(anon.as_ptr() as usize + PAGE as usize).ok_or(Errno::EINVAL)?;
        let map_at = |flags| {
            let flags = MapFlags::MAP_SHARED | flags;
            mmap(Some(at), short, prot, flags, &opened.device, offset)
        };
        let map = map_at(MapFlags::MAP_FIXED)?;
        same("fixed", map.as_ptr() as usize, at.get())?;
        map.as_ptr().cast::<u32>().write_volatile(3);
        munmap(anon, len.get())?;
        // A hint that is free.
        let map = map_at(MapFlags::empty())?;
        same("hint", map.as_ptr() as usize, at.get())?;
        same("word", map.as_ptr().cast::<u32>().read_volatile(), 3)?;
        munmap(map, short.get())?;
    }
    Ok(())
}

/// The map is cut, changed and moved like any other, and revoked in all its parts.
fn changed_maps() -> Outcome {
    let (opened, _) = open()?;
    let bar = opened.device.region(2)?;
    let (page, len) = (PAGE as usize, 2 * HUGE as usize);
    let map = opened.device.mmap(&bar, 0, len)?;
    let base = map.addr() as *mut u8;
    map.write32(len - 8, 42);
    // SAFETY: all addresses lie in the map, which is only used here; the hole is mapped over.
    unsafe {
        ensure!(libc::munmap(base.add(page).cast(), page) == 0, "munmap");
        ensure!(
            libc::mprotect(base.cast(), page, libc::PROT_READ) == 0,
            "mprotect"
        );
        let grown = libc::mremap(base.cast(), page, 3 * page, libc::MREMAP_MAYMOVE);
        ensure!(grown == libc::MAP_FAILED, "a map of a device grew");
        same("mremap", Errno::last(), Errno::EFAULT)?;
        let copy = libc::mremap(base.add(2 * page).cast(), 0, page, libc::MREMAP_MAYMOVE);
        ensure!(
            copy == libc::MAP_FAILED || libc::munmap(copy, page) == 0,
            "munmap of the copy"
        );
    }
    same("word", map.read32(len - 8), 42)?;
    let mut child = process::spawn(|| {
        map.write32(0, 1);
        0
    })?;
    child.killed_by(Signal::SIGSEGV)?;
    let mut child = process::spawn(|| map.read32(page) as i32)?;
    child.killed_by(Signal::SIGSEGV)?;
    let config = opened.device.config()?;
    config.update_command(COMMAND_MEMORY, 0)?;
    for at in [0, 2 * page, len - 8] {
        let mut child = process::spawn(|| map.read32(at) as i32)?;
        child.killed_by(Signal::SIGBUS)?;
    }
    config.update_command(0, COMMAND_MEMORY)?;
    same("word again", map.read32(len - 8), 42)
}

/// A child has the map, and keeps the device open.
fn inherited_map() -> Outcome {
    let (opened, _) = open()?;
    let bar = opened.device.region(2)?;
    let map = opened.device.mmap(&bar, 0, HUGE as usize)?;
    let mut child = process::spawn(|| {
        map.write32(16, 77);
        0
    })?;
    let status = child.wait(PATIENCE * slowness())?;
    ensure!(
        matches!(status, WaitStatus::Exited(_, 0)),
        "child: {status:?}"
    );
    same("word", map.read32(16), 77)?;
    let beyond = opened.device.mmap(&bar, bar.size - PAGE, 2 * PAGE as usize);
    errno("over the end", beyond, Errno::EINVAL)
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    huge_pages,
    giant_page,
    fixed_place,
    changed_maps,
    inherited_map
);
