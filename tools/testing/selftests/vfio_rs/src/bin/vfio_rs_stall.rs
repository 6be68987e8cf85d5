// SPDX-License-Identifier: GPL-2.0
//! A user whose own calls wait, for memory that does not come, keeps neither other users nor other
//! devices waiting.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use vfio_client::container::RawBitmap;
use vfio_client::uapi::*;
use vfio_client::{DmaBuf, counters};
use vfio_rs_selftests::absent::{Absent, Call, wait_stuck};
use vfio_rs_selftests::merge::{EduGroup, edu_groups};
use vfio_rs_selftests::modules::TestModule;
use vfio_rs_selftests::pamu::{self, MIB};
use vfio_rs_selftests::process::{self, Child, Latch};
use vfio_rs_selftests::setup::{
    Bound, E1000E, EDU, IGB, IOVA, PAGE, PATIENCE, is_rust_stack, slowness,
};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite};

/// Maps memory that does not come, which a group that joins the container waits for. It loses its
/// device meanwhile.
fn wait_for_oneself(
    [first, second]: &[Bound; 2],
    third: &EduGroup,
    ready: &Latch,
    end: &Latch,
) -> Outcome {
    let (container, _first) = first.attach(VFIO_TYPE1v2_IOMMU)?;
    let (second, third) = (second.open_group()?, third.open()?);
    let absent = Absent::new(1)?;
    scope(|threads| {
        let map = Call::begin(threads, || Ok(container.map_buf(&absent.buf, IOVA)?))?;
        absent.wait_wanted()?;
        let join = Call::begin(threads, || Ok(second.set_container(&container)))?;
        join.wait_stuck()?;
        // Who waits has locked no group.
        second.merge(&third)?;
        ready.open()?;
        let ended = end.wait(6 * PATIENCE * slowness());
        absent.let_come()?;
        map.end()?;
        errno("the group without a device", join.end()?, Errno::ENODEV)?;
        ended
    })
}

fn start(body: impl FnOnce() -> Outcome) -> Result<Child> {
    process::spawn(|| match body() {
        Ok(()) => 0,
        Err(e) => {
            println!("# {e:#}");
            1
        }
    })
}

/// What an administrator does with a device whose user waits, and with others.
fn administer(devices: &[&Bound]) -> Outcome {
    for file in ["groups", "mappings"] {
        let path = Path::new("/sys/kernel/debug/vfio_rs").join(file);
        if path.exists() {
            let mut look = start(|| Ok(fs::read_to_string(&path).map(drop)?))?;
            look.ended_well(&format!("reading {file}"))?;
        }
    }
    for device in devices {
        let mut unbind = start(|| Ok(device.pci.unbind()?))?;
        unbind.ended_well(&format!("unbinding {}", device.pci.address))?;
    }
    Ok(())
}

fn others_go_on() -> Outcome {
    let groups: [EduGroup; 3] = edu_groups()?;
    let own = [E1000E.bind()?, IGB.bind()?];
    let (ready, end) = (Latch::new()?, Latch::new()?);
    let mut user = start(|| wait_for_oneself(&own, &groups[2], &ready, &end))?;
    ready.wait(PATIENCE * slowness())?;

    let mut other = start(|| {
        let (leader, member) = (groups[0].open()?, groups[1].open()?);
        leader.merge(&member)?;
        Ok(leader.split(&member)?)
    })?;
    other.ended_well("a merge of other groups")?;
    // The one that waits to join first, then the one for whose container the memory is to come.
    administer(&[&own[1], &own[0], &groups[0].devices[0]])?;
    groups[0].devices[0].pci.bind_vfio()?;

    end.open()?;
    user.ended_well("the user")?;
    own[1].pci.bind_vfio()?;
    Ok(own[0].pci.bind_vfio()?)
}

/// Whoever waits for somebody else's map can be killed.
fn who_waits_can_be_killed() -> Outcome {
    if !is_rust_stack() {
        skip!("there nobody can");
    }
    let (container, _group) = E1000E.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let other = IGB.bind()?.open_group()?;
    let absent = Absent::new(1)?;
    let new = DmaBuf::new(PAGE as usize)?;
    let mut words = [0u64];
    let bitmap = RawBitmap::of(&mut words, PAGE);
    container.dirty_pages(VFIO_IOMMU_DIRTY_PAGES_FLAG_START)?;
    scope(|threads| {
        let map = Call::begin(threads, || Ok(container.map_buf(&absent.buf, IOVA)?))?;
        absent.wait_wanted()?;
        let killed = |what: &str, call: &dyn Fn() -> bool| -> Outcome {
            let status = process::twin(&|| call(), |pid| {
                wait_stuck(&pid.to_string())?;
                Ok(kill(pid, Signal::SIGKILL)?)
            })?;
            let dead = matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _));
            ensure!(dead, "{what}: {status:?}");
            Ok(())
        };
        killed("an unmap", &|| container.unmap(IOVA, PAGE).is_ok())?;
        killed("an unmap of all", &|| container.unmap_all().is_ok())?;
        let unmap = || container.unmap_dirty(0, IOVA, PAGE, bitmap).is_ok();
        killed("an unmap with a bitmap", &unmap)?;
        killed("a bitmap", &|| {
            container.dirty_bitmap(IOVA, PAGE, bitmap).is_ok()
        })?;
        killed("a group that joins", &|| {
            other.set_container(&container).is_ok()
        })?;
        // A map behind an unmap that waits.
        let unmap = Call::begin(threads, || Ok(container.unmap_all()?))?;
        unmap.wait_stuck()?;
        killed("a map", &|| container.map_buf(&new, IOVA + PAGE).is_ok())?;
        absent.let_come()?;
        map.end()?;
        same("unmapped", unmap.end()?, PAGE)
    })?;
    // Nobody is waited for any more.
    container.map_buf(&new, IOVA)?;
    other.set_container(&container)?;
    same("unmapped in the end", container.unmap_all()?, PAGE)
}

/// Kilobytes that a process has locked.
fn locked_by(pid: Pid) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no VmLck")?.parse()?)
}

/// The process that mapped keeps its own mmap_lock. Whoever has the container closes it, and the
/// memory is no longer counted when the lock is free.
fn last_close_waits_for_no_other_process() -> Outcome {
    if !is_rust_stack() {
        skip!("there it waits");
    }
    let (container, group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let (mapped, end) = (Latch::new()?, Latch::new()?);
    let mut owner = start(|| {
        let buf = DmaBuf::new(4 * PAGE as usize)?;
        container.map_buf(&buf, IOVA)?;
        for fd in [group.as_raw_fd(), container.as_raw_fd()] {
            // SAFETY: the child's copies, which it does not use again.
            unsafe { libc::close(fd) };
        }
        mapped.open()?;
        end.wait(6 * PATIENCE * slowness())
    })?;
    mapped.wait(PATIENCE * slowness())?;
    same("locked", locked_by(owner.pid)?, 4 * PAGE / 1024)?;
    let hold = TestModule::load("vfio_rs_hold", &[&format!("pid={}", owner.pid)])?;
    scope(|threads| {
        let close = Call::begin(threads, || {
            drop((container, group));
            Ok(())
        })?;
        let done = close.wait_done_or_stuck();
        drop(hold);
        close.end()?;
        ensure!(done?, "the last close waits for who mapped");
        Ok(())
    })?;
    let until = Instant::now() + PATIENCE * slowness();
    while locked_by(owner.pid)? != 0 {
        ensure!(Instant::now() < until, "it stays counted");
        sleep(Duration::from_millis(5));
    }
    end.open()?;
    owner.ended_well("who mapped")
}

/// A user who waits for their own mmap_lock keeps nobody else waiting.
fn own_lock_keeps_no_other_waiting() -> Outcome {
    if !is_rust_stack() {
        skip!("there it does");
    }
    let bound = EDU.bind()?;
    let (ready, go) = (Latch::new()?, Latch::new()?);
    let mut user = start(|| {
        let (container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
        let buf = DmaBuf::new(4 * PAGE as usize)?;
        container.map_buf(&buf, IOVA)?;
        ready.open()?;
        go.wait(6 * PATIENCE * slowness())?;
        group.unset_container()?;
        same("locked", counters::locked_kib()?, 0)
    })?;
    ready.wait(PATIENCE * slowness())?;
    let hold = TestModule::load("vfio_rs_hold", &[&format!("pid={}", user.pid)])?;
    go.open()?;
    wait_stuck(&user.pid.to_string())?;
    let administered = administer(&[&bound]);
    drop(hold);
    user.ended_well("the user")?;
    administered?;
    Ok(bound.pci.bind_vfio()?)
}

/// A map in windows looks whether a page of a bank is among those that came, while a group that
/// joins waits for it.
fn bank_page_against_an_attach() -> Outcome {
    let _banks = pamu::banks(1)?;
    let opened = pamu::open_with(8 * MIB, 8)?;
    let container = &opened.container;
    container.set_msi_mode(1)?;
    let other = pamu::second_edu()?;
    let group = other.open_group()?;
    let absent = Absent::new(2)?;
    let bank = opened.group.msi_fd(0)?;
    let second = absent.buf.addr() + PAGE;
    // SAFETY: over memory of our own that nobody looks at.
    let over = unsafe {
        libc::mmap(
            second as *mut libc::c_void,
            PAGE as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_FIXED,
            bank.as_raw_fd(),
            0,
        )
    };
    same("mapped over", over as u64, second)?;
    scope(|threads| {
        let addr = absent.buf.addr();
        let map = move || Ok(container.map(VFIO_DMA_MAP_FLAG_WRITE, addr, MIB, 2 * PAGE));
        let map = Call::begin(threads, map)?;
        absent.wait_wanted()?;
        let join = Call::begin(threads, || Ok(group.set_container(container)?))?;
        join.wait_stuck()?;
        absent.let_come()?;
        errno("a bank and more", map.end()?, Errno::EINVAL)?;
        join.end()
    })
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    others_go_on,
    who_waits_can_be_killed,
    last_close_waits_for_no_other_process,
    own_lock_keeps_no_other_waiting,
    bank_page_against_an_attach,
);
