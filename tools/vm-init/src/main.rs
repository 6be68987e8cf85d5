// SPDX-License-Identifier: GPL-2.0
//! The first process of the virtual machine.
//!
//! Mounts the host's file tree with an overlay that keeps changes in memory, loads the VFIO
//! modules, runs the command of the [`Job`], reports its status and powers off. Nothing of the
//! host's own init system runs.

mod agent;
mod command;
mod devices;
mod finish;
mod mounts;
mod ports;

use std::fs::{self, File};
use std::process;

use anyhow::{Context, Result, bail};
use nix::kmod::{ModuleInitFlags, finit_module};
use vm_init::{AGENT_PORT, EARLY_MODULE, Frame, JOB_FILE, Job};

use agent::Agent;

fn main() {
    if process::id() != 1 {
        eprintln!("vm-init is the first process of the virtual machine: scripts/vm starts it");
        process::exit(2);
    }
    if let Err(error) = boot() {
        eprintln!("vm-init: {error:#}");
    }
    finish::power_off();
}

/// The machine's whole life, with errors told to the host.
fn boot() -> Result<()> {
    mounts::early()?;
    load_early_modules()?;
    let job = fs::read(JOB_FILE).context("reading the job")?;
    let job: Job = serde_json::from_slice(&job).context("reading the job")?;
    let agent = Agent::open(&ports::find(AGENT_PORT)?)?;
    match live(&job, &agent) {
        Ok(status) => agent.send(&Frame::Exit(status)),
        Err(error) => agent.send(&Frame::Failed(format!("{error:#}"))),
    }
}

/// Everything between the first contact with the host and the last; returns the command's exit
/// status.
fn live(job: &Job, agent: &Agent) -> Result<i32> {
    mounts::host_tree(job)?;
    ports::link_all()?;
    if let Err(error) = mounts::loopback_up() {
        eprintln!("vm-init: the loopback interface stays down: {error}");
    }
    finish::stop_background_scans();
    let mut env = job.env.clone();
    env.extend(devices::publish()?);
    load_modules(job)?;
    let status = command::run(job, env, agent)?;
    finish::clean_up(job, agent);
    Ok(status)
}

/// Loads what the kernel needs to reach the host's files, if it has not all of it built in.
fn load_early_modules() -> Result<()> {
    for number in 0.. {
        let path = format!("{EARLY_MODULE}{number}");
        let Ok(file) = File::open(&path) else { break };
        finit_module(&file, c"", ModuleInitFlags::empty())
            .with_context(|| format!("loading {path}"))?;
    }
    Ok(())
}

fn load_modules(job: &Job) -> Result<()> {
    for arguments in &job.modprobe {
        let output = process::Command::new("modprobe").args(arguments).output();
        let output = output.context("running modprobe (Debian package kmod)")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("modprobe {} failed: {}", arguments.join(" "), said.trim());
        }
    }
    Ok(())
}
