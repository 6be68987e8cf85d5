// SPDX-License-Identifier: GPL-2.0
//! SIGKILL in the middle of a large map: everything is given back, and nobody is left waiting.
//!
//! `VFIO_RS_KILL_MIB` and `VFIO_RS_KILL_ROUNDS` make it larger: 2048 and 200 is the full size. Most
//! rounds of that map memory that is there already, or each would first have half a million page
//! faults; a test so takes some ten minutes, which `VFIO_RS_TIMEOUT` has to grant.

use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::sys::mman::{MapFlags, ProtFlags};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use vfio_client::dma::PageSize;
use vfio_client::uapi::*;
use vfio_client::{DmaBuf, counters};
use vfio_rs_selftests::process::{self, Latch};
use vfio_rs_selftests::setup::{EDU, PATIENCE, number, open_edu, slowness};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, same, suite};

/// Where the map goes: above what an IOMMU of a PC reserves.
const AT: u64 = 4 << 30;
const BOTH: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

/// Bytes to map, and how often.
fn size() -> Result<(usize, u64)> {
    let (mib, rounds) = if slowness() > 1 { (8, 5) } else { (32, 8) };
    let mib = number("VFIO_RS_KILL_MIB", mib)? as usize;
    Ok((mib << 20, number("VFIO_RS_KILL_ROUNDS", rounds)?))
}

/// Long enough for `len` bytes to be mapped.
fn patience(len: usize) -> Duration {
    PATIENCE * slowness() * (1 + (len >> 28) as u32)
}

/// Memory to map.
enum Memory {
    /// Not there yet: the map has to fault in each page, which is long enough to be hit.
    Untouched(usize),
    /// There, in small pages: so much of it that mapping it takes long enough all the same.
    There(DmaBuf),
}

impl Memory {
    /// All kinds of memory of `len` bytes that are worth a try.
    fn kinds(len: usize) -> Result<Vec<Self>> {
        let mut all = vec![Self::Untouched(len)];
        if len >= 1 << 30 {
            let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            let there = DmaBuf::with_flags(len, both, MapFlags::MAP_SHARED)?;
            (0..len).step_by(4096).for_each(|at| there.set(at, 1));
            all.push(Self::There(there));
        }
        Ok(all)
    }

    /// Which of `count` kinds is the turn of `round`: what takes long is rare.
    fn turn(round: u64, count: usize) -> usize {
        usize::from(round % 16 != 0) * (count - 1)
    }

    /// Its address, and what keeps it there.
    fn get(&self) -> Result<(u64, Option<DmaBuf>)> {
        match self {
            Self::Untouched(len) => {
                let buf = DmaBuf::new(*len)?;
                buf.advise(PageSize::Small)?;
                Ok((buf.addr(), Some(buf)))
            }
            Self::There(buf) => {
                buf.populate()?;
                Ok((buf.addr(), None))
            }
        }
    }

    /// How long the map takes when nobody disturbs it.
    fn undisturbed(&self, len: usize) -> Result<Duration> {
        let edu = open_edu()?;
        let (addr, _buf) = self.get()?;
        let start = Instant::now();
        edu.container.map(BOTH, addr, AT, len as u64)?;
        let took = start.elapsed();
        edu.container.unmap_all()?;
        Ok(took)
    }
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
    let kinds = Memory::kinds(len)?;
    let took = kinds.iter().map(|kind| kind.undisturbed(len));
    let took = took.collect::<Result<Vec<_>>>()?;
    let mut rng = Rng::with_seed(3);
    let before = counters::pinned_pages()?;
    let mut hit = 0;
    for round in 0..rounds {
        let (started, done) = (Latch::new()?, Latch::new()?);
        let turn = Memory::turn(round, kinds.len());
        let mut child = process::spawn(|| {
            let map = || -> Outcome {
                let edu = open_edu()?;
                let (addr, _buf) = kinds[turn].get()?;
                started.open()?;
                edu.container.map(BOTH, addr, AT, len as u64)?;
                done.open()?;
                loop {
                    std::thread::park();
                }
            };
            i32::from(map().is_err())
        })?;
        started.wait(patience(len))?;
        sleep_part(&mut rng, took[turn]);
        let status = child.kill()?;
        let killed = matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _));
        ensure!(killed, "round {round}: {status:?}");
        hit += u64::from(done.wait(Duration::ZERO).is_err());
        pinned_again(before).with_context(|| format!("round {round}"))?;
    }
    println!("# {hit} of {rounds} in the middle of the map, which takes {took:.1?}");
    ensure!(hit > 0, "no round was in time");
    Ok(())
}

/// The address space of the process stays, with its container: what was half done must be undone in
/// both.
fn without_its_memory() -> Outcome {
    let (len, rounds) = size()?;
    let kinds = Memory::kinds(len)?;
    let took = kinds.iter().map(|kind| kind.undisturbed(len));
    let took = took.collect::<Result<Vec<_>>>()?;
    let (container, _group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let limit = container.iommu_info()?.dma_avail;
    let before = counters::pinned_pages()?;
    let mut rng = Rng::with_seed(4);
    let mut hit = 0;
    for round in 0..rounds {
        let turn = Memory::turn(round, kinds.len());
        let (addr, _buf) = kinds[turn].get()?;
        let started = Latch::new()?;
        let map = || {
            let map = || container.map(BOTH, addr, AT, len as u64);
            started.open().is_ok() && map().is_ok()
        };
        let status = process::twin(&map, |pid| {
            started.wait(patience(len))?;
            sleep_part(&mut rng, took[turn]);
            Ok(kill(pid, Signal::SIGKILL)?)
        })?;
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
    println!("# {hit} of {rounds} in the middle of the map, which takes {took:.1?}");
    ensure!(hit > 0, "no round was in time");
    Ok(())
}

/// The map is there; the process goes while it unmaps.
fn while_unmapping() -> Outcome {
    let (len, rounds) = size()?;
    let kinds = Memory::kinds(len)?;
    let before = counters::pinned_pages()?;
    let mut rng = Rng::with_seed(5);
    for round in 0..rounds.min(20) {
        let mapped = Latch::new()?;
        let mut child = process::spawn(|| {
            let body = || -> Outcome {
                let edu = open_edu()?;
                let (addr, _buf) = kinds[kinds.len() - 1].get()?;
                loop {
                    edu.container.map(BOTH, addr, AT, len as u64)?;
                    mapped.open()?;
                    edu.container.unmap_all()?;
                }
            };
            i32::from(body().is_err())
        })?;
        mapped.wait(patience(len))?;
        sleep_part(&mut rng, Duration::from_millis(20));
        child.kill()?;
        pinned_again(before).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

suite!(iommus: All, debug: Lifetimes; with_all_it_has, without_its_memory, while_unmapping);
