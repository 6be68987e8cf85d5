// SPDX-License-Identifier: GPL-2.0
//! BARs mapped for DMA of which the user has many areas, in any order, and that go while they are
//! being mapped.
//!
//! `VFIO_RS_PARTS` is how many areas `many_areas` maps, for measurements.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::region::Region;
use vfio_client::setting::Setting;
use vfio_client::uapi::*;
use vfio_client::{Device, DmaBuf, Group, counters};
use vfio_rs_selftests::absent::Absent;
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::process::{self, Latch};
use vfio_rs_selftests::setup::{
    Bound, E1000E, IGB, IOVA, Opened, PAGE, PATIENCE, is_rust_stack, number, open_edu, slowness,
};
use vfio_rs_selftests::{
    Context, Outcome, Result, bail, ensure, errno, joined, same, skip, suite, translation,
};

const RW: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
/// How many parts a device's BARs may be in.
const MOST: u64 = 65_536;

/// An edu whose memory answers.
fn open() -> Result<(Opened, Region)> {
    let opened = open_edu()?;
    let bar = enabled(&opened.device)?;
    Ok((opened, bar))
}

fn enabled(device: &Device) -> Result<Region> {
    device.config()?.update_command(0, COMMAND_MEMORY)?;
    let bar = device.region(VFIO_PCI_BAR0_REGION_INDEX)?;
    ensure!(bar.can_mmap(), "BAR 0 cannot be mapped");
    Ok(bar)
}

/// An area of a page for each of these pages of the BAR, one behind the other.
fn areas(device: &Device, bar: &Region, pages: &[u64]) -> Result<DmaBuf> {
    let page = PAGE as usize;
    let buf = DmaBuf::with_flags(
        pages.len() * page,
        ProtFlags::PROT_NONE,
        MapFlags::MAP_PRIVATE,
    )?;
    for (at, number) in pages.iter().enumerate() {
        device.mmap_over(bar, number * PAGE, page, &buf, at * page)?;
    }
    Ok(buf)
}

/// Room for so many areas in this process.
fn allow_areas(count: u64) -> Result<Setting> {
    let most = (count + 10_000).max(65_530).to_string();
    Ok(Setting::new("/proc/sys/vm/max_map_count", &most)?)
}

fn limit(entries: u32) -> Result<Setting> {
    Ok(Setting::parameter(
        "vfio_iommu_type1",
        "dma_entry_limit",
        &entries.to_string(),
    )?)
}

/// Areas that continue each other in the BAR and in the address space are one part.
fn areas_that_continue_each_other() -> Outcome {
    let _limit = limit(1)?;
    let (opened, bar) = open()?;
    let pages: Vec<u64> = (0..bar.size / PAGE).collect();
    let buf = areas(&opened.device, &bar, &pages)?;
    opened.container.map_buf(&buf, IOVA)?;
    if translation::is_shown(&opened.bound.pci) {
        let reached = translation::reachable(&opened.bound.pci, IOVA, bar.size)?;
        same("reached", reached, bar.size)?;
    }
    same("unmapped", opened.container.unmap_all()?, bar.size)
}

/// All others count, from the second of a mapping on.
fn parts_are_limited() -> Outcome {
    if !is_rust_stack() {
        skip!("C VFIO does not limit them");
    }
    let _limit = limit(4)?;
    let (opened, bar) = open()?;
    let container = &opened.container;
    // Each but the first is a part of its own: with memory between them, or another place of the
    // BAR.
    let five = areas(&opened.device, &bar, &[3, 2, 2, 0, 5])?;
    let two = areas(&opened.device, &bar, &[1, 0])?;
    for _ in 0..3 {
        container.map_buf(&five, IOVA)?;
        let mut log = Kmsg::now()?;
        let second = container.map_buf(&two, IOVA << 1);
        errno("a sixth", second, Errno::ENOSPC)?;
        log.expect("parts of mappings (parameter dma_entry_limit of vfio_iommu_type1)")?;
        // One part is a mapping, and of these there is one.
        container.map(RW, two.addr(), IOVA << 1, PAGE)?;
        same("unmapped", container.unmap_all()?, 6 * PAGE)?;
        container.map_buf(&two, IOVA << 1)?;
        same("unmapped", container.unmap_all()?, 2 * PAGE)?;
    }
    Ok(())
}

/// What `body` returns, and how long it takes.
fn timed<T>(what: &str, body: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = body();
    println!("# {what}: {:.3} s", start.elapsed().as_secs_f64());
    result
}

/// Thousands of parts come and go in no time; more than a device's BARs may be in are refused.
fn many_areas() -> Outcome {
    let (default, times) = if slowness() > 1 {
        (500, 2)
    } else {
        (4096, MOST / 4096)
    };
    let count = number("VFIO_RS_PARTS", default)?;
    let times = if count == default { times } else { 1 };
    let _room = allow_areas(count)?;
    let _limit = limit(1 << 30)?;
    let (opened, bar) = open()?;
    let config = opened.device.config()?;
    let pages = vec![0; count as usize];
    let buf = timed("areas", || areas(&opened.device, &bar, &pages))?;
    let size = buf.len() as u64;
    let map = |number: u64| opened.container.map_buf(&buf, IOVA + number * size);
    timed(&format!("map of {times} times {count}"), || {
        (0..times).try_for_each(map)
    })?;
    if is_rust_stack() && times * count == MOST {
        let one_more = || {
            let at = IOVA + times * size;
            let result = opened.container.map(RW, buf.addr(), at, PAGE);
            errno("one more", result, Errno::ENOSPC)
        };
        let mut log = Kmsg::now()?;
        one_more()?;
        log.expect("in 65536 parts, which is the limit")?;
        one_more()?;
        let again = log.lines()?.iter().any(|line| line.contains("65536 parts"));
        same("said again", again, false)?;
    }
    timed("memory off", || config.update_command(COMMAND_MEMORY, 0))?;
    timed("memory on", || config.update_command(0, COMMAND_MEMORY))?;
    same("unmapped", opened.container.unmap(IOVA, size)?, size)?;
    map(0)?;
    let unmapped = timed("unmap", || opened.container.unmap_all())?;
    same("unmapped", unmapped, times * size)
}

/// A kill ends a map in the middle, and leaves nothing of it.
fn killed() -> Outcome {
    let count = 2000u64;
    let (opened, bar) = open()?;
    let buf = areas(&opened.device, &bar, &vec![0; count as usize])?;
    for round in 0..4 {
        let mut child = process::spawn(|| {
            loop {
                let _ = opened.container.map_buf(&buf, IOVA);
                let _ = opened.container.unmap_all();
            }
        })?;
        std::thread::sleep(Duration::from_millis(5 + 7 * round));
        kill(child.pid, Signal::SIGKILL)?;
        child.killed_by(Signal::SIGKILL)?;
        opened.container.unmap_all()?;
        opened.container.map_buf(&buf, IOVA)?;
        same("unmapped", opened.container.unmap_all()?, buf.len() as u64)?;
    }
    Ok(())
}

/// A kill ends an unmap in the middle, too, where pages of memory and of a BAR take turns. What is
/// left of the mapping can be unmapped, and all of it has been a mapping until then.
fn killed_while_unmapping() -> Outcome {
    if !is_rust_stack() {
        skip!("C VFIO goes on to the end");
    }
    let count = if slowness() > 1 { 1000 } else { 8000 };
    let page = PAGE as usize;
    let (opened, bar) = open()?;
    let container = &opened.container;
    let avail = container.iommu_info()?.dma_avail;
    let buf = DmaBuf::new(2 * count * page)?;
    for at in 0..count {
        opened
            .device
            .mmap_over(&bar, 0, page, &buf, (2 * at + 1) * page)?;
    }
    let (size, memory) = (buf.len() as u64, count as u64 * PAGE / 1024);
    let map = || -> Outcome {
        container.map_buf(&buf, IOVA)?;
        same("locked KiB", counters::locked_kib()?, memory)
    };
    map()?;
    let start = Instant::now();
    same("unmapped", container.unmap(IOVA, size)?, size)?;
    let took = start.elapsed();
    let mut rng = Rng::with_seed(7);
    for round in 0..16 {
        map()?;
        let started = Latch::new()?;
        let unmap = || started.open().is_ok() && container.unmap(IOVA, size).is_ok();
        let status = process::twin(&unmap, |pid| {
            started.wait(PATIENCE * slowness())?;
            std::thread::sleep(took.mul_f64(rng.f64() * 0.8));
            Ok(kill(pid, Signal::SIGKILL)?)
        })?;
        let left = counters::locked_kib()?;
        let again = container.unmap(IOVA, size)?;
        let expected = if left == 0 { 0 } else { size };
        same("the rest", again, expected).with_context(|| format!("{status:?}"))?;
        same("locked KiB", counters::locked_kib()?, 0)?;
        same("mappings left", container.iommu_info()?.dma_avail, avail)?;
        if left != 0 && left != memory {
            println!("# round {round}: {left} of {memory} KiB left, all take {took:.1?}");
            return Ok(());
        }
    }
    bail!("no unmap was stopped in the middle")
}

/// A kill ends a map that fails, too: what it has to take away again is left to whoever unmaps the
/// range. The last page does not come, so the kill is there when that begins.
fn killed_while_giving_up() -> Outcome {
    let count = if slowness() > 1 { 200 } else { 1000 };
    let page = PAGE as usize;
    let (opened, bar) = open()?;
    let container = &opened.container;
    let avail = container.iommu_info()?.dma_avail;
    let absent = Absent::behind(2 * count)?;
    for at in 0..count as usize {
        let place = (2 * at + 1) * page;
        opened.device.mmap_over(&bar, 0, page, &absent.buf, place)?;
    }
    let size = absent.buf.len() as u64;
    let map = || container.map_buf(&absent.buf, IOVA).is_ok();
    let status = process::twin(&map, |pid| {
        absent.wait_wanted()?;
        Ok(kill(pid, Signal::SIGKILL)?)
    })?;
    let dead = matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _));
    ensure!(dead, "{status:?}");
    let (left, memory) = (counters::locked_kib()?, count * PAGE / 1024);
    println!("# {left} of {memory} KiB left");
    if is_rust_stack() {
        ensure!(0 < left && left < memory, "{left} of {memory} KiB left");
        let less = avail.map(|avail| avail - 1);
        same("mappings left", container.iommu_info()?.dma_avail, less)?;
        same("the rest", container.unmap(IOVA, size)?, size)?;
    } else {
        same("the rest", container.unmap(IOVA, size)?, 0)?;
    }
    same("locked KiB", counters::locked_kib()?, 0)?;
    same("mappings left", container.iommu_info()?.dma_avail, avail)?;
    // And the same place can be used again.
    absent.let_come()?;
    container.map_buf(&absent.buf, IOVA)?;
    same("unmapped", container.unmap(IOVA, size)?, size)
}

/// Puts the current thread on a CPU; if it is `urgent`, before all others there.
fn place(cpu: usize, urgent: bool) -> Result<()> {
    // SAFETY: a set of CPUs, and parameters without pointers.
    unsafe {
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut cpus);
        Errno::result(libc::sched_setaffinity(0, size_of_val(&cpus), &cpus))?;
        if urgent {
            let mut parameters: libc::sched_param = std::mem::zeroed();
            parameters.sched_priority = 1;
            Errno::result(libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters))?;
        }
    }
    Ok(())
}

/// What the threads of `closed_while_it_is_being_mapped` tell each other.
#[derive(Default)]
struct Word {
    /// Where the BAR is that is to be mapped; 0 if none is.
    addr: AtomicU64,
    /// How many maps were begun.
    begun: AtomicU64,
    /// Whether the first CPU is kept from whoever maps.
    busy: AtomicBool,
    end: AtomicBool,
}

/// A map of a BAR waits while an administrator resets the device. It gets no CPU when that is over;
/// meanwhile the device is closed for the last time, and opened again: nothing of the old user
/// keeps the BAR from the new one.
fn closed_while_it_is_being_mapped() -> Outcome {
    let kind = [IGB, E1000E].into_iter().find(|kind| kind.find().is_ok());
    let Some(kind) = kind else {
        skip!("no device whose reset takes long");
    };
    let opened = kind.open()?;
    let word = Word::default();
    let outcome = std::thread::scope(|scope| {
        let container = &opened.container;
        let mapper = scope.spawn(|| -> Outcome {
            place(0, false)?;
            while !word.end.load(Relaxed) {
                match word.addr.load(Relaxed) {
                    0 => std::thread::sleep(Duration::from_micros(100)),
                    addr => {
                        word.begun.fetch_add(1, Relaxed);
                        let _ = container.map(RW, addr, IOVA, PAGE);
                    }
                }
                container.unmap_all()?;
            }
            Ok(())
        });
        let spinner = scope.spawn(|| -> Outcome {
            place(0, true)?;
            while !word.end.load(Relaxed) {
                match word.busy.load(Relaxed) {
                    true => std::hint::spin_loop(),
                    false => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            Ok(())
        });
        let outcome = close_and_open(&word, &opened.group, opened.device, &opened.bound);
        word.busy.store(false, Relaxed);
        word.end.store(true, Relaxed);
        joined(mapper)??;
        joined(spinner)??;
        outcome
    });
    match outcome? {
        0 => skip!("no map waited for a reset"),
        caught => println!("# caught {caught} maps"),
    }
    Ok(())
}

/// How many times a map waited when the device was closed.
fn close_and_open(word: &Word, group: &Group, first: Device, bound: &Bound) -> Result<u32> {
    place(1, false)?;
    let reset = bound.pci.path().join("reset");
    let mut device = first;
    let mut caught = 0;
    for round in 0..8 {
        let bar = enabled(&device)?;
        let map = device
            .mmap(&bar, 0, PAGE as usize)
            .with_context(|| format!("round {round}: the BAR is not to be had"))?;
        if caught == 4 {
            break;
        }
        word.addr.store(map.addr(), Relaxed);
        std::thread::scope(|scope| -> Outcome {
            let resetter = scope.spawn(|| std::fs::write(&reset, "1"));
            let (mut seen, mut since) = (0, Instant::now());
            while !resetter.is_finished() {
                let begun = word.begun.load(Relaxed);
                if begun != seen {
                    (seen, since) = (begun, Instant::now());
                } else if since.elapsed() > Duration::from_millis(20) {
                    word.busy.store(true, Relaxed);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            joined(resetter)??;
            Ok(())
        })?;
        caught += u32::from(word.busy.load(Relaxed));
        word.addr.store(0, Relaxed);
        drop((map, device));
        device = group.device(&bound.pci.address)?;
        word.busy.store(false, Relaxed);
    }
    Ok(caught)
}

suite!(
    iommus: All, debug: Answers;
    areas_that_continue_each_other,
    parts_are_limited,
    many_areas,
    killed,
    killed_while_unmapping,
    killed_while_giving_up,
    closed_while_it_is_being_mapped,
);
