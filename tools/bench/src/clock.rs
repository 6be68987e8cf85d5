// SPDX-License-Identifier: GPL-2.0
//! The clock. In a machine that counts instructions a nanosecond is one, in any other it is a nanosecond.

use std::os::unix::process::parent_id;
use std::process::id;
use std::time::Instant;

use anyhow::Result;

/// Times steps, less what reading the clock costs by itself.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    overhead: f64,
    marks: bool,
}

impl Clock {
    /// Finds out what it costs.
    ///
    /// With `marks` each step is between a `getppid` and a `getpid`, which a profiler can look for.
    pub fn new(marks: bool) -> Self {
        let empty = || Instant::now().elapsed().as_nanos() as f64;
        let overhead = (0..100).map(|_| empty()).fold(f64::MAX, f64::min);
        Self { overhead, marks }
    }

    /// Runs `step` and tells how long it took.
    ///
    /// # Errors
    /// Those of `step`.
    pub fn time<T, E>(&self, step: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), E> {
        if self.marks {
            std::hint::black_box(parent_id());
        }
        let start = Instant::now();
        let done = step()?;
        let took = start.elapsed().as_nanos() as f64 - self.overhead;
        if self.marks {
            std::hint::black_box(id());
        }
        Ok((done, took.max(0.0)))
    }

    /// The average of `rounds` runs of `step`, timed together, after one that is not counted.
    ///
    /// # Errors
    /// Those of `step`.
    pub fn average(&self, rounds: u32, mut step: impl FnMut() -> Result<()>) -> Result<f64> {
        step()?;
        if self.marks {
            return (0..rounds)
                .try_fold(0.0, |sum, _| Ok(sum + self.time(&mut step)?.1))
                .map(|sum| sum / f64::from(rounds));
        }
        let ((), took) = self.time(|| (0..rounds).try_for_each(|_| step()))?;
        Ok(took / f64::from(rounds))
    }
}
