// SPDX-License-Identifier: GPL-2.0
//! VFIO_DEVICE_IOEVENTFD: writes to BARs by eventfds, of each size, to memory and I/O ports, while
//! all else goes on.

use std::any::Any;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::region::Region;
use vfio_client::uapi::*;
use vfio_client::{Device, Edu, Event};
use vfio_rs_selftests::irq::events;
use vfio_rs_selftests::order::permutations;
use vfio_rs_selftests::process::{Latch, spawn};
use vfio_rs_selftests::race::{is_expected, race};
use vfio_rs_selftests::setup::{
    E1000E, EDU, GLANCE, IGB, Opened, PATIENCE, is_rust_stack, open_edu, slowness,
};
use vfio_rs_selftests::{Outcome, Result, ensure, errno, same, skip, suite};

/// Register of edu that reads as the complement of what was written, 4 bytes.
const LIVENESS: u64 = 0x04;
/// Register of edu that keeps what was written, 4 or 8 bytes.
const DMA_SOURCE: u64 = 0x80;
/// How many a device may have.
const MAX: usize = 1000;

/// Waits for what a work of the kernel does, which mostly has happened already.
fn soon(what: &str, got: impl Fn() -> Result<u64>, want: u64) -> Outcome {
    let end = Instant::now() + PATIENCE * slowness();
    while got()? != want && Instant::now() < end {
        sleep(Duration::from_millis(1));
    }
    same(what, got()?, want)
}

struct Doorbells {
    opened: Opened,
    bar: Region,
}

impl Doorbells {
    fn new() -> Result<Self> {
        let opened = open_edu()?;
        Edu::new(&opened.device)?;
        let bar = opened.device.region(0)?;
        Ok(Self { opened, bar })
    }

    fn device(&self) -> &Device {
        &self.opened.device
    }

    fn set(&self, at: u64, size: u32, data: u64, fd: i32) -> std::io::Result<()> {
        self.device().ioeventfd(&self.bar, at, size, data, fd)
    }

    fn live(&self) -> Result<u64> {
        Ok((!self.device().read32(&self.bar, LIVENESS)?).into())
    }

    fn source(&self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.device().read(&self.bar, DMA_SOURCE, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

fn rings() -> Outcome {
    let edu = Doorbells::new()?;
    let event = Event::new()?;
    edu.set(LIVENESS, 4, 0x1234_5678, event.as_raw_fd())?;
    edu.device().write32(&edu.bar, LIVENESS, 0)?;
    event.signal()?;
    soon("register", || edu.live(), 0x1234_5678)?;
    same("left in the eventfd", event.take()?, None)?;
    // Only the low bytes of the data count, but they tell one from another.
    edu.set(LIVENESS, 4, 0x1_0000_0042, event.as_raw_fd())?;
    edu.set(LIVENESS, 4, 0x1234_5678, -1)?;
    event.signal()?;
    soon("register", || edu.live(), 0x42)?;
    edu.set(LIVENESS, 4, 0x1_0000_0042, -1)?;
    event.signal()?;
    sleep(GLANCE);
    edu.device().write32(&edu.bar, LIVENESS, 7)?;
    event.signal()?;
    same("register when removed", edu.live()?, 7)?;
    same("left in the eventfd", event.take()?, Some(2))
}

fn eight_bytes() -> Outcome {
    let edu = Doorbells::new()?;
    let two = events(2)?;
    let data = 0x0000_0000_89ab_cdef;
    edu.set(DMA_SOURCE, 8, data, two[0].as_raw_fd())?;
    edu.set(DMA_SOURCE, 4, 0x77, two[1].as_raw_fd())?;
    two[0].signal()?;
    soon("eight", || edu.source(), data)?;
    two[1].signal()?;
    soon("four", || Ok(edu.source()? & 0xffff_ffff), 0x77)
}

/// One or two bytes do what the same write by hand does.
fn few_bytes() -> Outcome {
    /// Multicast table of e1000e: any value.
    const TABLE: u64 = 0x5200;
    let opened = E1000E.open()?;
    let bar = opened.device.region(0)?;
    opened.device.config()?.update_command(0, COMMAND_MEMORY)?;
    let read = || Ok(u64::from(opened.device.read32(&bar, TABLE)?));
    for (size, data) in [(1u32, 0x5au64), (2, 0x1234)] {
        opened.device.write32(&bar, TABLE, 0)?;
        let bytes = data.to_le_bytes();
        opened.device.write(&bar, TABLE, &bytes[..size as usize])?;
        let by_hand = read()?;
        ensure!(by_hand != 0, "{size} bytes by hand: nothing was written");
        opened.device.write32(&bar, TABLE, 0)?;
        let event = Event::new()?;
        opened
            .device
            .ioeventfd(&bar, TABLE, size, data, event.as_raw_fd())?;
        event.signal()?;
        soon(&format!("{size} bytes"), read, by_hand)?;
    }
    Ok(())
}

/// I/O ports answer whatever the memory bit says.
fn ports() -> Outcome {
    let opened = E1000E.open()?;
    // The port that holds an address, in the BAR of I/O ports.
    let bar = opened.device.region(2)?;
    if bar.size == 0 {
        skip!("no I/O ports");
    }
    let config = opened.device.config()?;
    config.update_command(COMMAND_MEMORY, 1)?;
    let event = Event::new()?;
    opened.device.write32(&bar, 0, 0)?;
    opened
        .device
        .ioeventfd(&bar, 0, 4, 0x5204, event.as_raw_fd())?;
    event.signal()?;
    soon("port", || Ok(opened.device.read32(&bar, 0)?.into()), 0x5204)
}

fn errors() -> Outcome {
    let edu = Doorbells::new()?;
    let event = Event::new()?;
    let fd = event.as_raw_fd();
    let size = edu.bar.size;
    let raw = |argsz, flags, offset, fd| {
        let mut arg = vfio_device_ioeventfd {
            argsz,
            flags,
            offset,
            fd,
            ..Default::default()
        };
        vfio_client::sys::with_struct(edu.device(), DEVICE_IOEVENTFD, &mut arg)
    };
    let inval = |what: &str, result| errno(what, result, Errno::EINVAL);
    for argsz in [0, 24, 27] {
        inval(&format!("argsz {argsz}"), raw(argsz, 4, 0, fd))?;
    }
    for flags in [0, 3, 5, 6, 7, 9, 10, 12, 15, 16, 20, 1 << 31 | 4] {
        inval(&format!("flags {flags:#x}"), raw(32, flags, 0, fd))?;
    }
    for bad in [-2, i32::MIN] {
        inval(&format!("descriptor {bad}"), raw(32, 4, 0, bad))?;
    }
    for region in 6..12 {
        inval(&format!("region {region}"), raw(32, 4, region << 40, fd))?;
    }
    if is_rust_stack() {
        // C takes this for a negative number of a BAR, and looks there.
        inval("a huge offset", raw(32, 4, 1 << 63, fd))?;
    }
    for bytes in [1, 2, 4, 8] {
        let what = format!("{bytes} beyond the end");
        let at = size - u64::from(bytes);
        edu.set(at, bytes, 0, fd)?;
        errno(&what, edu.set(at + 1, bytes, 0, fd), Errno::EINVAL)?;
        errno(&what, edu.set(size, bytes, 0, fd), Errno::EINVAL)?;
        errno(&what, edu.set((1 << 40) - 1, bytes, 0, fd), Errno::EINVAL)?;
        edu.set(at, bytes, 0, -1)?;
    }
    errno("no BAR 1", raw(32, 4, 1 << 40, fd), Errno::EINVAL)?;
    errno("none to remove", edu.set(0, 4, 0, -1), Errno::ENODEV)?;
    errno("closed", edu.set(0, 4, 0, 999), Errno::EBADF)?;
    let null = std::fs::File::open("/dev/null")?;
    errno(
        "/dev/null",
        edu.set(0, 4, 0, null.as_raw_fd()),
        Errno::EINVAL,
    )?;
    edu.set(0, 4, 0, fd)?;
    errno("twice", edu.set(0, 4, 0, fd), Errno::EEXIST)?;
    errno("twice, badly", edu.set(0, 4, 0, 999), Errno::EEXIST)?;
    // Another place, size or value is another one.
    for (at, bytes, data) in [(4, 4, 0), (0, 2, 0), (0, 4, 1), (0, 4, 1 << 40)] {
        edu.set(at, bytes, data, fd)?;
        edu.set(at, bytes, data, -1)?;
    }
    edu.set(0, 4, 0, -1)?;
    errno("removed again", edu.set(0, 4, 0, -1), Errno::ENODEV)?;
    // Misaligned is the device's matter.
    edu.set(0x41, 4, 0, fd)?;
    Ok(edu.set(0x41, 4, 0, -1)?)
}

fn table_of_msix() -> Outcome {
    let opened = IGB.open()?;
    let config = opened.device.config()?;
    let Some(cap) = config.find_cap(0x11)? else {
        skip!("no MSI-X")
    };
    let table = config.read32(cap + 4)?;
    let (bar, start) = (table & 7, u64::from(table & !7));
    let end = start + 16 * (u64::from(config.read16(cap + 2)? & 0x7ff) + 1);
    let bar = opened.device.region(bar)?;
    let event = Event::new()?;
    let set = |at, size, fd| opened.device.ioeventfd(&bar, at, size, 0, fd);
    for (at, size) in [
        (start, 4),
        (start, 1),
        (start + 12, 4),
        (end - 1, 1),
        (end - 4, 8),
        (end - 8, 8),
    ] {
        let what = format!("{size} at {at:#x}");
        errno(&what, set(at, size, event.as_raw_fd()), Errno::EINVAL)?;
        errno(&what, set(at, size, -1), Errno::EINVAL)?;
    }
    if start >= 4 {
        errno(
            "into the table",
            set(start - 4, 8, event.as_raw_fd()),
            Errno::EINVAL,
        )?;
        set(start - 4, 4, event.as_raw_fd())?;
    }
    if end + 4 <= bar.size {
        set(end, 4, event.as_raw_fd())?;
    }
    Ok(())
}

/// Nothing is written while the device's memory is disabled, nor made up for after.
fn memory_disabled() -> Outcome {
    let edu = Doorbells::new()?;
    let event = Event::new()?;
    let config = edu.device().config()?;
    edu.device().write32(&edu.bar, LIVENESS, 1)?;
    edu.set(LIVENESS, 4, 0x99, event.as_raw_fd())?;
    config.update_command(COMMAND_MEMORY, 0)?;
    event.signal()?;
    sleep(GLANCE);
    same("left in the eventfd", event.take()?, None)?;
    config.update_command(0, COMMAND_MEMORY)?;
    same("register", edu.live()?, 1)?;
    event.signal()?;
    soon("register after", || edu.live(), 0x99)
}

/// A signal from before rings at once, and stays where the user can read it.
fn signalled_before_it_is_set() -> Outcome {
    let edu = Doorbells::new()?;
    let event = Event::new()?;
    edu.device().write32(&edu.bar, LIVENESS, 1)?;
    event.signal()?;
    edu.set(LIVENESS, 4, 0x98, event.as_raw_fd())?;
    soon("register", || edu.live(), 0x98)?;
    same("left in the eventfd", event.take()?, Some(1))
}

fn eventfd_is_closed_first() -> Outcome {
    let edu = Doorbells::new()?;
    let event = Event::new()?;
    edu.set(LIVENESS, 4, 1, event.as_raw_fd())?;
    drop(event);
    let event = Event::new()?;
    // Dead, but there.
    errno(
        "twice",
        edu.set(LIVENESS, 4, 1, event.as_raw_fd()),
        Errno::EEXIST,
    )?;
    edu.set(LIVENESS, 4, 1, -1)?;
    edu.set(LIVENESS, 4, 1, event.as_raw_fd())?;
    event.signal()?;
    soon("register", || edu.live(), 1)
}

fn a_thousand() -> Outcome {
    let edu = Doorbells::new()?;
    let event = Event::new()?;
    let fd = event.as_raw_fd();
    for data in 0..MAX as u64 {
        edu.set(LIVENESS, 4, data, fd)?;
    }
    errno("one more", edu.set(LIVENESS, 4, 1000, fd), Errno::ENOSPC)?;
    errno("one of them", edu.set(LIVENESS, 4, 999, fd), Errno::EEXIST)?;
    event.signal()?;
    soon(
        "all rang, some order",
        || Ok(u64::from(edu.live()? < 1000)),
        1,
    )?;
    edu.set(LIVENESS, 4, 500, -1)?;
    edu.set(LIVENESS, 4, 1000, fd)?;
    errno("one more", edu.set(LIVENESS, 4, 500, fd), Errno::ENOSPC)?;
    errno("closed and full", edu.set(0, 4, 500, 999), Errno::ENOSPC)?;
    // Each with an eventfd of its own, closed while armed.
    for data in 0..=MAX as u64 {
        let _ = edu.set(LIVENESS, 4, data, -1);
    }
    let limit = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, 4096.min(limit.1), limit.1)?;
    let all = events(MAX)?;
    for (data, event) in all.iter().enumerate() {
        edu.set(LIVENESS, 4, data as u64, event.as_raw_fd())?;
    }
    all[321].signal()?;
    soon("its own", || edu.live(), 321)?;
    drop(all);
    drop(edu.opened.device);
    Ok(())
}

fn closed_in_each_order() -> Outcome {
    const THINGS: usize = 4;
    let bound = EDU.bind()?;
    let mut orders = 0;
    for order in permutations(THINGS) {
        orders += 1;
        // On a slow kernel, a sample.
        if slowness() > 1 && orders % 5 != 0 {
            continue;
        }
        let opened = bound.clone().open()?;
        let bar = opened.device.region(0)?;
        let event = Event::new()?;
        for data in 0..8 {
            opened
                .device
                .ioeventfd(&bar, LIVENESS, 4, data, event.as_raw_fd())?;
        }
        event.signal()?;
        let mut things: Vec<Option<Box<dyn Any>>> = vec![
            Some(Box::new(event)),
            Some(Box::new(opened.device)),
            Some(Box::new(opened.group)),
            Some(Box::new(opened.container)),
        ];
        for thing in order {
            things[thing] = None;
        }
    }
    same("orders", orders, 24)
}

fn killed() -> Outcome {
    let bound = EDU.bind()?;
    for _ in 0..if slowness() > 1 { 1 } else { 5 } {
        let ready = Latch::new()?;
        let mut child = spawn(|| {
            let armed = || -> Outcome {
                let opened = bound.clone().open()?;
                let bar = opened.device.region(0)?;
                let event = Event::new()?;
                for data in 0..MAX as u64 {
                    opened
                        .device
                        .ioeventfd(&bar, LIVENESS, 4, data, event.as_raw_fd())?;
                }
                ready.open()?;
                loop {
                    event.signal()?;
                }
            };
            i32::from(armed().is_err())
        })?;
        ready.wait(PATIENCE * slowness())?;
        child.kill()?;
        bound.open_group()?;
    }
    Ok(())
}

/// Signals against removal, closing, disabled memory and reset.
fn racing() -> Outcome {
    let edu = Doorbells::new()?;
    let shared = Event::new()?;
    let turn = AtomicU32::new(0);
    let bodies: [&(dyn Fn() -> bool + Sync); 6] = [
        &|| shared.signal().is_ok(),
        &|| {
            let data = turn.fetch_add(1, Ordering::Relaxed) % 16;
            is_expected(
                edu.set(LIVENESS, 4, data.into(), shared.as_raw_fd()),
                &[Errno::EEXIST],
            )
        },
        &|| {
            let data = turn.fetch_add(1, Ordering::Relaxed) % 16;
            is_expected(edu.set(LIVENESS, 4, data.into(), -1), &[Errno::ENODEV])
        },
        &|| {
            Event::new().is_ok_and(|brief| {
                let set = edu.set(LIVENESS, 4, 77, brief.as_raw_fd());
                is_expected(set, &[Errno::EEXIST]) && brief.signal().is_ok()
            })
        },
        &|| is_expected(edu.set(LIVENESS, 4, 77, -1), &[Errno::ENODEV]),
        &|| {
            let config = edu.device().config();
            config.is_ok_and(|c| c.update_command(2, 0).is_ok() && c.update_command(0, 2).is_ok())
        },
    ];
    ensure!(
        race(Duration::from_secs(1), &bodies),
        "a call failed strangely"
    );
    // Taking one away waits for a write that it has under way.
    for data in (0..16).chain([77]) {
        let taken = edu.set(LIVENESS, 4, data, -1);
        ensure!(is_expected(taken, &[Errno::ENODEV]), "not taken away");
    }
    let event = Event::new()?;
    edu.set(LIVENESS, 4, 0xabc, event.as_raw_fd())?;
    event.signal()?;
    soon("register after", || edu.live(), 0xabc)
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    rings,
    eight_bytes,
    few_bytes,
    ports,
    errors,
    table_of_msix,
    memory_disabled,
    signalled_before_it_is_set,
    eventfd_is_closed_first,
    a_thousand,
    closed_in_each_order,
    killed,
    racing,
);
