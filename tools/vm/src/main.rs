// SPDX-License-Identifier: GPL-2.0
//! `scripts/vm`: runs a command in a virtual machine with the project's modules loaded.
//!
//! Drives QEMU itself, with an initramfs of one static program ([`vm_init`]) that mounts the host's
//! tree over 9p. virtme-ng was weighed: it takes QEMU's options as one string, makes overlays
//! folder by folder, has no place for a monitor channel, for a separate standard error or for
//! checks after the command, and brings Python and an init of its own.
//!
//! A run: stage the modules ([`stage`]), write the job into an initramfs ([`initrd`]), start QEMU
//! ([`machine`]), carry input and output ([`session`]), judge the kernel log ([`klog`]).

mod cache;
mod cli;
mod initrd;
mod klog;
mod machine;
mod session;
mod stage;
mod terminal;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, iter};

use anyhow::{Context, Result, bail};
use clap::Parser;
use vm_init::{Job, Share};

use cache::Build;
use cli::{Kernel, Options, Stack};
use machine::Files;
use session::{End, Limits, Outcome};

/// Exit status when the time is up.
const TIMED_OUT: i32 = 124;
/// Exit status when the kernel or the machine failed.
const FAILED: i32 = 125;
/// Most lines of the kernel log to show.
const LOG_LINES: usize = 400;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("vm: {error:#}");
            ExitCode::from(FAILED as u8)
        }
    }
}

fn run(options: &Options) -> Result<i32> {
    let build = Build::find(options.kernel)?;
    let modules = stage::modules(options, &build)?;
    let job = job(options, &modules)?;
    let folder = tempfile::Builder::new()
        .prefix("vfio-rs-vm.")
        .tempdir_in(short_temp_dir())?;
    let files = Files::new(folder.path());
    let init = env::current_exe()?.with_file_name("vm-init");
    let early = early_modules(options.kernel, &build.dir)?;
    initrd::write(&files.initrd(), &init, &job, &early)?;
    File::create(files.disk())?.set_len(machine::DISK_BYTES)?;
    let arguments = machine::arguments(options, &build.image(), &files, &job.shares)?;
    if options.verbose {
        eprintln!("vm: {} {}", session::QEMU, arguments.join(" "));
    }
    let limits = Limits {
        boot: match options.kernel {
            Kernel::Release | Kernel::Stock => Duration::from_secs(180),
            Kernel::Debug => Duration::from_secs(600),
        },
        total: options.time_limit(),
        verbose: options.verbose,
    };
    let outcome = session::run(&arguments, &files, &limits)?;
    conclude(options, &outcome, &files)
}

/// The modules without which the first process does not reach this machine's files, in the order
/// in which they depend on each other; our own kernels have them built in.
fn early_modules(kernel: Kernel, dir: &Path) -> Result<Vec<PathBuf>> {
    let names: &[&str] = match kernel {
        Kernel::Release | Kernel::Debug => &[],
        Kernel::Stock => &[
            "fs/netfs/netfs",
            "net/9p/9pnet",
            "net/9p/9pnet_virtio",
            "fs/9p/9p",
            "fs/overlayfs/overlay",
        ],
    };
    let path = |name: &&str| {
        let path = dir.join(name).with_extension("ko");
        match path.exists() {
            true => Ok(path),
            false => bail!(
                "no {}: remove the folder and run scripts/stock",
                path.display()
            ),
        }
    };
    names.iter().map(path).collect()
}

/// What the machine's first process is to do.
fn job(options: &Options, modules: &Path) -> Result<Job> {
    let argv = match options.command.as_slice() {
        [] => vec![env::var("SHELL").unwrap_or_else(|_| "/bin/bash".into())],
        command => command.to_vec(),
    };
    let mut shares = Vec::new();
    for (number, dir) in options.shares.iter().enumerate() {
        let path = dir
            .canonicalize()
            .with_context(|| format!("--share {}", dir.display()))?;
        if !path.is_dir() {
            bail!("--share {}: not a folder", dir.display());
        }
        shares.push(Share {
            tag: format!("share{number}"),
            path: utf8(&path)?,
        });
    }
    Ok(Job {
        argv,
        env: environment(options),
        cwd: utf8(&env::current_dir()?)?,
        terminal: terminal::size(),
        modules: Some(utf8(modules)?),
        modprobe: modprobe(options),
        shares,
        leak_scan: options.kernel == Kernel::Debug && !options.no_leak_scan,
    })
}

/// The caller's environment, root's search path, and what the machine was started with.
fn environment(options: &Options) -> Vec<(String, String)> {
    let own = ["VFIO_RS_TOP", "PATH"];
    let inherited = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !own.contains(&name.as_str()) && !name.starts_with("VFIO_RS_BDF_"));
    let path = env::var("PATH").unwrap_or_default()
        + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
    let set = |name: &str, value: &str| iter::once((name.to_owned(), value.to_owned()));
    inherited
        .chain(set("PATH", &path))
        .chain(set("VFIO_RS_IOMMU", options.iommu.name()))
        .chain(set("VFIO_RS_STACK", options.stack.name()))
        .chain(set("VFIO_RS_KERNEL", options.kernel.name()))
        .collect()
}

fn modprobe(options: &Options) -> Vec<Vec<String>> {
    let call = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    match (options.stack, options.unsafe_interrupts()) {
        (Stack::None, _) => Vec::new(),
        (_, true) => vec![
            call(&["vfio_iommu_type1", "allow_unsafe_interrupts=1"]),
            call(&["vfio-pci"]),
        ],
        (_, false) => vec![call(&["vfio_iommu_type1"]), call(&["vfio-pci"])],
    }
}

/// Decides the exit status, and shows what led to it.
fn conclude(options: &Options, outcome: &Outcome, files: &Files) -> Result<i32> {
    let log =
        String::from_utf8_lossy(&fs::read(files.console()).unwrap_or_default()).replace('\r', "");
    if let Some(path) = &options.log {
        fs::write(path, &log).with_context(|| format!("writing {}", path.display()))?;
    }
    let reports = klog::reports(&log, &options.allow_log);
    let mut status = match &outcome.end {
        End::Exit(status) => *status,
        End::Interrupted(signal) => 128 + signal,
        End::TimedOut => TIMED_OUT,
        End::Failed(_) | End::Died(_) | End::NotUp => FAILED,
    };
    let wrong = !reports.is_empty() || !outcome.reports.is_empty();
    if wrong && !matches!(outcome.end, End::Interrupted(_)) {
        status = FAILED;
    }
    if !wrong && matches!(outcome.end, End::Exit(_) | End::Interrupted(_)) {
        return Ok(status);
    }
    if !log.is_empty() {
        eprintln!(
            "vm: kernel log:\n{}",
            klog::excerpt(&log, &reports, LOG_LINES)
        );
    }
    for report in &outcome.reports {
        eprintln!("vm: {report}");
    }
    if let Some(&first) = reports.first() {
        let line = log.lines().nth(first).unwrap_or_default();
        eprintln!(
            "vm: the kernel reports a bug ({} lines of the log above): {line}",
            reports.len()
        );
    }
    explain(outcome, options, files);
    Ok(status)
}

/// The last line on standard error: how the run ended.
fn explain(outcome: &Outcome, options: &Options, files: &Files) {
    match &outcome.end {
        End::Exit(status) => eprintln!(
            "vm: failed because of the above; the command itself ended with status {status}"
        ),
        End::Interrupted(signal) => eprintln!("vm: interrupted by signal {signal}"),
        End::Failed(why) => eprintln!("vm: the machine could not be set up: {why}"),
        End::NotUp => eprintln!("vm: the machine did not come up; the kernel log is above"),
        End::TimedOut => {
            let seconds = options.time_limit().unwrap_or_default().as_secs();
            eprintln!(
                "vm: the command was still running after {seconds} s and was stopped (--timeout S)"
            );
        }
        End::Died(status) => {
            let said = fs::read_to_string(files.complaints()).unwrap_or_default();
            for line in said
                .lines()
                .filter(|line| !line.contains("is not connected to host network"))
            {
                eprintln!("vm: QEMU says: {line}");
            }
            eprintln!("vm: the machine ended before the command did (QEMU: {status})");
        }
    }
}

/// A folder for temporary files with a path short enough for UNIX sockets (108 bytes).
fn short_temp_dir() -> PathBuf {
    let dir = env::temp_dir();
    if dir.as_os_str().len() < 70 {
        dir
    } else {
        "/tmp".into()
    }
}

fn utf8(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.to_owned())
}
