// SPDX-License-Identifier: GPL-2.0
//! The clock. In a machine that counts instructions a nanosecond is one, in any other it is a nanosecond.

use std::time::Instant;

use anyhow::Result;

/// Times steps, less what reading the clock costs by itself.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    overhead: f64,
}

impl Clock {
    /// Finds out what it costs.
    pub fn new() -> Self {
        let empty = || Instant::now().elapsed().as_nanos() as f64;
        let overhead = (0..100).map(|_| empty()).fold(f64::MAX, f64::min);
        Self { overhead }
    }

    /// Runs `step` and tells how long it took.
    ///
    /// # Errors
    /// Those of `step`.
    pub fn time<T, E>(&self, step: impl FnOnce() -> Result<T, E>) -> Result<(T, f64), E> {
        let start = Instant::now();
        let done = step()?;
        let took = start.elapsed().as_nanos() as f64 - self.overhead;
        Ok((done, took.max(0.0)))
    }

    /// The average of `rounds` runs of `step`, timed together, after one that is not counted.
    ///
    /// # Errors
    /// Those of `step`.
    pub fn average(&self, rounds: u32, mut step: impl FnMut() -> Result<()>) -> Result<f64> {
        step()?;
        let ((), took) = self.time(|| (0..rounds).try_for_each(|_| step()))?;
        Ok(took / f64::from(rounds))
    }
}
