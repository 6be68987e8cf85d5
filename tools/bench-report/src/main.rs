// SPDX-License-Identifier: GPL-2.0
//! `make bench`: measures each stack in a machine of its own, prints the table, keeps the numbers
//! as JSON and draws the scaling curves. With `--check`, measures this project's stack alone and
//! compares it with the numbers kept.

#![forbid(unsafe_code)]

mod check;
mod curve;
mod profile;
mod record;
mod rows;
mod stack;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use anyhow::{Result, bail};
use clap::Parser;

use crate::profile::Profiler;
use crate::record::Record;
use crate::stack::{DRAWN, Machines, STACKS, Stack};

/// Mappings at the end of the scaling curve.
const MANY: u64 = 1_000_000;

/// Measures VFIO stacks in virtual machines that count instructions, and compares them.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench")]
struct Args {
    /// Measure ours alone, quickly, and fail if a row is worse than the committed one by more than
    /// 1 %.
    #[arg(long)]
    check: bool,
    /// Mappings at the end of the scaling curve.
    #[arg(long, default_value_t = MANY)]
    mappings: u64,
    /// Measure these stacks only (comma-separated: c, iommufd-compat, iommufd, ours, ours-iommufd)
    /// and keep the rest.
    #[arg(long, value_name = "STACK", value_delimiter = ',')]
    only: Vec<String>,
    /// Do not measure threads, which needs an idle computer: keep the figures.
    #[arg(long)]
    no_threads: bool,
    /// Do not measure the scaling curve: keep it.
    #[arg(long)]
    no_scaling: bool,
    /// Print the committed numbers and measure nothing.
    #[arg(long)]
    show: bool,
    /// Tell which functions the instructions of this row, and the one measured with it, are in; of
    /// ours, or of --only.
    #[arg(long, value_name = "ROW", conflicts_with_all = ["check", "show"])]
    profile: Option<String>,
    /// Leave functions with fewer instructions out of the profile.
    #[arg(long, default_value_t = 10.0)]
    least: f64,
    /// The profiler's plugin.
    #[arg(long, hide = true, default_value = "profile.so")]
    plugin: PathBuf,
    /// System.map of the machine's kernel.
    #[arg(long, hide = true, default_value = "System.map")]
    symbols: PathBuf,
    /// The project's folder.
    #[arg(long, hide = true, default_value = ".")]
    top: PathBuf,
    /// The measuring program.
    #[arg(long, hide = true, default_value = "vfio-rs-bench")]
    program: PathBuf,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let machines = Machines {
        top: &args.top,
        program: &args.program,
    };
    let json = args.top.join("Documentation/bench.json");
    if args.check {
        let kept = Record::read(&json)?;
        let now = [
            (Stack::Ours, machines.count(Stack::Ours, 0)?),
            (
                Stack::OursIommufd,
                machines.count_rows(Stack::OursIommufd, check::OPEN)?,
            ),
        ];
        let good = check::compare(&kept, &now);
        return Ok(if good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    if let Some(row) = &args.profile {
        let profiler = Profiler {
            machines: &machines,
            plugin: &args.plugin,
            symbols: &args.symbols,
            folder: &args.plugin.with_extension("out"),
        };
        let named = |stack: &Stack| args.only.iter().any(|name| name == stack.name());
        let stack = STACKS.into_iter().find(named).unwrap_or(Stack::Ours);
        profiler.print(stack, row, args.least)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut record = Record::read(&json).unwrap_or_default();
    if !args.show {
        measure(&args, &machines, &mut record)?;
        record.write(&json)?;
        curve::draw(&record, &args.top.join("Documentation/bench-scaling.svg"))?;
    }
    println!("{}\n\n{}", table::rows(&record), table::scaling(&record));
    Ok(ExitCode::SUCCESS)
}

/// Measures the stacks that are wanted: what counts instructions two machines at a time, what takes
/// time one after the other.
fn measure(args: &Args, machines: &Machines<'_>, record: &mut Record) -> Result<()> {
    if let Some(odd) = args
        .only
        .iter()
        .find(|name| STACKS.iter().all(|s| s.name() != **name))
    {
        bail!("no stack '{odd}'");
    }
    let wanted =
        |stack: &Stack| args.only.is_empty() || args.only.iter().any(|n| n == stack.name());
    let mappings = if args.no_scaling { 0 } else { args.mappings };
    let queue = Mutex::new(STACKS.into_iter().filter(wanted).collect::<Vec<_>>());
    let done = Mutex::new(Vec::new());
    let work = || {
        while let Some(stack) = queue.lock().ok().and_then(|mut queue| queue.pop()) {
            eprintln!("{}: counting", stack.name());
            let mappings = match DRAWN.contains(&stack) {
                true => mappings,
                false => 0,
            };
            let measured = machines.count(stack, mappings);
            if let Ok(mut done) = done.lock() {
                done.push((stack, measured));
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    for (stack, measured) in done.into_inner().unwrap_or_default() {
        let mut measured = measured?;
        if args.no_scaling {
            record.keep_scaling(stack, &mut measured);
        }
        if args.no_threads {
            record.keep_row(stack, rows::THREADS, &mut measured);
        } else {
            eprintln!("{}: two threads", stack.name());
            machines.time(stack, &mut measured)?;
        }
        record.add(stack, measured);
    }
    Ok(())
}
