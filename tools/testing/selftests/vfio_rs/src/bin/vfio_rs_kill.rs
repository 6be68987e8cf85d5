// SPDX-License-Identifier: GPL-2.0
//! SIGKILL in the middle of a large map: everything is given back, and nobody is left waiting.
//!
//! `VFIO_RS_KILL_MIB` and `VFIO_RS_KILL_ROUNDS` make it larger: 2048 and 200 is the full size, which takes minutes.

use std::ffi::{c_int, c_void};
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, counters};
use vfio_rs_selftests::process::{self, Latch};
use vfio_rs_selftests::setup::{EDU, PATIENCE, number, open_edu, slowness};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, same, suite};

/// Where the map goes: above what an IOMMU of a PC reserves.
const AT: u64 = 4 << 30;

/// Bytes to map, and how often.
fn size() -> Result<(usize, u64)> {
    let (mib, rounds) = if slowness() > 1 { (8, 5) } else { (32, 8) };
    let mib = number("VFIO_RS_KILL_MIB", mib)? as usize;
    Ok((mib << 20, number("VFIO_RS_KILL_ROUNDS", rounds)?))
}

/// Memory that is not there yet, so that the map has to fault in each page: long enough to be hit.
fn untouched(len: usize) -> Result<DmaBuf> {
    let buf = DmaBuf::new(len)?;
    buf.advise_huge(false)?;
    Ok(buf)
}

/// How long the map takes when nobody disturbs it.
fn undisturbed(len: usize) -> Result<Duration> {
    let edu = open_edu()?;
    let buf = untouched(len)?;
    let start = Instant::now();
    edu.container.map_buf(&buf, AT)?;
    let took = start.elapsed();
    edu.container.unmap_all()?;
    Ok(took)
}

/// Sleeps for some part of `whole`.
fn sleep_part(rng: &mut Rng, whole: Duration) {
    std::thread::sleep(whole.mul_f64(rng.f64() * 0.9));
}

/// The pages that the system counts as pinned must be `want` again.
fn pinned_again(want: i64) -> Outcome {
    let patience = PATIENCE * slowness();
    let left = counters::wait_pinned_pages(want, patience)?;
    same("pinned pages", left, want)
}

/// The whole process goes: files, memory, and the map in progress.
fn with_all_it_has() -> Outcome {
    let (len, rounds) = size()?;
    let took = undisturbed(len)?;
    let mut rng = Rng::with_seed(3);
    let before = counters::pinned_pages()?;
    let mut hit = 0;
    for round in 0..rounds {
        let (started, done) = (Latch::new()?, Latch::new()?);
        let mut child = process::spawn(|| {
            let map = || -> Outcome {
                let edu = open_edu()?;
                let buf = untouched(len)?;
                started.open()?;
                edu.container.map_buf(&buf, AT)?;
                done.open()?;
                std::thread::sleep(PATIENCE * slowness());
                Ok(())
            };
            i32::from(map().is_err())
        })?;
        started.wait(PATIENCE * slowness())?;
        sleep_part(&mut rng, took);
        let status = child.kill()?;
        let killed = matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _));
        ensure!(killed, "round {round}: {status:?}");
        hit += u64::from(done.wait(Duration::ZERO).is_err());
        pinned_again(before).with_context(|| format!("round {round}"))?;
    }
    println!("# {hit} of {rounds} in the middle of the map, which takes {took:?}");
    ensure!(hit > 0, "no round was in time");
    Ok(())
}

/// What a process that shares this one's memory maps.
struct Shared<'a> {
    container: &'a Container,
    buf: &'a DmaBuf,
    started: &'a Latch,
}

/// What that process runs. No allocation and no unwinding here: the memory is the parent's.
extern "C" fn mapper(shared: *mut c_void) -> c_int {
    // SAFETY: `clone_mapper` passes one that outlives this process.
    let shared = unsafe { &*shared.cast::<Shared<'_>>() };
    let mapped = shared.started.open().is_ok() && shared.container.map_buf(shared.buf, AT).is_ok();
    c_int::from(!mapped)
}

/// Starts a process that has this one's memory, but dies alone, and has it map. The caller keeps `shared` and `stack` until
/// it has waited for the process.
fn clone_mapper(shared: &Shared<'_>, stack: &mut [u128]) -> Result<Pid> {
    let flags = libc::CLONE_VM | libc::SIGCHLD;
    let top = stack.as_mut_ptr_range().end.cast();
    let shared = std::ptr::from_ref(shared).cast_mut().cast();
    // SAFETY: the stack is the process's alone and aligned, and what it looks at lives long enough, see above.
    let pid = unsafe { libc::clone(mapper, top, flags, shared) };
    Ok(Pid::from_raw(Errno::result(pid)?))
}

/// The address space of the process stays, with its container: what was half done must be undone in both.
fn without_its_memory() -> Outcome {
    let (len, rounds) = size()?;
    let took = undisturbed(len)?;
    let (container, _group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let limit = container.iommu_info()?.dma_avail;
    let before = counters::pinned_pages()?;
    let mut rng = Rng::with_seed(4);
    let mut stack = vec![0u128; 16 << 10];
    let mut hit = 0;
    for round in 0..rounds {
        let buf = untouched(len)?;
        let started = Latch::new()?;
        let shared = Shared {
            container: &container,
            buf: &buf,
            started: &started,
        };
        let pid = clone_mapper(&shared, &mut stack)?;
        started.wait(PATIENCE * slowness())?;
        sleep_part(&mut rng, took);
        kill(pid, Signal::SIGKILL)?;
        let status = waitpid(pid, None)?;
        // Either all of it is there or nothing.
        let there = container.unmap_all()?;
        ensure!(
            there == 0 || there == len as u64,
            "{there:#x} bytes of {len:#x}"
        );
        hit += u64::from(there == 0);
        let what = format!("round {round}: {status:?}");
        same(&what, counters::locked_kib()?, 0)?;
        same(&what, container.iommu_info()?.dma_avail, limit)?;
        pinned_again(before).context(what)?;
        // And the same place can be used again.
        let page = DmaBuf::new(4096)?;
        container.map_buf(&page, AT)?;
        same("unmapped", container.unmap(AT, 4096)?, 4096)?;
    }
    println!("# {hit} of {rounds} in the middle of the map, which takes {took:?}");
    ensure!(hit > 0, "no round was in time");
    Ok(())
}

/// The map is there; the process goes while it unmaps.
fn while_unmapping() -> Outcome {
    let (len, rounds) = size()?;
    let before = counters::pinned_pages()?;
    let mut rng = Rng::with_seed(5);
    for round in 0..rounds.min(20) {
        let mapped = Latch::new()?;
        let mut child = process::spawn(|| {
            let body = || -> Outcome {
                let edu = open_edu()?;
                let buf = DmaBuf::new(len)?;
                loop {
                    edu.container.map_buf(&buf, AT)?;
                    mapped.open()?;
                    edu.container.unmap_all()?;
                }
            };
            i32::from(body().is_err())
        })?;
        mapped.wait(PATIENCE * slowness())?;
        sleep_part(&mut rng, Duration::from_millis(20));
        child.kill()?;
        pinned_again(before).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

suite!(with_all_it_has, without_its_memory, while_unmapping);
