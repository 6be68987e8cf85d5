// SPDX-License-Identifier: GPL-2.0
//! After the command: ends what it left running, looks for leaks, makes shared folders complete,
//! powers off.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sync};
use vm_init::{Frame, Job};

use crate::agent::Agent;

const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
/// kmemleak says nothing of memory younger than this.
const LEAK_AGE: Duration = Duration::from_millis(5500);
/// A killed process that is still there after this hangs in the kernel.
const PATIENCE: Duration = Duration::from_secs(20);

/// Leaves the machine ready to be switched off; what is found wrong goes to the host.
pub(crate) fn clean_up(job: &Job, agent: &Agent) {
    let mut reports = Vec::new();
    reports.extend(kill_all());
    if job.leak_scan {
        reports.extend(leaks());
    }
    sync();
    for share in job.shares.iter().rev() {
        if umount2(share.path.as_str(), MntFlags::empty()).is_err() {
            let _: Result<(), Errno> = umount2(share.path.as_str(), MntFlags::MNT_DETACH);
        }
    }
    for report in reports {
        if agent.send(&Frame::Report(report)).is_err() {
            return;
        }
    }
}

/// Switches the machine off; does not return.
pub(crate) fn power_off() -> ! {
    sync();
    let _: Result<std::convert::Infallible, Errno> = reboot(RebootMode::RB_POWER_OFF);
    loop {
        thread::park();
    }
}

/// Kills every process and waits for their ends; describes the ones that hang.
fn kill_all() -> Vec<String> {
    let end = Instant::now() + PATIENCE;
    let _: Result<(), Errno> = kill(Pid::from_raw(-1), Signal::SIGKILL);
    while Instant::now() < end {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return Vec::new(),
            Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(2)),
            _ => {}
        }
    }
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| hanging(&entry.path())).collect()
}

/// Describes a user process, given its folder in /proc.
fn hanging(process: &Path) -> Option<String> {
    let pid: u32 = process.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let (_state, parent) = (fields.next()?, fields.next()?);
    if pid <= 2 || parent == "2" {
        return None; // ourselves, or a kernel thread
    }
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let stack = fs::read_to_string(process.join("stack")).unwrap_or_default();
    Some(format!(
        "process {pid} ({}) was killed but does not end:\n{stack}",
        name.trim()
    ))
}

/// Stops kmemleak's own scans: they take the time of the command, and those after it find the same.
pub(crate) fn stop_background_scans() {
    if Path::new(KMEMLEAK).exists() {
        let _: std::io::Result<()> = fs::write(KMEMLEAK, "scan=off");
    }
}

/// Has kmemleak look, twice: what it has not seen before it never reports.
fn leaks() -> Option<String> {
    if !Path::new(KMEMLEAK).exists() {
        return None;
    }
    thread::sleep(LEAK_AGE);
    for _ in 0..2 {
        if let Err(error) = fs::write(KMEMLEAK, "scan") {
            return Some(format!("kmemleak cannot scan: {error}"));
        }
    }
    let found = fs::read_to_string(KMEMLEAK).unwrap_or_else(|error| error.to_string());
    (!found.trim().is_empty()).then(|| format!("kmemleak:\n{found}"))
}
