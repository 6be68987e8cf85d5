// SPDX-License-Identifier: GPL-2.0
//! Unmaps of 64 GiB by one call: others get the CPU meanwhile, and SIGKILL stops it.
//!
//! The machine has less memory: the same huge pages are mapped again and again, where the IOMMU can
//! only use small ones. `VFIO_RS_UNMAP_GIB` makes it another size; it is less on the debug kernel
//! and behind other IOMMUs than VT-d.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Group, Setting, counters};
use vfio_rs_selftests::process::{self, Latch};
use vfio_rs_selftests::setup::{EDU, PAGE, PATIENCE, is_rust_stack, number, slowness};
use vfio_rs_selftests::{Context, Outcome, Result, bail, ensure, same, skip, suite};

const GIB: u64 = 1 << 30;
/// Where it is mapped: a page off a huge page, so that each small one has an entry of its own in
/// the I/O page table.
const AT: u64 = (8 << 30) + PAGE;
/// Bytes of memory that there really are: huge pages.
const REAL: u64 = 256 << 20;
const BOTH: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

/// Bytes to map: so many where mapping them takes a second or two.
fn size() -> Result<u64> {
    let gib = match std::path::Path::new("/sys/class/iommu/dmar0").exists() {
        _ if slowness() > 1 => 4,
        true => 64,
        false => 8,
    };
    Ok(number("VFIO_RS_UNMAP_GIB", gib)? * GIB)
}

/// A container with `size` bytes of memory to map into it.
struct Large {
    container: Container,
    _group: Group,
    buf: DmaBuf,
    size: u64,
    pinned: i64,
    avail: Option<u32>,
}

impl Large {
    fn new() -> Result<Self> {
        let (container, group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
        let size = size()?;
        let Ok(room) = Setting::huge_pages(REAL) else {
            skip!("no {} MiB of huge pages are to be had", REAL >> 20)
        };
        let buf = DmaBuf::of_huge_file(size as usize, REAL)?;
        // What is in use stays until it is dropped.
        drop(room);
        Ok(Self {
            avail: container.iommu_info()?.dma_avail,
            container,
            _group: group,
            buf,
            size,
            pinned: counters::pinned_pages()?,
        })
    }

    /// Maps all of it, by mappings of `each` bytes.
    fn map(&self, each: u64) -> Outcome {
        let map = |at| {
            self.container
                .map(BOTH, self.buf.addr() + at, AT + at, each)
        };
        for at in (0..self.size).step_by(each as usize) {
            map(at).with_context(|| format!("map at {at:#x}"))?;
        }
        same("locked KiB", counters::locked_kib()?, self.size / 1024)
    }

    fn unmap(&self) -> std::io::Result<u64> {
        self.container.unmap(AT, self.size)
    }

    /// Exactly `left` bytes must still be mapped: locked and pinned.
    fn holds(&self, left: u64) -> Outcome {
        same("locked KiB", counters::locked_kib()?, left / 1024)?;
        let want = self.pinned + (left / PAGE) as i64;
        let pinned = counters::wait_pinned_pages(want, PATIENCE * slowness())?;
        same("pinned pages", pinned, want)
    }

    /// Unmaps all of it, in mappings of `each` bytes, by a process that is killed meanwhile, until
    /// one is in the middle of it; what is left then can be unmapped.
    fn killed(&self, each: u64) -> Outcome {
        let mut rng = Rng::with_seed(6);
        for round in 0..8 {
            self.map(each)?;
            let started = Latch::new()?;
            let unmap = || started.open().is_ok() && self.unmap().is_ok();
            let status = process::twin(&unmap, |pid| {
                started.wait(PATIENCE * slowness())?;
                std::thread::sleep(Duration::from_millis(rng.u64(..20)));
                Ok(kill(pid, Signal::SIGKILL)?)
            })?;
            let left = counters::locked_kib()? * 1024;
            self.holds(left).with_context(|| format!("{status:?}"))?;
            same("the rest", self.unmap()?, left)?;
            self.holds(0)?;
            same(
                "mappings left",
                self.container.iommu_info()?.dma_avail,
                self.avail,
            )?;
            if left != 0 && left != self.size {
                let killed = matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _));
                ensure!(killed, "{status:?}");
                println!(
                    "# round {round}: {} of {} MiB left",
                    left >> 20,
                    self.size >> 20
                );
                return Ok(());
            }
        }
        bail!("no unmap was stopped in the middle")
    }
}

/// How often this thread had to leave the CPU to others.
fn switches() -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/status")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    Ok(line.context("no count of switches")?.trim().parse()?)
}

/// Somebody else has work for the same CPU, and gets it many times while one call unmaps.
fn yields(each: impl Fn(&Large) -> u64) -> Outcome {
    let large = Large::new()?;
    large.map(each(&large))?;
    let mut one = CpuSet::new();
    one.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &one)?;
    let (stop, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        // Inherits the CPU.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                turns.fetch_add(1, Ordering::Relaxed);
            }
        });
        while turns.load(Ordering::Relaxed) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let (before, turns_before) = (switches()?, turns.load(Ordering::Relaxed));
        let gone = large.unmap();
        let (after, turns_after) = (switches()?, turns.load(Ordering::Relaxed));
        stop.store(true, Ordering::Relaxed);
        same("unmapped", gone?, large.size)?;
        let given = after - before;
        println!("# gave the CPU away {given} times");
        ensure!(given >= 10, "gave the CPU away {given} times only");
        ensure!(turns_after > turns_before, "the other one did nothing");
        Ok(())
    })?;
    large.holds(0)
}

fn one_mapping_yields() -> Outcome {
    yields(|large| large.size)
}

fn many_mappings_yield() -> Outcome {
    yields(|_| GIB / 4)
}

/// Linux's own stack goes on to the end.
fn needs_ours() -> Outcome {
    if !is_rust_stack() {
        skip!("SIGKILL does not stop an unmap");
    }
    Ok(())
}

fn killed_between_mappings() -> Outcome {
    needs_ours()?;
    Large::new()?.killed(GIB / 4)
}

fn killed_inside_a_mapping() -> Outcome {
    needs_ours()?;
    let large = Large::new()?;
    large.killed(large.size)
}

/// The release of a container goes on to its end, although the process was killed.
fn killed_with_all_mapped() -> Outcome {
    let before = counters::pinned_pages()?;
    let mapped = Latch::new()?;
    let mut child = process::spawn(|| {
        let body = || -> Outcome {
            let large = Large::new()?;
            large.map(large.size)?;
            mapped.open()?;
            loop {
                std::thread::park();
            }
        };
        i32::from(body().is_err())
    })?;
    mapped.wait(PATIENCE * slowness())?;
    child.kill()?;
    let left = counters::wait_pinned_pages(before, PATIENCE * slowness())?;
    same("pinned pages", left, before)
}

suite!(
    iommus: Vtd, debug: Answers;
    one_mapping_yields,
    many_mappings_yield,
    killed_between_mappings,
    killed_inside_a_mapping,
    killed_with_all_mapped,
);
