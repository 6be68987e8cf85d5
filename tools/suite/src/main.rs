// SPDX-License-Identifier: GPL-2.0
//! The runner behind `make test`: builds what is needed, runs the stages, counts.
//!
//! Results are TAP on standard output; then a summary, and as the last line `N passed, N failed`.
//! The exit status says the same.

#![forbid(unsafe_code)]

mod process;
mod programs;
mod report;
mod runner;
mod selftests;
mod stages;
mod tap;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use clap::Parser;

use crate::report::Report;
use crate::runner::Runner;
use crate::stages::{Job, Need, ON_DEMAND, STAGES, Stage};

/// Runs the project's tests, on this machine and in virtual machines.
#[derive(Debug, Parser)]
pub struct Args {
    /// Run these stages only (comma-separated, or given again).
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    only: Vec<String>,
    /// Run only kselftest programs whose name contains this, or else tests whose name does.
    #[arg(long, value_name = "WORD")]
    filter: Option<String>,
    /// Print the stages and do nothing.
    #[arg(long)]
    list: bool,
    /// Print which kselftest programs the stages run, and run none.
    #[arg(long)]
    plan: bool,
    /// The project's folder.
    #[arg(long, hide = true, default_value = ".")]
    top: PathBuf,
    /// Folder for the complete output of each stage.
    #[arg(long, hide = true, default_value = ".")]
    logs: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        STAGES
            .iter()
            .for_each(|s| println!("{:<14}{}", s.name, s.what));
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = args
        .only
        .iter()
        .find(|o| STAGES.iter().all(|s| s.name != **o))
    {
        eprintln!("no stage '{unknown}'; --list prints them");
        return ExitCode::from(2);
    }
    let is_wanted = |name: &str| match &args.only[..] {
        [] => !ON_DEMAND.contains(&name),
        only => only.iter().any(|o| o == name),
    };
    let stages: Vec<_> = STAGES.iter().filter(|s| is_wanted(s.name)).collect();
    if args.plan {
        return match print_plan(&args.top, &stages) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("{e:#}");
                ExitCode::FAILURE
            }
        };
    }
    let mut runner = Runner::new(&args.top, &args.logs, args.filter.as_deref(), Report::new());
    for (number, stage) in stages.iter().enumerate() {
        runner.run(stage, &stages[number + 1..]);
    }
    if runner.report.finish() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints a line for each program of each stage.
fn print_plan(top: &Path, stages: &[&Stage]) -> Result<()> {
    let (script, package) = Need::Programs.command();
    let built = Command::new(top.join(script)).arg(package).status()?;
    ensure!(built.success(), "{script} {package}: {built}");
    for stage in stages {
        if let Job::Selftests(_, _, choice) = stage.job {
            for program in selftests::programs(top, choice)? {
                println!("{:<14}{program}", stage.name);
            }
        }
    }
    Ok(())
}
