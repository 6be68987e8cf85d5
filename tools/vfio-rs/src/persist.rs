// SPDX-License-Identifier: GPL-2.0
//! `vfio-rs persist` and `forget`: devices that go to vfio-pci at each boot, if they are still the
//! ones that were meant: a new card renumbers the buses.
//!
//! A file for each device in /etc/vfio-rs/devices.d says where it is and what. A rule of udev runs
//! `vfio-rs udev-apply ADDRESS` for each PCI device that comes, before a module is loaded for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::address::Address;
use crate::allow::reload_udev;
use crate::bind::{needs_root, put};
use crate::cli::{DevicesArgs, PersistArgs};
use crate::config::Config;
use crate::host::Host;
use crate::machine::{Device, VFIO_PCI, folder};
use crate::root::Root;

const FOLDER: &str = "etc/vfio-rs/devices.d";
const RULE: &str = "/etc/udev/rules.d/10-vfio-rs.rules";

/// What a device is.
fn identity(root: &Root, device: &Device) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([
        ("id".to_owned(), device.id_text()),
        (
            "subsystem".to_owned(),
            format!("{:04x}:{:04x}", device.subsystem.0, device.subsystem.1),
        ),
    ]);
    if let Some(serial) = Config::read(root, device).serial() {
        facts.insert("serial".to_owned(), serial);
    }
    facts
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn path(device: Address) -> String {
    format!("{FOLDER}/{device}.conf")
}

fn rule(program: &Path) -> String {
    format!(
        "# Made by vfio-rs persist: devices of /{FOLDER} go to vfio-pci.\n\
         ACTION==\"add\", SUBSYSTEM==\"pci\", PROGRAM==\"{} udev-apply %k\", \\\n  \
         RUN+=\"/sbin/modprobe vfio-pci\"\n",
        program.display()
    )
}

/// Writes down what is to be bound; returns what is printed.
///
/// # Errors
/// [`crate::errors::Stop`], or what failed.
pub fn persist(host: &Host, args: &PersistArgs) -> Result<String> {
    let device = host.one(&args.device)?;
    if !args.force {
        // What must not be bound now must not be at the next boot.
        crate::bind::check(host, device)?;
    }
    let mut files = Vec::new();
    for member in host
        .machine
        .companions(device)
        .into_iter()
        .filter(|d| !d.is_bridge())
    {
        let mut text = format!("# {}\n", host.machine.name(member));
        for (key, value) in identity(&host.root, member) {
            let _ = writeln!(text, "{key}={value}");
        }
        files.push((PathBuf::from("/").join(path(member.address)), text));
    }
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/vfio-rs"));
    files.push((PathBuf::from(RULE), rule(&program)));
    let mut out = String::new();
    if args.dry_run {
        for (path, text) in files {
            let _ = writeln!(out, "# {}\n{text}", path.display());
        }
        return Ok(out);
    }
    needs_root(host)?;
    for (path, text) in files {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        let _ = writeln!(out, "{}: written", path.display());
    }
    reload_udev();
    out += "From the next boot on. If its driver is in the initramfs: update-initramfs -u\n";
    Ok(out)
}

/// Strikes devices out, with their groups; returns what is printed.
///
/// # Errors
/// [`crate::errors::Stop`], or what failed.
pub fn forget(host: &Host, args: &DevicesArgs) -> Result<String> {
    needs_root(host)?;
    let mut addresses = Vec::new();
    for word in &args.devices {
        match word.parse::<Address>() {
            // It may be gone by now.
            Ok(address) if host.machine.at(address).is_none() => addresses.push(address),
            _ => {
                let members = host.machine.companions(host.one(word)?);
                addresses.extend(members.iter().map(|d| d.address));
            }
        }
    }
    let mut out = String::new();
    for address in addresses {
        let path = PathBuf::from("/").join(path(address));
        match fs::remove_file(&path) {
            Ok(()) => drop(writeln!(out, "{}: removed", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| path.display().to_string()),
        }
    }
    if host.root.names(FOLDER).is_empty() && Path::new(RULE).exists() {
        fs::remove_file(RULE)?;
        let _ = writeln!(out, "{RULE}: removed");
        reload_udev();
    }
    Ok(out)
}

/// Says something where whoever looks after the boot will find it.
fn log(text: &str) {
    eprintln!("vfio-rs: {text}");
    if let Ok(mut file) = fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = file.write_all(format!("<4>vfio-rs: {text}\n").as_bytes());
    }
}

/// What udev runs when a device comes: sets its override if it is the one that was meant. The
/// status says whether.
///
/// # Errors
/// If it is not, or has a driver already.
pub fn apply(root: &Root, word: &str) -> Result<String> {
    let address: Address = word.parse()?;
    let Some(text) = root.text(&path(address)) else {
        bail!("{address}: not one that goes to vfio-pci");
    };
    let device = Device::read(root, address);
    let (wanted, has) = (parse(&text), identity(root, &device));
    if !wanted.contains_key("id") {
        log(&format!(
            "{address}: not bound: /{} says not what it is",
            path(address)
        ));
        bail!("incomplete");
    }
    for (key, want) in &wanted {
        let have = has.get(key).map_or("unknown", String::as_str);
        if have != want {
            log(&format!(
                "{address}: not bound: its {key} is {have}, not {want}"
            ));
            bail!("another device");
        }
    }
    if let Some(driver) = device.driver.as_deref().filter(|_| !device.has_vfio_driver) {
        log(&format!(
            "{address}: not bound: {driver} was faster; is vfio-rs in the initramfs?"
        ));
        bail!("too late");
    }
    put(&format!("{}/driver_override", folder(address)), VFIO_PCI)?;
    Ok(format!("{address}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_names_the_program() {
        let rule = rule(Path::new("/usr/bin/vfio-rs"));
        assert!(rule.contains("PROGRAM==\"/usr/bin/vfio-rs udev-apply %k\""));
    }

    #[test]
    fn files_are_read() {
        let facts = parse("# a name\nid=10de:2482\nserial=00\n");
        assert_eq!(facts.get("id").map(String::as_str), Some("10de:2482"));
        assert_eq!(facts.len(), 2);
    }
}
