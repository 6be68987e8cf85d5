// SPDX-License-Identifier: GPL-2.0
//! `vfio-rs allow` and `deny`: who may open a device, now and after each boot.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, chown};

use crate::address::Address;
use crate::bind::needs_root;
use crate::cli::{AllowArgs, DenyArgs};
use crate::doctor::{limit_lines, locked_limit};
use crate::errors::Stop;
use crate::host::Host;
use crate::machine::Device;
use crate::show::nodes;
use crate::text::size;
use crate::users::user_number;

/// Room that is enough for small guests, for the lines that are printed.
const ROOM: u64 = 4 << 30;

fn rule_path(device: Address) -> PathBuf {
    PathBuf::from(format!("/etc/udev/rules.d/61-vfio-rs-{device}.rules"))
}

/// The rule: the group's node is there when the device is bound; the device's own has it as parent.
fn rule(user: &str, device: Address) -> String {
    format!(
        "# vfio-rs allow {user} {device}\n\
         ACTION==\"bind\", SUBSYSTEM==\"pci\", KERNEL==\"{device}\", DRIVER==\"vfio-pci\", \\\n  \
         RUN+=\"/bin/sh -c 'chown {user} /dev/vfio/$$(basename $$(readlink /sys$devpath/iommu_group))'\"\n\
         SUBSYSTEM==\"vfio-dev\", KERNELS==\"{device}\", OWNER=\"{user}\"\n"
    )
}

/// Has udev read its rules; where there is none it is not missed.
pub(crate) fn reload_udev() {
    let _ = Command::new("udevadm")
        .args(["control", "--reload"])
        .output();
}

fn hand_over(host: &Host, device: &Device, uid: u32, out: &mut String) -> Result<()> {
    for node in nodes(&host.root, device) {
        // A device without an IOMMU is the machine: root's alone.
        if node.path.contains("noiommu") {
            continue;
        }
        chown(node.path.as_str(), Some(Uid::from_raw(uid)), None::<Gid>)
            .with_context(|| node.path.clone())?;
        writeln!(
            out,
            "{}: {}",
            node.path,
            crate::users::user_name(&host.root, uid)
        )?;
    }
    Ok(())
}

/// What the user may lock: of its service manager, by which all else is started, or of any process.
fn limit_of(host: &Host, uid: u32) -> Option<Option<u64>> {
    let is_theirs = |pid: &&String| {
        let status = host
            .root
            .text(&format!("proc/{pid}/status"))
            .unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()) == Some(uid)
    };
    let names = host.root.names("proc");
    let pids = names
        .iter()
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let theirs: Vec<_> = pids.filter(is_theirs).collect();
    let is_manager =
        |pid: &&&String| host.root.text(&format!("proc/{pid}/comm")).as_deref() == Some("systemd");
    let process = theirs.iter().find(is_manager).or(theirs.first())?;
    locked_limit(&host.root, process)
}

/// Allows; returns what is printed.
///
/// # Errors
/// [`Stop`], or what failed.
pub fn allow(host: &Host, args: &AllowArgs) -> Result<String> {
    let device = host.one(&args.device)?;
    let Some(uid) = user_number(&host.root, &args.user) else {
        return Err(Stop::Usage(format!("{}: no such user", args.user)).into());
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !args.user.chars().all(is_plain) {
        return Err(Stop::Usage(format!("{}: no name for a rule of udev", args.user)).into());
    }
    if args.dry_run {
        let path = rule_path(device.address);
        return Ok(format!(
            "# {}\n{}",
            path.display(),
            rule(&args.user, device.address)
        ));
    }
    needs_root(host)?;
    let path = rule_path(device.address);
    fs::create_dir_all("/etc/udev/rules.d")?;
    fs::write(&path, rule(&args.user, device.address))
        .with_context(|| path.display().to_string())?;
    reload_udev();
    let mut out = format!("{}: written\n", path.display());
    hand_over(host, device, uid, &mut out)?;
    match limit_of(host, uid) {
        Some(None) => writeln!(out, "{} may lock all memory.", args.user)?,
        limit => {
            match limit.flatten() {
                Some(bytes) => writeln!(out, "{} may lock {}.", args.user, size(bytes))?,
                None => writeln!(out, "{} has no process to see the limit of.", args.user)?,
            }
            writeln!(
                out,
                "For {}:\n{}",
                size(ROOM),
                limit_lines(&args.user, ROOM)
            )?;
        }
    }
    Ok(out)
}

/// Takes it back; returns what is printed.
///
/// # Errors
/// [`Stop`], or what failed.
pub fn deny(host: &Host, args: &DenyArgs) -> Result<String> {
    let device = host.one(&args.device)?;
    needs_root(host)?;
    let path = rule_path(device.address);
    let mut out = String::new();
    match fs::remove_file(&path) {
        Ok(()) => writeln!(out, "{}: removed", path.display())?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(|| path.display().to_string()),
    }
    reload_udev();
    hand_over(host, device, 0, &mut out)?;
    let users: Vec<_> = host.users_of(device).map(crate::list::user).collect();
    if !users.is_empty() {
        writeln!(
            out,
            "{} has it open, and keeps it until it is closed.",
            users.join(", ")
        )?;
    }
    Ok(out)
}
