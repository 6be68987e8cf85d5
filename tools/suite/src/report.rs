// SPDX-License-Identifier: GPL-2.0
//! What the user sees: numbered TAP lines as results come in, a progress line on a terminal, and
//! the summary at the end. All lines but the last are valid TAP.

use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::tap::{Outcome, Test};

/// How many lines of a program's output are shown with a test that failed.
const SHOWN: usize = 60;

/// The counts of one stage.
#[derive(Debug)]
struct Tally {
    stage: &'static str,
    passed: u32,
    failed: u32,
    skipped: u32,
    started: Instant,
    took: Duration,
}

/// Prints and counts results.
#[derive(Debug)]
pub(crate) struct Report {
    tallies: Vec<Tally>,
    number: u32,
    bar: ProgressBar,
}

impl Report {
    /// Prints the header.
    pub(crate) fn new() -> Self {
        println!("TAP version 14");
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {prefix}: {wide_msg}")
        {
            bar.set_style(style);
        }
        Self {
            tallies: Vec::new(),
            number: 0,
            bar,
        }
    }

    /// Begins a stage; results belong to it from now on.
    pub(crate) fn begin(&mut self, stage: &'static str, what: &str) {
        self.print(&format!("# {stage}: {what}"));
        let now = Instant::now();
        let took = Duration::ZERO;
        self.tallies.push(Tally {
            stage,
            passed: 0,
            failed: 0,
            skipped: 0,
            started: now,
            took,
        });
    }

    /// Shows the progress line.
    pub(crate) fn show_progress(&mut self) {
        self.bar.reset();
        self.bar
            .set_prefix(self.tallies.last().map_or("", |t| t.stage));
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// Hides it; builds have one of their own.
    pub(crate) fn hide_progress(&mut self) {
        self.bar.disable_steady_tick();
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Shows what a stage is at.
    pub(crate) fn progress(&self, message: &str) {
        self.bar.set_message(message.to_owned());
    }

    /// Counts and prints a result, with `output` below it if it failed.
    pub(crate) fn result(&mut self, test: &Test, output: &[String]) {
        self.number += 1;
        let number = self.number;
        let Some(tally) = self.tallies.last_mut() else {
            return;
        };
        let name = format!("{}: {}", tally.stage, test.name);
        let line = match &test.outcome {
            Outcome::Passed => {
                tally.passed += 1;
                format!("ok {number} - {name}")
            }
            Outcome::Skipped(reason) => {
                tally.skipped += 1;
                format!("ok {number} - {name} # SKIP {reason}")
            }
            Outcome::Failed => {
                tally.failed += 1;
                format!("not ok {number} - {name}")
            }
        };
        self.print(&line);
        if test.outcome == Outcome::Failed {
            let first = output.len().saturating_sub(SHOWN);
            for line in output.iter().skip(first) {
                self.print(&format!("#   {}", line.trim_start_matches("# ")));
            }
        }
    }

    /// Counts and prints a failure that is not a program's own result.
    pub(crate) fn failure(&mut self, name: &str, output: &[String]) {
        self.result(
            &Test {
                name: name.to_owned(),
                outcome: Outcome::Failed,
            },
            output,
        );
    }

    /// Ends the stage. One without a result has failed.
    pub(crate) fn end(&mut self) {
        if self
            .tallies
            .last()
            .is_some_and(|t| t.passed + t.failed + t.skipped == 0)
        {
            self.failure("gave no results", &[]);
        }
        if let Some(tally) = self.tallies.last_mut() {
            tally.took = tally.started.elapsed();
        }
    }

    /// Prints the summary; tells whether nothing failed.
    pub(crate) fn finish(&self) -> bool {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["stage", "passed", "failed", "skipped", "time"]);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let (mut passed, mut failed, mut skipped, mut took) = (0, 0, 0, Duration::ZERO);
        for t in &self.tallies {
            table.add_row(row(t.stage, [t.passed, t.failed, t.skipped], t.took));
            passed += t.passed;
            failed += t.failed;
            skipped += t.skipped;
            took += t.took;
        }
        table.add_row(row("all", [passed, failed, skipped], took));
        println!("1..{}\n#", self.number);
        table.lines().for_each(|line| println!("# {line}"));
        println!("#\n{passed} passed, {failed} failed");
        failed == 0 && passed > 0
    }

    /// Prints a line above the progress line.
    fn print(&self, line: &str) {
        self.bar.suspend(|| println!("{line}"));
    }
}

fn row(name: &str, counts: [u32; 3], took: Duration) -> Vec<String> {
    let seconds = took.as_secs();
    let mut cells = vec![name.to_owned()];
    cells.extend(counts.map(|count| count.to_string()));
    cells.push(format!("{}:{:02}", seconds / 60, seconds % 60));
    cells
}
