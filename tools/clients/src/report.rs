// SPDX-License-Identifier: GPL-2.0
//! Results as TAP.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

/// Prints results as they come.
#[derive(Debug)]
pub(crate) struct Report {
    number: u32,
    failed: u32,
    started: Instant,
}

impl Report {
    /// Prints the header.
    pub(crate) fn new() -> Self {
        println!("TAP version 13");
        Self {
            number: 0,
            failed: 0,
            started: Instant::now(),
        }
    }

    /// Runs a step and prints its result, with what it found as a remark; tells whether it passed.
    pub(crate) fn step(&mut self, name: &str, run: impl FnOnce() -> Result<String>) -> bool {
        self.number += 1;
        match run() {
            Ok(found) => {
                found.lines().for_each(|line| println!("# {line}"));
                println!("# at {} s", self.started.elapsed().as_secs());
                println!("ok {} {name}", self.number);
                true
            }
            Err(e) => {
                format!("{e:#}")
                    .lines()
                    .for_each(|line| println!("# {line}"));
                println!("not ok {} {name}", self.number);
                self.failed += 1;
                false
            }
        }
    }

    /// Notes something that was not run.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        self.number += 1;
        println!("ok {} {name} # SKIP {reason}", self.number);
    }

    /// Prints the plan; 0 if nothing failed.
    pub(crate) fn finish(&self) -> ExitCode {
        println!("1..{}", self.number);
        ExitCode::from(u8::from(self.failed > 0))
    }
}
