// SPDX-License-Identifier: GPL-2.0
//! type2: windows for banks of MSI registers, in all three ways. The banks are the test provider's:
//! plain memory.

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use vfio_client::pamu::*;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Edu, Event, Group, counters};
use vfio_rs_selftests::irq::{events, fds};
use vfio_rs_selftests::pamu::{self, MIB, banks, cut, map, memory, open, open_with, write_word};
use vfio_rs_selftests::process::{self, Latch};
use vfio_rs_selftests::setup::{EDU, Opened, PAGE, PATIENCE, slowness};
use vfio_rs_selftests::{Outcome, Result, ensure, errno, same, suite};

const READ: u32 = VFIO_DMA_MAP_FLAG_READ;
const WRITE: u32 = VFIO_DMA_MAP_FLAG_WRITE;
const MSI: u32 = VFIO_PCI_MSI_IRQ_INDEX;

/// edu with eight windows of 1 MiB and a page in the first, from which it takes what it writes.
struct Eight {
    opened: Opened,
    page: DmaBuf,
}

impl Eight {
    fn new() -> Result<Self> {
        let opened = open_with(8 * MIB, 8)?;
        let page = memory(1)?;
        Ok(Self { opened, page })
    }

    fn container(&self) -> &Container {
        &self.opened.container
    }

    fn explicit() -> Result<Self> {
        let eight = Self::new()?;
        eight.container().set_msi_mode(1)?;
        eight.map_page()?;
        Ok(eight)
    }

    fn map_page(&self) -> Outcome {
        Ok(map(self.container(), &self.page, 0)?)
    }

    /// Whether what edu writes to register `at` of window `window` shows up in bank `bank`.
    fn shows(&self, edu: &Edu<'_>, window: u64, bank: u32, at: usize) -> Result<bool> {
        let shown = self.opened.group.msi_fd(bank)?.map()?;
        shown.set(at, 7);
        let iova = window * MIB + 4 * at as u64;
        write_word(edu, &self.page, 0, iova, 0xabcd_ef01)?;
        Ok(shown.get(at) == 0xabcd_ef01)
    }

    fn on(&self) -> Result<Vec<Event>> {
        let events = events(1)?;
        self.opened.device.enable_irqs(MSI, &fds(&events))?;
        Ok(events)
    }
}

/// Way A.
fn implicit() -> Outcome {
    let _banks = banks(3)?;
    let eight = Eight::new()?;
    eight.map_page()?;
    let container = eight.container();
    same("banks", container.msi_banks()?, 3)?;
    let [word, first, ..] = container.pamu_get(VFIO_ATTR_MSI)?;
    same(
        "mode, banks, first",
        (halves(word), first),
        ((0, 3), 5 * MIB),
    )?;
    let edu = Edu::new(&eight.opened.device)?;
    ensure!(!eight.shows(&edu, 5, 0, 0)?, "reached with MSI off");
    let events = eight.on()?;
    for bank in [0, 2] {
        let window = 5 + u64::from(bank);
        ensure!(
            eight.shows(&edu, window, bank, 1023)?,
            "bank {bank} is not reached"
        );
    }
    // The interrupt itself is remapped and comes as ever.
    edu.raise_irq(1)?;
    ensure!(
        events[0].wait(PATIENCE * slowness())?.is_some(),
        "no interrupt"
    );
    edu.ack_irq(1)?;
    // A device may write to a bank and not read it.
    let shown = eight.opened.group.msi_fd(1)?.map()?;
    shown.set(0, 0x7777_7777);
    edu.fetch(0, 4)?;
    edu.fetch(6 * MIB, 4)?;
    eight.page.put(0, &[0; 4]);
    edu.store(0, 4)?;
    ensure!(eight.page.copy(0, 4) != [0x77; 4], "a bank can be read");
    // None of this is the user's: maps are refused, unmaps do not see it.
    errno("map", map(container, &memory(1)?, 5 * MIB), Errno::EBUSY)?;
    errno("set", container.set_windows(16), Errno::EBUSY)?;
    errno("mode", container.set_msi_mode(1), Errno::EBUSY)?;
    same("unmapped", container.unmap(0, 8 * MIB)?, PAGE)?;
    eight.map_page()?;
    same("unmapped", container.unmap(6 * MIB, MIB)?, 0)?;
    ensure!(eight.shows(&edu, 7, 2, 0)?, "unmapped by the user");
    eight.opened.device.disable_irqs(MSI)?;
    ensure!(!eight.shows(&edu, 7, 2, 0)?, "reached with MSI off again");
    // With INTx there are no messages.
    let intx = events_of_intx(&eight.opened)?;
    ensure!(!eight.shows(&edu, 7, 2, 0)?, "reached with INTx on");
    drop((intx, edu));
    eight.opened.device.disable_irqs(VFIO_PCI_INTX_IRQ_INDEX)?;
    let _events = eight.on()?;
    drop(eight);
    Ok(())
}

fn events_of_intx(opened: &Opened) -> Result<Vec<Event>> {
    let events = events(1)?;
    let index = VFIO_PCI_INTX_IRQ_INDEX;
    opened.device.enable_irqs(index, &fds(&events))?;
    Ok(events)
}

fn implicit_without_room() -> Outcome {
    let _banks = banks(3)?;
    let opened = open()?;
    let container = &opened.container;
    let events = events(1)?;
    let on = || opened.device.enable_irqs(MSI, &fds(&events));
    errno("no windows", on(), Errno::ENOSPC)?;
    cut(container, 2 * MIB, 2)?;
    errno("two windows", on(), Errno::ENOSPC)?;
    errno(
        "no vector stays",
        opened.device.disable_irqs(MSI),
        Errno::EINVAL,
    )?;
    cut(container, 4 * MIB, 4)?;
    on()?;
    opened.device.disable_irqs(MSI)?;
    // In the explicit mode the kernel needs no window.
    cut(container, 2 * MIB, 2)?;
    container.set_msi_mode(1)?;
    on()?;
    errno("mode with MSI on", container.set_msi_mode(0), Errno::EBUSY)?;
    opened.device.disable_irqs(MSI)?;
    container.set_msi_mode(0)?;
    // One of the last windows has the doorbell of x86.
    container.set_geometry(0, (1 << 32) - 1)?;
    container.set_windows(64)?;
    container.set_geometry(0xc000_0000, 0xffff_ffff)?;
    container.set_windows(4)?;
    errno("reserved", on(), Errno::EINVAL)?;
    same("mapped", container.unmap_all()?, 0)
}

fn implicit_with_two_devices() -> Outcome {
    let _banks = banks(2)?;
    let eight = Eight::new()?;
    eight.map_page()?;
    let other = pamu::second_edu()?;
    let group = other.open_group()?;
    let _events = eight.on()?;
    // It joins with MSI on.
    group.set_container(eight.container())?;
    let device = group.device(&other.pci.address)?;
    let edu = Edu::new(&device)?;
    ensure!(eight.shows(&edu, 6, 0, 9)?, "not reached by the second");
    let events = events(1)?;
    device.enable_irqs(MSI, &fds(&events))?;
    eight.opened.device.disable_irqs(MSI)?;
    ensure!(eight.shows(&edu, 7, 1, 9)?, "gone with the first");
    device.disable_irqs(MSI)?;
    ensure!(!eight.shows(&edu, 7, 1, 9)?, "there with MSI off");
    Ok(())
}

/// Way B.
fn by_flag_and_by_number() -> Outcome {
    let _banks = banks(3)?;
    let eight = Eight::explicit()?;
    let container = eight.container();
    same(
        "first",
        container.pamu_get(VFIO_ATTR_MSI)?[..2].to_vec(),
        vec![word(1, 3), 0],
    )?;
    container.map_banks(2 * MIB, 3 * MIB)?;
    same("locked", counters::locked_kib()?, PAGE / 1024)?;
    let edu = Edu::new(&eight.opened.device)?;
    for bank in 0..3 {
        ensure!(
            eight.shows(&edu, 2 + u64::from(bank), bank, 5)?,
            "bank {bank} is not reached"
        );
    }
    errno(
        "again",
        container.map_banks(3 * MIB, 3 * MIB),
        Errno::EEXIST,
    )?;
    errno(
        "memory",
        map(container, &memory(1)?, 3 * MIB),
        Errno::EEXIST,
    )?;
    same("unmapped", container.unmap(2 * MIB, 2 * MIB)?, 2 * PAGE)?;
    ensure!(!eight.shows(&edu, 3, 1, 5)?, "reached after the unmap");
    ensure!(eight.shows(&edu, 4, 2, 5)?, "gone with the others");
    container.map_bank(2, 7 * MIB)?;
    ensure!(eight.shows(&edu, 7, 2, 5)?, "not reached by number");
    container.unmap_bank(7 * MIB)?;
    ensure!(
        !eight.shows(&edu, 7, 2, 5)?,
        "reached after the unmap by number"
    );
    errno("again", container.unmap_bank(7 * MIB), Errno::ENOENT)?;
    errno("memory", container.unmap_bank(0), Errno::ENOENT)?;
    same("left", container.unmap_all()?, 2 * PAGE)
}

fn flag_and_number_misused() -> Outcome {
    let _banks = banks(3)?;
    let eight = Eight::explicit()?;
    let container = eight.container();
    let flag = VFIO_DMA_MAP_FLAG_MSI;
    let wrong = [
        ("read", container.map(flag | READ | WRITE, 0, MIB, 3 * MIB)),
        ("only read", container.map(flag | READ, 0, MIB, 3 * MIB)),
        ("neither", container.map(flag, 0, MIB, 3 * MIB)),
        (
            "vaddr",
            container.map(flag | WRITE, eight.page.addr(), MIB, 3 * MIB),
        ),
        ("two windows", container.map_banks(MIB, 2 * MIB)),
        ("four windows", container.map_banks(MIB, 4 * MIB)),
        ("a page", container.map_banks(MIB, PAGE)),
        ("24 KiB", container.map_banks(MIB, 6 * PAGE)),
        ("in a window", container.map_banks(MIB + PAGE, 3 * MIB)),
        ("over the end", container.map_banks(6 * MIB, 3 * MIB)),
        ("no such bank", container.map_bank(3, MIB)),
        ("no bank at all", container.map_bank(u32::MAX, MIB)),
        ("bank in a window", container.map_bank(0, MIB + PAGE)),
        ("bank outside", container.map_bank(0, 8 * MIB)),
        ("bank at the end", container.map_bank(0, u64::MAX)),
        ("unmap in a window", container.unmap_bank(MIB + 1)),
    ];
    for (what, result) in wrong {
        errno(what, result, Errno::EINVAL)?;
    }
    same("mapped", container.unmap_all()?, PAGE)?;
    // All or nothing: the third window is taken.
    map(container, &eight.page, 3 * MIB)?;
    errno("taken", container.map_banks(MIB, 3 * MIB), Errno::EEXIST)?;
    same("mapped", container.unmap_all()?, PAGE)?;
    // The implicit mode has no explicit windows.
    container.set_msi_mode(0)?;
    errno("flag", container.map_banks(MIB, 3 * MIB), Errno::EINVAL)?;
    errno("number", container.map_bank(0, MIB), Errno::EINVAL)?;
    errno("the kernel's", container.map_bank(0, 7 * MIB), Errno::EBUSY)?;
    errno("the kernel's", container.unmap_bank(7 * MIB), Errno::EBUSY)?;
    errno("mode 2", container.set_msi_mode(2), Errno::EINVAL)
}

/// Way C.
fn by_descriptor() -> Outcome {
    let _banks = banks(2)?;
    let eight = Eight::explicit()?;
    let (container, group) = (eight.container(), &eight.opened.group);
    let fd = group.msi_fd(1)?;
    same("size", fd.size, PAGE as u32)?;
    let bank = fd.map()?;
    same("zeros", bank.get(3), 0)?;
    container.map(WRITE, bank.addr(), 4 * MIB, PAGE)?;
    let edu = Edu::new(&eight.opened.device)?;
    write_word(&edu, &eight.page, 0, 4 * MIB + 12, 0xfeed_0001)?;
    same("register", bank.get(3), 0xfeed_0001)?;
    // Another descriptor shows the same, and bank 0 another one.
    same("again", group.msi_fd(1)?.map()?.get(3), 0xfeed_0001)?;
    same("the other bank", group.msi_fd(0)?.map()?.get(3), 0)?;
    errno(
        "read",
        container.map(READ | WRITE, bank.addr(), 5 * MIB, PAGE),
        Errno::EINVAL,
    )?;
    errno(
        "only read",
        container.map(READ, bank.addr(), 5 * MIB, PAGE),
        Errno::EINVAL,
    )?;
    container.unmap(4 * MIB, MIB)?;
    same("left", container.unmap_all()?, PAGE)?;
    container.set_msi_mode(0)?;
    errno(
        "implicit",
        container.map(WRITE, bank.addr(), MIB, PAGE),
        Errno::EINVAL,
    )?;
    same("locked", counters::locked_kib()?, 0)
}

fn descriptor_misused() -> Outcome {
    let _banks = banks(2)?;
    let eight = Eight::explicit()?;
    let group = &eight.opened.group;
    errno("no such bank", group.msi_fd(2), Errno::EINVAL)?;
    let fd = group.msi_fd(0)?;
    let _twice = group.msi_fd(0)?;
    let rw = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let page = PAGE as usize;
    let shared = MapFlags::MAP_SHARED;
    let wrong = [
        ("private", fd.map_as(page, rw, MapFlags::MAP_PRIVATE, 0)),
        ("too long", fd.map_as(2 * page, rw, shared, 0)),
        ("behind", fd.map_as(page, rw, shared, 4096)),
    ];
    for (what, result) in wrong {
        errno(what, result, Errno::EINVAL)?;
    }
    // The kernel lets nobody execute a file that has no name.
    let executable = fd.map_as(page, rw | ProtFlags::PROT_EXEC, shared, 0);
    errno("executable", executable, Errno::EPERM)?;
    let _read_only = fd.map_as(page, ProtFlags::PROT_READ, shared, 0)?;
    let map = fd.map()?;
    // SAFETY: the map stays as it is, as this is refused.
    let ret = unsafe { libc::mprotect(map.addr() as *mut libc::c_void, page, libc::PROT_EXEC) };
    same("made executable", ret, -1)?;
    let unknown = vfio_client::sys::with_value(&fd, UNKNOWN_IOCTL, 0);
    errno("ioctl", unknown, Errno::ENOTTY)?;
    // Two pages of which one is a bank's.
    let two = DmaBuf::new(2 * page)?;
    // SAFETY: over memory of our own, which is used through `two` only.
    let over = unsafe {
        use std::os::fd::AsRawFd;
        libc::mmap(
            two.addr() as *mut libc::c_void,
            page,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_FIXED,
            fd.as_raw_fd(),
            0,
        )
    };
    same("mapped over", over as u64, two.addr())?;
    let both = eight.container().map(WRITE, two.addr(), MIB, 2 * PAGE);
    errno("a bank and more", both, Errno::EINVAL)?;
    same("locked", counters::locked_kib()?, PAGE / 1024)
}

fn no_banks() -> Outcome {
    let eight = Eight::explicit()?;
    let container = eight.container();
    same("banks", container.msi_banks()?, 0)?;
    errno("flag", container.map_banks(MIB, MIB), Errno::ENODEV)?;
    errno("number", container.map_bank(0, MIB), Errno::ENODEV)?;
    errno("unmap", container.unmap_bank(MIB), Errno::ENODEV)?;
    errno("descriptor", eight.opened.group.msi_fd(0), Errno::ENODEV)?;
    eight.container().unmap_all()?;
    container.set_msi_mode(0)?;
    // Nothing is kept, and MSI works.
    map(container, &eight.page, 7 * MIB)?;
    let events = eight.on()?;
    let edu = Edu::new(&eight.opened.device)?;
    edu.raise_irq(1)?;
    ensure!(
        events[0].wait(PATIENCE * slowness())?.is_some(),
        "no interrupt"
    );
    same("unmapped", container.unmap_all()?, PAGE)
}

fn descriptor_without_a_backend() -> Outcome {
    let _banks = banks(1)?;
    let bound = EDU.bind()?;
    let group = bound.open_group()?;
    errno("no container", group.msi_fd(0), Errno::EINVAL)?;
    let container = Container::open()?;
    group.set_container(&container)?;
    errno("no backend", group.msi_fd(0), Errno::EINVAL)?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    errno("type1", group.msi_fd(0), Errno::ENODEV)
}

/// What a child that touches `map` dies of, if it does.
fn touched(map: &BankMap) -> Result<WaitStatus> {
    let mut child = process::spawn(|| map.get(0) as i32)?;
    child.wait(PATIENCE * slowness())
}

fn bank_after_its_group_left() -> Outcome {
    let _banks = banks(1)?;
    let eight = Eight::explicit()?;
    let Eight { opened, page } = eight;
    let fd = opened.group.msi_fd(0)?;
    let map = fd.map()?;
    let late = fd.map()?;
    map.set(0, 0);
    ensure!(
        matches!(touched(&map)?, WaitStatus::Exited(_, 0)),
        "not there"
    );
    opened.container.map(WRITE, map.addr(), MIB, PAGE)?;
    drop(opened.device);
    opened.group.unset_container()?;
    same("locked", counters::locked_kib()?, 0)?;
    for map in [&map, &late, &fd.map()?] {
        let status = touched(map)?;
        ensure!(
            matches!(status, WaitStatus::Signaled(_, Signal::SIGBUS, _)),
            "{status:?}"
        );
    }
    // The descriptor holds the group's file, but not the container.
    drop((opened.group, page));
    let number = opened.bound.group;
    errno("group", Group::open(number), Errno::EBUSY)?;
    drop((fd, map, late));
    Group::open(number)?;
    Ok(())
}

fn killed_with_msi_on() -> Outcome {
    let _banks = banks(3)?;
    pamu::needed()?;
    let ready = Latch::new()?;
    let mut child = process::spawn(|| {
        let body = || -> Outcome {
            let eight = Eight::new()?;
            eight.map_page()?;
            let _events = eight.on()?;
            let _fd = eight.opened.group.msi_fd(0)?.map()?;
            ready.open()?;
            std::thread::sleep(PATIENCE * slowness());
            Ok(())
        };
        i32::from(body().is_err())
    })?;
    ready.wait(PATIENCE * slowness())?;
    child.kill()?;
    // All is free again.
    let eight = Eight::new()?;
    let _events = eight.on()?;
    Ok(())
}

suite!(
    iommus: All, debug: Answers;
    implicit,
    implicit_without_room,
    implicit_with_two_devices,
    by_flag_and_by_number,
    flag_and_number_misused,
    by_descriptor,
    descriptor_misused,
    no_banks,
    descriptor_without_a_backend,
    bank_after_its_group_left,
    killed_with_msi_on,
);
