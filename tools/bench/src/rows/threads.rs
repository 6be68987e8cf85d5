// SPDX-License-Identifier: GPL-2.0
//! Two threads that map and unmap memory of their own in one address space, against one thread. By
//! time, not by instructions, so it says something only where two processors are free for the
//! machine.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use crate::Devices;
use crate::memory;
use crate::sheet::Sheet;
use crate::space::{Interface, Space};

/// Bytes that each thread maps at once.
const BYTES: usize = 16 << 20;
/// How often it does so in one try.
const ROUNDS: u32 = 16;
/// Tries, of which the middle one counts: some have to share the processors with something, and in
/// some QEMU's clock of a machine with several CPUs stands still for a while.
const TRIES: usize = 9;

/// The row.
///
/// # Errors
/// If no address space is to be had.
pub(crate) fn all(sheet: &mut Sheet<'_>, interface: Interface, devices: &Devices) -> Result<()> {
    let space = Space::open(interface, &devices.edu)?;
    let buffers = [memory::small(BYTES)?, memory::small(BYTES)?];
    let addresses = [buffers[0].addr(), buffers[1].addr()];
    sheet.measure(["two_threads"], || {
        let mut speeds = Vec::new();
        for _ in 0..TRIES {
            let one = run(&space, &addresses[..1])?;
            speeds.push(2.0 * one / run(&space, &addresses)?);
        }
        speeds.sort_by(f64::total_cmp);
        Ok([speeds[TRIES / 2]])
    });
    Ok(())
}

/// Seconds that as many threads as there are buffers need, each for the same work.
fn run(space: &Space, buffers: &[u64]) -> Result<f64> {
    let barrier = Barrier::new(buffers.len() + 1);
    let work = |number: usize, vaddr: u64| -> std::io::Result<()> {
        let iova = (number as u64 + 1) << 30;
        barrier.wait();
        for _ in 0..ROUNDS {
            space.map(vaddr, iova, BYTES as u64)?;
            space.unmap(iova, BYTES as u64)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(buffers)
            .map(|(number, vaddr)| scope.spawn(move || work(number, *vaddr)))
            .collect();
        barrier.wait();
        let start = Instant::now();
        for thread in threads {
            let done = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
            done.context("map or unmap")?;
        }
        Ok(start.elapsed().as_secs_f64())
    })
}
