// SPDX-License-Identifier: GPL-2.0
//! A BAR of more than 1 TiB, which is what each region has in C VFIO's offsets of the device's
//! file: QEMU's `pci-testdev` with `membar=2T`, for which the machine needs addresses. Nothing
//! answers there, which is no error on a PC.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use vfio_client::Event;
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::region::Region;
use vfio_client::sysfs;
use vfio_client::uapi::*;
use vfio_rs_selftests::setup::{Bound, IOVA, Opened, PAGE, is_rust_stack, slowness};
use vfio_rs_selftests::{Outcome, ensure, errno, process, same, skip, suite, translation};

const TIB: u64 = 1 << 40;
const TESTDEV: (u16, u16) = (0x1b36, 0x0005);
const RW: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

fn open() -> anyhow::Result<(Opened, Region)> {
    let large = |pci: &sysfs::PciDevice| {
        pci.resource(2)
            .is_ok_and(|(first, last)| last - first >= TIB)
    };
    let all = sysfs::find_all(TESTDEV.0, TESTDEV.1)?;
    let Some(pci) = all.into_iter().find(large) else {
        skip!("no BAR of more than 1 TiB");
    };
    if !is_rust_stack() {
        skip!("C VFIO's offsets of it run into the next region's");
    }
    if slowness() > 1 {
        skip!("KASAN has no memory for the shadow of such a BAR");
    }
    pci.bind_vfio()?;
    let opened = Bound::new(pci)?.open()?;
    opened.device.config()?.update_command(0, COMMAND_MEMORY)?;
    let bar = opened.device.region(2)?;
    Ok((opened, bar))
}

/// Places in it: the ends of both halves.
fn places(bar: &Region) -> [u64; 4] {
    [0, TIB - PAGE, TIB, bar.size - PAGE]
}

fn no_regions_overlap() -> Outcome {
    let (opened, bar) = open()?;
    ensure!(bar.size > TIB && bar.can_mmap(), "{bar:?}");
    let count = opened.device.info()?.num_regions;
    for index in (0..count).filter(|index| *index != bar.index) {
        let Ok(other) = opened.device.region(index) else {
            continue;
        };
        same("offset", other.offset, u64::from(index) << 40)?;
        ensure!(
            other.offset >= bar.offset + bar.size || other.offset + other.size <= bar.offset,
            "{other:?} lies in {bar:?}"
        );
    }
    // Nothing is where it would be if it were smaller.
    let old = Region {
        offset: u64::from(bar.index) << 40,
        ..bar
    };
    errno("a read", opened.device.read32(&old, 0), Errno::EINVAL)?;
    let map = opened.device.mmap(&old, 0, PAGE as usize);
    errno("a map", map, Errno::EINVAL)
}

fn reads_and_writes() -> Outcome {
    let (opened, bar) = open()?;
    let device = &opened.device;
    for at in places(&bar) {
        device.read32(&bar, at)?;
        device.write32(&bar, at, 7)?;
    }
    // Over the first TiB, and over the end.
    let mut bytes = [0; 16];
    same("read", device.read(&bar, TIB - 8, &mut bytes)?, 16)?;
    same("read", device.read(&bar, bar.size - 8, &mut bytes)?, 8)?;
    let behind = device.read(&bar, bar.size, &mut bytes);
    errno("behind the end", behind, Errno::EINVAL)?;
    // A doorbell is where a write would go.
    let event = Event::new()?;
    let fd = event.as_raw_fd();
    device.ioeventfd(&bar, bar.size - 4, 4, 1, fd)?;
    event.signal()?;
    device.ioeventfd(&bar, bar.size - 4, 4, 1, -1)?;
    let behind = device.ioeventfd(&bar, bar.size, 4, 1, fd);
    errno("a doorbell behind the end", behind, Errno::EINVAL)
}

/// Maps of all of it, and of pages, come and go with the device's memory.
fn maps() -> Outcome {
    let (opened, bar) = open()?;
    let (device, config) = (&opened.device, opened.device.config()?);
    let over = device.mmap(&bar, bar.size - PAGE, 2 * PAGE as usize);
    errno("over the end", over, Errno::EINVAL)?;
    let all = device.mmap(&bar, 0, bar.size as usize)?;
    let pages = places(&bar).map(|at| device.mmap(&bar, at, PAGE as usize));
    let pages = pages.into_iter().collect::<Result<Vec<_>, _>>()?;
    let inside = places(&bar).map(|at| (&all, at as usize));
    let touched: Vec<_> = inside
        .into_iter()
        .chain(pages.iter().map(|map| (map, 0)))
        .collect();
    for round in 0..2 {
        for (map, at) in &touched {
            let _ = map.read32(*at);
        }
        config.update_command(COMMAND_MEMORY, 0)?;
        for (map, at) in &touched {
            let mut child = process::spawn(|| map.read32(*at) as i32 & 1)?;
            child.killed_by(Signal::SIGBUS)?;
        }
        config.update_command(0, COMMAND_MEMORY)?;
        println!("# round {round}: {} places", touched.len());
    }
    Ok(())
}

/// The other way to map it has room for all of it too.
fn write_combining() -> Outcome {
    let (opened, bar) = open()?;
    let Some(combining) = &bar.write_combining else {
        skip!("cannot be mapped write-combining");
    };
    let map = opened.device.mmap(combining, TIB, PAGE as usize)?;
    let _ = map.read32(0);
    opened.device.config()?.update_command(COMMAND_MEMORY, 0)?;
    let mut child = process::spawn(|| map.read32(0) as i32 & 1)?;
    child.killed_by(Signal::SIGBUS)
}

/// What devices reach by a map of it is where the BAR is.
fn mapped_for_dma() -> Outcome {
    let (opened, bar) = open()?;
    let start = opened.bound.pci.resource(2)?.0;
    let user = opened.device.mmap(&bar, 0, bar.size as usize)?;
    for (number, at) in (0u64..).zip(places(&bar)) {
        let iova = IOVA + number * PAGE;
        opened.container.map(RW, user.addr() + at, iova, PAGE)?;
    }
    if translation::is_shown(&opened.bound.pci) {
        let reached = translation::pages(&opened.bound.pci)?;
        for (number, at) in (0u64..).zip(places(&bar)) {
            let target = reached
                .get(&(IOVA / PAGE + number))
                .map(|target| target.pfn);
            same("page", target, Some((start + at) / PAGE))?;
        }
    }
    same("unmapped", opened.container.unmap_all()?, 4 * PAGE)
}

/// So much at once that nobody tries to pin it.
fn mapped_for_dma_at_once() -> Outcome {
    const SIZE: u64 = 16 << 20;

    let (opened, bar) = open()?;
    let start = opened.bound.pci.resource(2)?.0;
    let config = opened.device.config()?;
    let user = opened.device.mmap(&bar, TIB, SIZE as usize)?;
    let map = |flags, size| opened.container.map(flags, user.addr(), IOVA, size);
    config.update_command(COMMAND_MEMORY, 0)?;
    errno("memory off", map(RW, SIZE), Errno::EFAULT)?;
    config.update_command(0, COMMAND_MEMORY)?;
    for round in 0..2 {
        map(RW, SIZE)?;
        errno("there already", map(RW, SIZE), Errno::EEXIST)?;
        if translation::is_shown(&opened.bound.pci) {
            let reached = translation::pages(&opened.bound.pci)?;
            for at in [0, SIZE - PAGE] {
                let target = reached.get(&((IOVA + at) / PAGE)).map(|target| target.pfn);
                same("page", target, Some((start + TIB + at) / PAGE))?;
            }
        }
        let part = opened.container.unmap(IOVA, SIZE / 2);
        errno("a part of it", part, Errno::EINVAL)?;
        same("unmapped", opened.container.unmap(IOVA, SIZE)?, SIZE)?;
        println!("# round {round}");
    }
    let page = user.addr() + SIZE - PAGE;
    // SAFETY: Nobody uses the page.
    unsafe {
        libc::mprotect(page as *mut libc::c_void, PAGE as usize, libc::PROT_READ);
    }
    errno("one page read-only", map(RW, SIZE), Errno::EFAULT)?;
    map(VFIO_DMA_MAP_FLAG_READ, SIZE)?;
    Ok(())
}

suite!(
    iommus: All, debug: Answers;
    no_regions_overlap,
    reads_and_writes,
    maps,
    write_combining,
    mapped_for_dma,
    mapped_for_dma_at_once,
);
