// SPDX-License-Identifier: GPL-2.0
//! Runs tests one after another, each in a forked child with a timeout, and prints KTAP.
//!
//! After each test, in the child: no locked memory is left. In the parent, with the child gone: no
//! page is left pinned, and the devices can be unbound and bound again. Exit status as kselftest
//! wants it: 0 all passed, 1 some failed, 4 all skipped.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, dup2_stderr, dup2_stdout, pipe, setpgid};
use vfio_client::counters;

use crate::Outcome;
use crate::check::Skip;
use crate::leaks::{self, Baseline};
use crate::place::Place;
use crate::process::{self, Child};
use crate::setup::{number, slowness};

/// A test: its name and what to run.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// Name, printed in its result line.
    pub name: &'static str,
    /// The test.
    pub run: fn() -> Outcome,
}

/// Longest run of one test on the release kernel, in seconds, unless `VFIO_RS_TIMEOUT` says
/// otherwise.
const TIMEOUT: u64 = 60;

/// Runs kselftests of the VFIO interface and prints KTAP. Needs root and a device to bind to
/// vfio-pci.
#[derive(Debug, Parser)]
struct Args {
    /// Run only tests whose name contains one of these.
    filters: Vec<String>,
    /// Print the names of the tests and do nothing.
    #[arg(short, long)]
    list: bool,
    /// Print where `make test` runs the program, and do nothing.
    #[arg(long)]
    describe: bool,
}

/// How a test ended.
#[derive(Debug)]
enum Verdict {
    Passed,
    Skipped(String),
    Failed(String),
}

/// Longest run of one test here.
fn timeout() -> Duration {
    Duration::from_secs(number("VFIO_RS_TIMEOUT", TIMEOUT).unwrap_or(TIMEOUT)) * slowness()
}

/// Runs `tests` as the command line asks.
#[must_use]
pub fn main(place: Place, tests: &[Test]) -> ExitCode {
    let args = Args::parse();
    if args.describe {
        println!("{place}");
        return ExitCode::SUCCESS;
    }
    let wanted = |test: &&Test| {
        args.filters.is_empty() || args.filters.iter().any(|f| test.name.contains(f.as_str()))
    };
    let tests: Vec<_> = tests.iter().filter(wanted).collect();
    if args.list {
        tests.iter().for_each(|test| println!("{}", test.name));
        return ExitCode::SUCCESS;
    }
    run_all(&tests)
}

fn run_all(tests: &[&Test]) -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    println!("KTAP version 1\n1..{}", tests.len());
    for (number, test) in (1..).zip(tests) {
        let started = Instant::now();
        let verdict = run_one(test);
        println!("# {}: {} ms", test.name, started.elapsed().as_millis());
        match verdict {
            Verdict::Passed => {
                passed += 1;
                println!("ok {number} {}", test.name);
            }
            Verdict::Skipped(reason) => {
                skipped += 1;
                println!("ok {number} {} # SKIP {reason}", test.name);
            }
            Verdict::Failed(reason) => {
                failed += 1;
                reason.lines().for_each(|line| println!("# {line}"));
                println!("not ok {number} {}", test.name);
            }
        }
    }
    if let Err(e) = guarded("restore drivers", leaks::restore_devices) {
        println!("# {e:#}");
    }
    println!("# Totals: pass:{passed} fail:{failed} xfail:0 xpass:0 skip:{skipped} error:0");
    match (passed, failed) {
        (_, 1..) => ExitCode::from(1),
        (0, 0) => ExitCode::from(4),
        _ => ExitCode::SUCCESS,
    }
}

fn run_one(test: &Test) -> Verdict {
    let baseline = match Baseline::take() {
        Ok(baseline) => baseline,
        Err(e) => return Verdict::Failed(format!("cannot read the counters: {e:#}")),
    };
    let verdict = in_child(test).unwrap_or_else(|e| Verdict::Failed(format!("harness: {e:#}")));
    let after = guarded("recycle devices", leaks::recycle_devices).and_then(|()| baseline.check());
    match (verdict, after) {
        (Verdict::Failed(reason), Err(e)) => {
            Verdict::Failed(format!("{reason}\nafterwards: {e:#}"))
        }
        (_, Err(e)) => Verdict::Failed(format!("afterwards: {e:#}")),
        (verdict, Ok(())) => verdict,
    }
}

/// Runs `step` in a child, because it may hang in the kernel.
fn guarded(what: &str, step: fn() -> Result<()>) -> Result<()> {
    let mut child = process::spawn(|| match step() {
        Ok(()) => 0,
        Err(e) => {
            println!("# {e:#}");
            1
        }
    })?;
    match child.wait(timeout()).with_context(|| what.to_owned())? {
        WaitStatus::Exited(_, 0) => Ok(()),
        status => anyhow::bail!("{what}: {status:?}"),
    }
}

/// What the child does: the test, and a report of its end through `report`.
fn child_main(test: &Test, report: &OwnedFd) -> i32 {
    let outcome = (test.run)().and_then(|()| {
        let locked = counters::locked_kib()?;
        anyhow::ensure!(locked == 0, "{locked} KiB stay locked");
        Ok(())
    });
    let text = match outcome {
        Ok(()) => "ok".to_owned(),
        Err(e) => match e.downcast_ref::<Skip>() {
            Some(reason) => format!("skip {reason}"),
            None => format!("fail {e:#}"),
        },
    };
    let _ = nix::unistd::write(report, text.as_bytes());
    0
}

fn in_child(test: &Test) -> Result<Verdict> {
    let (output, output_end) = pipe()?;
    let (report, report_end) = pipe()?;
    let mut child = process::spawn(|| {
        let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        let _ = dup2_stdout(&output_end).and_then(|()| dup2_stderr(&output_end));
        child_main(test, &report_end)
    })?;
    drop((output_end, report_end));
    let group = child.pid;
    let _ = setpgid(group, group);
    let status = relay(&mut child, output);
    // Whatever the test started must not outlive it.
    let _ = killpg(group, Signal::SIGKILL);
    match status? {
        None => Ok(Verdict::Failed(format!(
            "not ended after {:?}, killed",
            timeout()
        ))),
        Some(WaitStatus::Exited(_, 0)) => Ok(verdict(&read_now(&mut File::from(report))?)),
        Some(WaitStatus::Exited(..)) => Ok(Verdict::Failed("panicked, see above".to_owned())),
        Some(status) => Ok(Verdict::Failed(format!("ended by {status:?}"))),
    }
}

fn verdict(report: &str) -> Verdict {
    match report.split_once(' ') {
        Some(("skip", reason)) => Verdict::Skipped(reason.replace('\n', " ")),
        Some(("fail", reason)) => Verdict::Failed(reason.to_owned()),
        _ if report == "ok" => Verdict::Passed,
        _ => Verdict::Failed("no report".to_owned()),
    }
}

/// Passes the child's output on as diagnostics until the child ends; `None` if it had to be killed.
fn relay(child: &mut Child, output: OwnedFd) -> Result<Option<WaitStatus>> {
    let end = Instant::now() + timeout();
    let mut output = File::from(output);
    let mut line = String::new();
    loop {
        let status = child.try_wait()?;
        line.push_str(&read_now(&mut output)?);
        while let Some((first, rest)) = line.split_once('\n') {
            println!("# {first}");
            line = rest.to_owned();
        }
        if status.is_some() {
            return Ok(status);
        }
        if Instant::now() > end {
            child.kill()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Reads what is there, without waiting for more.
fn read_now(file: &mut File) -> Result<String> {
    fcntl(file.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut all = Vec::new();
    match file.read_to_end(&mut all) {
        Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => Err(e.into()),
        _ => Ok(String::from_utf8_lossy(&all).into_owned()),
    }
}
