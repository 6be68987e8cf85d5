// SPDX-License-Identifier: GPL-2.0
//! BARs by read and write of any size and alignment, I/O ports, and BARs smaller than a page.

use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use std::{fs, io};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use vfio_client::DmaBuf;
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::uapi::*;
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::modules::TestModule;
use vfio_rs_selftests::setup::{
    E1000E, IVSHMEM, Kind, Opened, PAGE, PATIENCE, is_rust_stack, slowness,
};
use vfio_rs_selftests::{Context, Outcome, ensure, errno, process, same, skip, suite};

/// COMMAND: I/O port decoding on.
const COMMAND_IO: u16 = 0x1;

fn open(kind: Kind) -> anyhow::Result<Opened> {
    let opened = kind.open()?;
    opened
        .device
        .config()?
        .update_command(0, COMMAND_MEMORY | COMMAND_IO)?;
    Ok(opened)
}

/// Memory behaves as memory whatever the pieces are.
fn any_size_and_alignment() -> Outcome {
    let opened = open(IVSHMEM)?;
    let bar = opened.device.region(2)?;
    let mut model: Vec<u8> = (0..256u32).map(|i| (i * 7 + 3) as u8).collect();
    opened.device.write(&bar, 0, &model)?;
    for at in 0..20usize {
        for len in 0..20usize {
            let data: Vec<u8> = (0..len).map(|i| (at * 31 + len * 17 + i) as u8).collect();
            let what = format!("{len} bytes at {at}");
            same(&what, opened.device.write(&bar, at as u64, &data)?, len)?;
            model[at..at + len].copy_from_slice(&data);
            let mut got = vec![0; len];
            same(&what, opened.device.read(&bar, at as u64, &mut got)?, len)?;
            same(&what, &got, &data)?;
        }
    }
    let mut all = vec![0; 256];
    opened.device.read(&bar, 0, &mut all)?;
    same("all of it", all, model)?;
    // Larger than any buffer of the kernel's, and over the end.
    let large: Vec<u8> = (0..100_001u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    same(
        "large write",
        opened.device.write(&bar, 12_345, &large)?,
        large.len(),
    )?;
    let mut got = vec![0; large.len()];
    same(
        "large read",
        opened.device.read(&bar, 12_345, &mut got)?,
        large.len(),
    )?;
    ensure!(got == large, "100001 bytes came back changed");
    let mut end = [0; 64];
    same(
        "over the end",
        opened.device.read(&bar, bar.size - 13, &mut end)?,
        13,
    )?;
    errno(
        "at the end",
        opened.device.read(&bar, bar.size, &mut end),
        Errno::EINVAL,
    )
}

/// A buffer of which only the beginning is there: no count of bytes, though some were read or
/// written.
fn buffer_ends_early() -> Outcome {
    let opened = open(IVSHMEM)?;
    let bar = opened.device.region(2)?;
    let (len, page) = (20, PAGE as usize);
    let pages = NonZeroUsize::new(2 * page).context("size")?;
    let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: new pages, of which the second goes again before anybody uses them.
    let start = unsafe {
        let start = mmap_anonymous(None, pages, prot, MapFlags::MAP_PRIVATE)?.cast::<u8>();
        munmap(start.add(page).cast(), page)?;
        start.add(page - len)
    };
    let call = |write: bool| {
        let (fd, at) = (opened.device.as_raw_fd(), bar.offset as i64);
        // SAFETY: the kernel stops where the memory ends.
        let done = unsafe {
            match write {
                true => libc::pwrite(fd, start.as_ptr().cast(), 4 * len, at),
                false => libc::pread(fd, start.as_ptr().cast(), 4 * len, at),
            }
        };
        Errno::result(done).map_err(io::Error::from)
    };
    let old = [0x11u8; 80];
    opened.device.write(&bar, 0, &old)?;
    errno("read", call(false), Errno::EFAULT)?;
    // SAFETY: what is left of the pages.
    let buf = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) };
    same("read before the end", &buf[..16], &old[..16])?;
    buf.fill(0x22);
    errno("write", call(true), Errno::EFAULT)?;
    let mut got = [0; 80];
    opened.device.read(&bar, 0, &mut got)?;
    // The device saw what could be taken in whole pieces.
    same("written", &got[..16], &[0x22; 16][..])?;
    same("not written", &got[16..], &old[16..])
}

/// e1000e's registers through its two I/O ports: address, data.
fn ports() -> Outcome {
    let opened = open(E1000E)?;
    let (ports, memory) = (opened.device.region(2)?, opened.device.region(0)?);
    let flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    same("flags", ports.flags, flags)?;
    same("size", ports.size, 32)?;
    for register in [0x0, 0x8, 0x5400] {
        opened.device.write32(&ports, 0, register)?;
        let what = format!("register {register:#x}");
        same(
            &what,
            opened.device.read32(&ports, 4)?,
            opened.device.read32(&memory, register.into())?,
        )?;
        let mut half = [0; 2];
        same(&what, opened.device.read(&ports, 0, &mut half)?, 2)?;
        same(&what, u32::from(u16::from_le_bytes(half)), register)?;
    }
    let mut both = [0; 8];
    same("both at once", opened.device.read(&ports, 0, &mut both)?, 8)?;
    same(
        "address",
        both[..4].try_into().map(u32::from_le_bytes)?,
        0x5400,
    )?;
    errno(
        "map",
        opened.device.mmap(&ports, 0, PAGE as usize),
        Errno::EINVAL,
    )?;
    errno(
        "at the end",
        opened.device.read32(&ports, 32),
        Errno::EINVAL,
    )?;
    // Memory decoding is no matter of ports.
    opened.device.config()?.update_command(COMMAND_MEMORY, 0)?;
    errno("memory", opened.device.read32(&memory, 8), Errno::EIO)?;
    opened.device.read32(&ports, 0)?;
    Ok(())
}

/// Lines of /proc/iomem that name `what`.
fn iomem(what: &str) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string("/proc/iomem")?;
    let lines = text.lines().filter(|line| line.contains(what));
    Ok(lines.map(|line| line.trim().to_owned()).collect())
}

fn smaller_than_a_page() -> Outcome {
    const REST: &str = "vfio sub-page reserved";
    let bound = IVSHMEM.bind()?;
    let start = bound.pci.resource(0)?.0;
    same("reserved before", iomem(REST)?, vec![])?;
    let opened = bound.open()?;
    opened.device.config()?.update_command(0, COMMAND_MEMORY)?;
    let bar = opened.device.region(0)?;
    ensure!(
        bar.size > 0 && bar.size < PAGE,
        "BAR 0 has {:#x} bytes",
        bar.size
    );
    let aligned = start % PAGE == 0;
    same("whether it can be mapped", bar.can_mmap(), aligned)?;
    if !aligned {
        errno(
            "map",
            opened.device.mmap(&bar, 0, PAGE as usize),
            Errno::EINVAL,
        )?;
        skip!("BAR 0 at {start:#x} does not begin a page");
    }
    let want = format!("{:x}-{:x} : {REST}", start + bar.size, start + PAGE - 1);
    same("reserved", iomem(REST)?, vec![want])?;
    let map = opened.device.mmap(&bar, 0, PAGE as usize)?;
    // The interrupt mask is memory in effect.
    for value in [0, 0x5a5a_a5a5, 0] {
        opened.device.write32(&bar, 0, value)?;
        same("by the map", map.read32(0), value)?;
        map.write32(0, !value);
        same("by a read", opened.device.read32(&bar, 0)?, !value)?;
    }
    errno(
        "two pages",
        opened.device.mmap(&bar, 0, 2 * PAGE as usize),
        Errno::EINVAL,
    )?;
    errno(
        "behind the BAR",
        opened.device.read32(&bar, bar.size),
        Errno::EINVAL,
    )?;
    let mut over = [0; 16];
    same(
        "over the end",
        opened.device.read(&bar, bar.size - 4, &mut over)?,
        4,
    )?;
    drop((map, opened));
    same("reserved after", iomem(REST)?, vec![])
}

/// A BAR that somebody else has reserved is shown, and cannot be had.
fn held_by_somebody_else() -> Outcome {
    let bound = IVSHMEM.bind()?;
    let (first, last) = bound.pci.resource(2)?;
    let (start, len) = (
        format!("start={first:#x}"),
        format!("len={}", last - first + 1),
    );
    let holder = TestModule::load("vfio_rs_holder", &[&start, &len])?;
    let mut log = Kmsg::now()?;
    let opened = bound.open()?;
    opened.device.config()?.update_command(0, COMMAND_MEMORY)?;
    let bar = opened.device.region(2)?;
    same("size", bar.size, last - first + 1)?;
    ensure!(bar.can_mmap(), "flags {:#x}", bar.flags);
    let map = || opened.device.mmap(&bar, 0, PAGE as usize);
    errno("a map", map(), Errno::EBUSY)?;
    errno("a read", opened.device.read32(&bar, 0), Errno::EBUSY)?;
    if is_rust_stack() {
        log.expect("], /proc/iomem names who has it")?;
    }
    ensure!(
        !iomem("vfio-rs-holder")?.is_empty(),
        "/proc/iomem does not name it"
    );
    drop(holder);
    errno("while it is open", map(), Errno::EBUSY)
}

/// Memory that a child changes and its parent sees.
fn shared(len: usize) -> anyhow::Result<DmaBuf> {
    let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    Ok(DmaBuf::with_flags(len, both, MapFlags::MAP_SHARED)?)
}

/// A kill ends a read or write of all of a large BAR before its end.
fn killed_in_the_middle() -> Outcome {
    if !is_rust_stack() {
        skip!("C VFIO goes on to the end");
    }
    let opened = open(IVSHMEM)?;
    let bar = opened.device.region(2)?;
    let len = bar.size as usize;
    let (file, map) = (&opened.device, opened.device.mmap(&bar, 0, len)?);
    let buf = shared(len)?;
    for write in [false, true] {
        buf.fill(0x11);
        (0..len)
            .step_by(PAGE as usize)
            .for_each(|at| map.write32(at, 0x2222_2222));
        let (addr, fd) = (buf.addr() as *mut libc::c_void, file.as_raw_fd());
        let mut child = process::spawn(|| {
            let at = bar.offset as libc::off_t;
            // SAFETY: all of `buf`, of which nothing is borrowed.
            let done = unsafe {
                match write {
                    false => libc::pread(fd, addr, len, at),
                    true => libc::pwrite(fd, addr, len, at),
                }
            };
            i32::from(done != len as isize)
        })?;
        let end = Instant::now() + PATIENCE * slowness();
        let begun = |page: usize| match write {
            false => buf.get(page * PAGE as usize) == 0x22,
            true => map.read32(page * PAGE as usize) == 0x1111_1111,
        };
        while !begun(1) {
            ensure!(Instant::now() < end, "it does not begin");
            std::thread::sleep(Duration::from_millis(1));
        }
        kill(child.pid, Signal::SIGKILL)?;
        let status = child.wait(PATIENCE * slowness())?;
        let killed = WaitStatus::Signaled(child.pid, Signal::SIGKILL, false);
        if status != killed {
            // Fast enough to be over before the signal came.
            same("the child", status, WaitStatus::Exited(child.pid, 0))?;
            skip!("too fast to be killed");
        }
        ensure!(
            !begun(len / PAGE as usize - 1),
            "it went on to the end, write {write}"
        );
    }
    Ok(())
}

suite!(
    iommus: Vtd, debug: Answers;
    any_size_and_alignment,
    buffer_ends_early,
    ports,
    smaller_than_a_page,
    held_by_somebody_else,
    killed_in_the_middle,
);
