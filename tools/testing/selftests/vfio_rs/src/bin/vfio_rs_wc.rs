// SPDX-License-Identifier: GPL-2.0
//! Write-combining maps of BARs, which C VFIO does not have: discovery, cache types as the kernel
//! notes them, the rules of exclusion, and what areas of maps do to the count of them.

use std::arch::x86_64::_mm_sfence;
use std::fs::{self, OpenOptions};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use vfio_client::Event;
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::region::Region;
use vfio_client::uapi::*;
use vfio_rs_selftests::setup::{
    EDU, IVSHMEM, Opened, PAGE, PATIENCE, VGA, is_rust_stack, read_trimmed, slowness,
};
use vfio_rs_selftests::{Outcome, ensure, errno, process, same, skip, suite};

const PARAMETER: &str = "/sys/module/vfio_pci/parameters/wc_mmap";
const MEMTYPES: &str = "/sys/kernel/debug/x86/pat_memtype_list";
const DOWNGRADED: &str = "/sys/kernel/debug/vfio/wc_downgraded";

/// An open device with a prefetchable BAR: that, by its normal offset and by the other.
struct Setup {
    opened: Opened,
    bar: Region,
    wc: Region,
    start: u64,
}

fn setup() -> anyhow::Result<Setup> {
    if !is_rust_stack() {
        skip!("C VFIO has no write-combining maps");
    }
    let bound = IVSHMEM.bind()?;
    let start = bound.pci.resource(2)?.0;
    let opened = bound.open()?;
    opened.device.config()?.update_command(0, COMMAND_MEMORY)?;
    let bar = opened.device.region(2)?;
    let wc = bar.write_combining.clone().context("no capability")?;
    Ok(Setup {
        opened,
        bar,
        wc: *wc,
        start,
    })
}

/// The type of what is noted at `start`.
fn memtype(start: u64) -> anyhow::Result<String> {
    let list = fs::read_to_string(MEMTYPES).context(MEMTYPES)?;
    let from = format!("[mem 0x{start:016x}-");
    let line = list.lines().find(|line| line.contains(&from));
    let kind = line.and_then(|line| line.split_whitespace().last());
    Ok(kind.unwrap_or("none").to_owned())
}

fn downgraded() -> anyhow::Result<u32> {
    Ok(read_trimmed(DOWNGRADED)?.parse()?)
}

/// The BAR is back to normal: it can be read, and is uncached then.
fn uncached_again(s: &Setup) -> Outcome {
    s.opened.device.read32(&s.bar, 0)?;
    same("type", memtype(s.start)?.as_str(), "uncached-minus")?;
    let map = s.opened.device.mmap(&s.bar, 0, PAGE as usize)?;
    let _ = map.read32(0);
    Ok(())
}

fn discovery() -> Outcome {
    let s = setup()?;
    same("flags", s.wc.flags, 1)?;
    same("size", s.wc.size, s.bar.size)?;
    same("offset", s.wc.offset, s.bar.offset | 1 << 62)?;
    same("BAR 0", s.opened.device.region(0)?.write_combining, None)?;
    let config = s.opened.device.region(VFIO_PCI_CONFIG_REGION_INDEX)?;
    same("configuration", config.write_combining, None)?;
    let edu = EDU.open()?;
    same("edu", edu.device.region(0)?.write_combining, None)
}

fn cache_types() -> Outcome {
    let s = setup()?;
    let before = downgraded()?;
    same("type before", memtype(s.start)?.as_str(), "none")?;
    s.opened.device.read32(&s.bar, 0)?;
    same(
        "type when read",
        memtype(s.start)?.as_str(),
        "uncached-minus",
    )?;
    // Small pages, then huge ones.
    for len in [4 * PAGE, s.bar.size] {
        let map = s.opened.device.mmap(&s.wc, 0, len as usize)?;
        for at in (0..len).step_by(1 << 20) {
            map.write32(at as usize, 1);
        }
        same("type", memtype(s.start)?.as_str(), "write-combining")?;
        same("pages that are not", downgraded()?, before)?;
        drop(map);
        uncached_again(&s)?;
    }
    Ok(())
}

fn data() -> Outcome {
    let s = setup()?;
    let len = 64 << 10;
    let map = s.opened.device.mmap(&s.wc, 0, len)?;
    for at in (0..len).step_by(4) {
        map.write32(at, (at as u32).wrapping_mul(0x9e37_79b9));
    }
    // SAFETY: every x86-64 processor has it.
    unsafe { _mm_sfence() };
    drop(map);
    let mut got = vec![0; len];
    s.opened.device.read(&s.bar, 0, &mut got)?;
    for (at, word) in got.chunks_exact(4).enumerate() {
        let want = (at as u32 * 4).wrapping_mul(0x9e37_79b9);
        same("word", u32::from_le_bytes(word.try_into()?), want)?;
    }
    Ok(())
}

fn exclusion() -> Outcome {
    let s = setup()?;
    let page = PAGE as usize;
    let device = &s.opened.device;
    let map = device.mmap(&s.bar, 0, page)?;
    errno("while uncached", device.mmap(&s.wc, 0, page), Errno::EBUSY)?;
    // Even where the maps do not meet.
    errno("elsewhere", device.mmap(&s.wc, 1 << 20, page), Errno::EBUSY)?;
    drop(map);
    let map = device.mmap(&s.wc, 0, page)?;
    let second = device.mmap(&s.wc, 0, 2 * page)?;
    errno(
        "while combining",
        device.mmap(&s.bar, 0, page),
        Errno::EBUSY,
    )?;
    drop(map);
    errno(
        "with one left",
        device.mmap(&s.bar, 1 << 20, page),
        Errno::EBUSY,
    )?;
    errno("read", device.read32(&s.bar, 0), Errno::EBUSY)?;
    errno("write", device.write32(&s.bar, 0, 0), Errno::EBUSY)?;
    // The rest of the device is as ever.
    device.read32(&device.region(0)?, 0)?;
    device.config()?.read32(0)?;
    drop(second);
    uncached_again(&s)
}

/// What writes to a BAR by itself needs it uncached.
fn ioeventfd() -> Outcome {
    let s = setup()?;
    let device = &s.opened.device;
    let event = Event::new()?;
    let (fd, width) = (event.as_raw_fd(), VFIO_DEVICE_IOEVENTFD_32);
    let map = device.mmap(&s.wc, 0, PAGE as usize)?;
    errno(
        "while combining",
        device.ioeventfd(&s.bar, 64, width, 1, fd),
        Errno::EBUSY,
    )?;
    drop(map);
    device.ioeventfd(&s.bar, 64, width, 1, fd)?;
    errno(
        "with an eventfd",
        device.mmap(&s.wc, 0, PAGE as usize),
        Errno::EBUSY,
    )?;
    event.signal()?;
    same("word", device.read32(&s.bar, 64)?, 1)?;
    device.ioeventfd(&s.bar, 64, width, 1, -1)?;
    drop(device.mmap(&s.wc, 0, PAGE as usize)?);
    uncached_again(&s)
}

fn misuse() -> Outcome {
    let s = setup()?;
    let device = &s.opened.device;
    let page = PAGE as usize;
    for index in [0u32, 1, 6, 7, 8, 9, 63, 1000] {
        let region = Region {
            offset: u64::from(index) << 40 | 1 << 62,
            ..s.wc.clone()
        };
        errno(
            &format!("region {index}"),
            device.mmap(&region, 0, page),
            Errno::EINVAL,
        )?;
    }
    errno(
        "behind the end",
        device.mmap(&s.wc, s.wc.size, page),
        Errno::EINVAL,
    )?;
    let last = s.wc.size - PAGE;
    errno(
        "over the end",
        device.mmap(&s.wc, last, 2 * page),
        Errno::EINVAL,
    )?;
    let private = device.mmap_flags(&s.wc, 0, page, MapFlags::MAP_PRIVATE);
    errno("private", private, Errno::EINVAL)?;
    errno("read there", device.read32(&s.wc, 0), Errno::EINVAL)?;
    errno("write there", device.write32(&s.wc, 0, 0), Errno::EINVAL)?;
    uncached_again(&s)
}

fn memory_disabled() -> Outcome {
    let s = setup()?;
    let config = s.opened.device.config()?;
    let before = downgraded()?;
    let map = s.opened.device.mmap(&s.wc, 0, 4 << 20)?;
    for _ in 0..3 {
        map.write32(0, 0x1234_5678);
        config.update_command(COMMAND_MEMORY, 0)?;
        let mut child = process::spawn(|| map.read32(0) as i32)?;
        let status = child.wait(PATIENCE * slowness())?;
        ensure!(
            matches!(status, WaitStatus::Signaled(_, Signal::SIGBUS, _)),
            "load from the map: {status:?}"
        );
        same("type", memtype(s.start)?.as_str(), "write-combining")?;
        config.update_command(0, COMMAND_MEMORY)?;
        same("the same word", map.read32(0), 0x1234_5678)?;
    }
    same("pages that are not", downgraded()?, before)?;
    drop(map);
    uncached_again(&s)
}

/// Memory goes away again and again under a writer.
fn memory_disabled_under_writer() -> Outcome {
    let s = setup()?;
    let config = s.opened.device.config()?;
    let map = s.opened.device.mmap(&s.wc, 0, 4 << 20)?;
    for round in 0..10u32 {
        let mut writer = process::spawn(|| {
            let mut at = 0;
            loop {
                map.write32(at, round);
                at = (at + 4) % (4 << 20);
            }
        })?;
        std::thread::sleep(std::time::Duration::from_millis(10));
        config.update_command(COMMAND_MEMORY, 0)?;
        let status = writer.wait(PATIENCE * slowness())?;
        ensure!(
            matches!(status, WaitStatus::Signaled(_, Signal::SIGBUS, _)),
            "writer: {status:?}"
        );
        config.update_command(0, COMMAND_MEMORY)?;
    }
    drop(map);
    uncached_again(&s)
}

fn fork() -> Outcome {
    let s = setup()?;
    let page = PAGE as usize;
    let map = s.opened.device.mmap(&s.wc, 0, page)?;
    for _ in 0..3 {
        let mut child = process::spawn(|| {
            map.write32(0, 7);
            i32::from(map.read32(0) != 7)
        })?;
        let status = child.wait(PATIENCE * slowness())?;
        ensure!(
            matches!(status, WaitStatus::Exited(_, 0)),
            "child: {status:?}"
        );
        errno(
            "one left",
            s.opened.device.mmap(&s.bar, 0, page),
            Errno::EBUSY,
        )?;
    }
    drop(map);
    uncached_again(&s)
}

/// Areas that are split, moved and partly removed are counted right.
fn areas() -> Outcome {
    let s = setup()?;
    let device = &s.opened.device;
    let page = PAGE as usize;
    let len = NonZeroUsize::new(8 * page).context("size")?;
    let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe {
        mmap(
            None,
            len,
            prot,
            MapFlags::MAP_SHARED,
            device,
            s.wc.offset as i64,
        )
    }?;
    let base = base.as_ptr().cast::<u8>();
    // SAFETY: all addresses lie in the mapping, and nobody else uses them.
    unsafe {
        base.cast::<u32>().write_volatile(5);
        // A hole, two pages read-only, the end moved elsewhere.
        munmap_at(base.add(3 * page), page)?;
        ensure!(
            libc::mprotect(base.cast(), 2 * page, libc::PROT_READ) == 0,
            "mprotect"
        );
        let moved = libc::mremap(
            base.add(6 * page).cast(),
            2 * page,
            2 * page,
            libc::MREMAP_MAYMOVE,
        );
        ensure!(moved == base.add(6 * page).cast(), "mremap in place");
        let grown = libc::mremap(moved, 2 * page, 4 * page, libc::MREMAP_MAYMOVE);
        ensure!(grown == libc::MAP_FAILED, "a map of a device grew");
        let room = mmap(
            None,
            len,
            ProtFlags::PROT_NONE,
            MapFlags::MAP_SHARED,
            device,
            s.wc.offset as i64,
        )?;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let to = room.as_ptr().cast::<u8>();
        let moved = libc::mremap(moved, 2 * page, 2 * page, flags, to);
        ensure!(moved == to.cast(), "mremap to a place");
        same("word", base.cast::<u32>().read_volatile(), 5)?;
        moved.cast::<u32>().write_volatile(6);
        for (at, pages) in [(base, 3), (base.add(4 * page), 2), (to.add(2 * page), 6)] {
            munmap_at(at, pages * page)?;
            errno("one left", device.mmap(&s.bar, 0, page), Errno::EBUSY)?;
        }
        munmap_at(to, 2 * page)?;
    }
    let mut word = [0; 4];
    device.read(&s.bar, 6 * PAGE, &mut word)?;
    same("word of the moved end", u32::from_le_bytes(word), 6)?;
    uncached_again(&s)
}

/// # Safety
/// As munmap(2).
unsafe fn munmap_at(at: *mut u8, len: usize) -> Outcome {
    let at = std::ptr::NonNull::new(at.cast()).context("address")?;
    // SAFETY: the caller's.
    Ok(unsafe { munmap(at, len) }?)
}

/// Somebody else's map of the same memory keeps its type; ours is counted as what it is.
fn alias_by_sysfs() -> Outcome {
    let s = setup()?;
    let before = downgraded()?;
    let alias = map_file(&s.opened.bound.pci.path().join("resource2"))?;
    // SAFETY: in the mapping.
    unsafe { alias.cast::<u32>().read_volatile() };
    let map = s.opened.device.mmap(&s.wc, 0, PAGE as usize)?;
    map.write32(0, 1);
    same("pages that are not", downgraded()?, before + 1)?;
    drop(map);
    // SAFETY: nobody uses it any more.
    unsafe { munmap_at(alias, PAGE as usize) }?;
    uncached_again(&s)
}

/// While the user has it mapped uncached, nobody has it write-combining. C sees to that from the
/// open on.
fn combined_by_sysfs() -> Outcome {
    for (kind, bar) in [(IVSHMEM, 2), (VGA, 0)] {
        let opened = kind.bind()?.open()?;
        let pci = &opened.bound.pci;
        opened.device.config()?.update_command(0, COMMAND_MEMORY)?;
        let region = opened.device.region(bar)?;
        let map = opened.device.mmap(&region, 0, PAGE as usize)?;
        let _ = map.read32(0);
        let alias = map_file(&pci.path().join(format!("resource{bar}_wc")))?;
        let start = pci.resource(bar as usize)?.0;
        same("type", memtype(start)?.as_str(), "uncached-minus")?;
        drop(map);
        // SAFETY: nobody uses it any more.
        unsafe { munmap_at(alias, PAGE as usize) }?;
    }
    Ok(())
}

fn map_file(path: &Path) -> anyhow::Result<*mut u8> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    ensure!(
        at != libc::MAP_FAILED,
        "map of sysfs' file: {}",
        Errno::last()
    );
    Ok(at.cast())
}

fn map_outlives_the_descriptor() -> Outcome {
    let Setup {
        opened, wc, start, ..
    } = setup()?;
    let map = opened.device.mmap(&wc, 0, 4 << 20)?;
    map.write32(0, 11);
    let group = opened.bound.group;
    drop((opened.device, opened.group, opened.container));
    same("word", map.read32(0), 11)?;
    same("type", memtype(start)?.as_str(), "write-combining")?;
    drop(map);
    same("type", memtype(start)?.as_str(), "none")?;
    vfio_client::Group::open(group)?;
    Ok(())
}

fn parameter() -> Outcome {
    drop(setup()?);
    let restore = Restore;
    fs::write(PARAMETER, "n")?;
    let opened = IVSHMEM.open()?;
    let bar = opened.device.region(2)?;
    same("capability", &bar.write_combining, &None)?;
    let wc = Region {
        offset: bar.offset | 1 << 62,
        ..bar
    };
    errno(
        "map",
        opened.device.mmap(&wc, 0, PAGE as usize),
        Errno::EINVAL,
    )?;
    drop(restore);
    Ok(())
}

struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = fs::write(PARAMETER, "y");
    }
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    discovery,
    cache_types,
    data,
    exclusion,
    ioeventfd,
    misuse,
    memory_disabled,
    memory_disabled_under_writer,
    fork,
    areas,
    alias_by_sysfs,
    combined_by_sysfs,
    map_outlives_the_descriptor,
    parameter,
);
