// SPDX-License-Identifier: GPL-2.0
//! `vfio-rs bind` and `restore`: whole groups go to vfio-pci and come back, all or nothing.
//!
//! | file         | has                                                            |
//! |--------------|----------------------------------------------------------------|
//! | `refuse.rs`  | why the host cannot do without a device                        |
//! | `plan.rs`    | the steps, which are also what `--dry-run` prints              |
//! | `state.rs`   | which driver each device had, in /run                          |
//! | `perform.rs` | does the steps, and undoes them if one fails                   |
//!
//! What a device had is written down before it is touched, and struck out after it has that again.
//! So whatever a kill leaves, `restore` finds.

mod perform;
mod plan;
mod refuse;
mod state;

use std::fmt::Write;

use anyhow::{Result, bail};

use self::perform::Kernel;
pub(crate) use self::perform::put;
use self::plan::{Plan, Step};
use self::state::{Before, State};
use crate::cli::{BindArgs, RestoreArgs};
use crate::errors::Stop;
use crate::host::Host;
use crate::machine::{Device, VFIO_PCI};

/// Refuses to go on without root's privileges.
pub(crate) fn needs_root(host: &Host) -> Result<()> {
    if !host.root.is_real() {
        bail!("this machine is recorded: nothing can be changed; try --dry-run");
    }
    match nix::unistd::geteuid().is_root() {
        true => Ok(()),
        false => Err(Stop::NeedsRoot.into()),
    }
}

/// Those of `words`, with what has to go with them unless `only`; bridges stay.
fn chosen<'a>(host: &'a Host, words: &[String], only: bool) -> Result<Vec<&'a Device>> {
    let mut devices = Vec::<&Device>::new();
    for device in host.all(words)? {
        if device.is_bridge() {
            let text = format!("{} is a bridge, and stays with its driver", device.address);
            return Err(Stop::Refused(vec![text]).into());
        }
        match only {
            true => devices.push(device),
            false => devices.extend(host.machine.companions(device)),
        }
    }
    devices.sort_by_key(|device| device.address);
    devices.dedup_by_key(|device| device.address);
    Ok(devices)
}

/// Refuses what `bind` would refuse.
pub(crate) fn check(host: &Host, device: &Device) -> Result<()> {
    let refusals = refuse::bind(host, &host.machine.companions(device));
    let texts: Vec<_> = refusals.into_iter().map(|refusal| refusal.text).collect();
    match texts.is_empty() {
        true => Ok(()),
        false => Err(Stop::Refused(texts).into()),
    }
}

/// Binds; returns what is printed.
///
/// # Errors
/// [`Stop`], or what failed, after everything is as it was.
pub fn bind(host: &Host, args: &BindArgs) -> Result<String> {
    let devices = chosen(host, &args.devices, args.only)?;
    let todo: Vec<_> = devices
        .iter()
        .filter(|d| !d.has_vfio_driver)
        .copied()
        .collect();
    let refusals = refuse::bind(host, &todo);
    let kept: Vec<_> = refusals
        .into_iter()
        .filter(|refusal| args.force.is_none() || !refusal.can_be_forced)
        .map(|refusal| refusal.text)
        .collect();
    if !kept.is_empty() {
        return Err(Stop::Refused(kept).into());
    }
    let loaded = host.root.exists(&format!("sys/bus/pci/drivers/{VFIO_PCI}"));
    let mut plan = Plan::default();
    if !todo.is_empty() && !loaded {
        plan.steps.push(Step::Load(VFIO_PCI.to_owned()));
    }
    todo.iter().for_each(|device| plan.bind(device));
    if args.dry_run {
        return Ok(plan.shell());
    }
    if todo.is_empty() {
        return Ok(said(&devices, "has a VFIO driver already"));
    }
    needs_root(host)?;
    let lock = State::lock()?;
    let mut state = State::read()?;
    for device in &todo {
        state.note(device, Before::of(device), args.force.as_deref());
    }
    state.write()?;
    let mut kernel = Kernel::new(&host.root);
    if let Err(e) = plan.steps.iter().try_for_each(|step| kernel.perform(step)) {
        let mut text = format!("{e:#}");
        let mut is_undone = true;
        for device in todo.iter().rev() {
            if let Err(again) = put_back(host, &mut state, device) {
                is_undone = false;
                write!(
                    text,
                    "\nand it could not be undone: {}: {again:#}",
                    device.address
                )?;
            }
        }
        if is_undone {
            text += "\nall is as it was before";
        }
        bail!(text);
    }
    drop(lock);
    let mut out = String::new();
    for device in &todo {
        let before = device.driver.as_deref().unwrap_or("no driver");
        writeln!(out, "{}: {before} -> {VFIO_PCI}", device.address)?;
    }
    Ok(out)
}

/// Gives back; returns what is printed.
///
/// # Errors
/// [`Stop`], or what failed.
pub fn restore(host: &Host, args: &RestoreArgs) -> Result<String> {
    let state = State::read_from(&host.root)?;
    let devices = match args.all {
        true => {
            let known = |d: &&Device| state.before(d.address).is_some();
            host.machine.devices.iter().filter(known).collect()
        }
        false => chosen(host, &args.devices, args.only)?,
    };
    let refusals = refuse::restore(host, &devices);
    if !refusals.is_empty() {
        return Err(Stop::Refused(refusals).into());
    }
    if args.dry_run {
        let mut plan = Plan::default();
        for device in &devices {
            plan.restore(&host.root, device, state.before(device.address));
        }
        return Ok(plan.shell());
    }
    needs_root(host)?;
    let _lock = State::lock()?;
    let mut state = State::read()?;
    let (mut out, mut failed) = (String::new(), Vec::new());
    for device in &devices {
        match put_back(host, &mut state, device) {
            Ok(driver) => {
                let before = device.driver.as_deref().unwrap_or("no driver");
                let now = driver.as_deref().unwrap_or("no driver");
                writeln!(out, "{}: {before} -> {now}", device.address)?;
            }
            Err(e) => failed.push(format!("{}: {e:#}", device.address)),
        }
    }
    // What is gone has no driver to get back.
    state.forget(|address| host.machine.at(address).is_none());
    state.write()?;
    match failed.is_empty() {
        true => Ok(out),
        false => bail!("{out}{}", failed.join("\n")),
    }
}

/// Gives one device back to the driver that it had, and strikes that out. Returns its driver.
fn put_back(host: &Host, state: &mut State, device: &Device) -> Result<Option<String>> {
    // Not as it was when all of this began.
    let device = Device::read(&host.root, device.address);
    let mut plan = Plan::default();
    plan.restore(&host.root, &device, state.before(device.address));
    let mut kernel = Kernel::new(&host.root);
    plan.steps
        .iter()
        .try_for_each(|step| kernel.perform(step))?;
    state.forget(|address| address == device.address);
    state.write()?;
    Ok(Device::read(&host.root, device.address).driver)
}

fn said(devices: &[&Device], what: &str) -> String {
    let lines = devices
        .iter()
        .map(|device| format!("{}: {what}\n", device.address));
    lines.collect()
}
