// SPDX-License-Identifier: GPL-2.0
//! The clock. In a machine that counts instructions a nanosecond is one, in any other it is a
//! nanosecond.

use std::os::unix::process::parent_id;
use std::process::id;
use std::time::Instant;

use anyhow::Result;

/// Times steps, less what reading the clock costs by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    overhead: f64,
    marks: bool,
}

impl Clock {
    /// Finds out what it costs.
    ///
    /// With `marks` each step is between a `getppid` and a `getpid`, which a profiler can look for.
    pub(crate) fn new(marks: bool) -> Self {
        let empty = || Instant::now().elapsed().as_nanos() as f64;
        let overhead = (0..100).map(|_| empty()).fold(f64::MAX, f64::min);
        Self { overhead, marks }
    }

    /// Runs `step` and tells how long it took.
    ///
    /// # Errors
    /// Those of `step`.
    pub(crate) fn time<T, E>(&self, step: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), E> {
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

    /// The average of `rounds` runs of `step`, after one that is not counted.
    ///
    /// # Errors
    /// Those of `step`.
    pub(crate) fn average(&self, rounds: u32, mut step: impl FnMut() -> Result<()>) -> Result<f64> {
        step()?;
        self.on(rounds, &mut step)
    }

    /// As [`average`](Self::average), of the best tenth of the runs: for short steps that leave
    /// nothing to be done later. Ticks of the clock and what kernel threads do now and then fall
    /// into other tenths.
    ///
    /// # Errors
    /// Those of `step`.
    pub(crate) fn best_tenth(
        &self,
        rounds: u32,
        mut step: impl FnMut() -> Result<()>,
    ) -> Result<f64> {
        step()?;
        (0..10).try_fold(f64::MAX, |least, _| {
            Ok(least.min(self.on(rounds / 10, &mut step)?))
        })
    }

    /// The average of `rounds` runs.
    fn on(&self, rounds: u32, step: &mut impl FnMut() -> Result<()>) -> Result<f64> {
        let took = match self.marks {
            true => {
                (0..rounds).try_fold(0.0, |sum, _| anyhow::Ok(sum + self.time(&mut *step)?.1))?
            }
            false => self.time(|| (0..rounds).try_for_each(|_| step()))?.1,
        };
        Ok(took / f64::from(rounds))
    }
}
