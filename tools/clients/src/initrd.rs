// SPDX-License-Identifier: GPL-2.0
//! The nested guest's initramfs: busybox, the drivers, lspci, and this program.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use cpio::NewcBuilder;

use crate::channel::READY;
use crate::program;
use crate::system::command;

const FILE: u32 = 0o100_755;
const FOLDER: u32 = 0o040_755;
/// Name of the port that carries the shell.
pub(crate) const PORT: &str = "shell";
/// Drivers of the devices, as modprobe knows them.
const DRIVERS: [&str; 5] = ["nvme", "igb", "igbvf", "e1000e", "vfio-pci"];
const GUEST_SH: &str = include_str!("guest.sh");

/// The first process: makes a system, then becomes the shell behind the port.
fn init() -> String {
    format!(
        r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /sbin
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
port=
while [ -z "$port" ]; do
	for p in /sys/class/virtio-ports/*; do
		[ "$(cat "$p/name" 2>/dev/null)" != {PORT} ] || port=/dev/${{p##*/}}
	done
done
until [ -e "$port" ]; do usleep 10000; done
exec 3<>"$port"
echo {READY} >&3
exec /bin/busybox sh <&3 >&3 2>/dev/console
"#
    )
}

/// Writes the archive.
pub(crate) fn write(path: &Path) -> Result<()> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut add = |name: &str, from: &Path| -> Result<()> {
        let data = fs::read(from).with_context(|| from.display().to_string())?;
        files.insert(name.trim_start_matches('/').to_owned(), data);
        Ok(())
    };
    let busybox = program("busybox").context("no busybox")?;
    add("bin/busybox", &busybox)?;
    add("bin/vfio-rs-clients", &std::env::current_exe()?)?;
    if let Some(lspci) = program("lspci") {
        add("usr/bin/lspci", &lspci)?;
        let libraries = command(&["ldd", &lspci.display().to_string()])?;
        for word in libraries.split_whitespace().filter(|w| w.starts_with('/')) {
            add(word, Path::new(word))?;
        }
    }
    let mut modules = Vec::new();
    for driver in DRIVERS {
        let insmods = command(&["modprobe", "--show-depends", driver])?;
        for file in insmods
            .lines()
            .filter_map(|l| l.trim().strip_prefix("insmod "))
        {
            let file = file.split_whitespace().next().unwrap_or(file);
            if !modules.contains(&file.to_owned()) {
                modules.push(file.to_owned());
            }
        }
    }
    for (order, file) in modules.iter().map(Path::new).enumerate() {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        add(&format!("modules/{order:02}-{name}"), file)?;
    }
    files.insert("init".to_owned(), init().into_bytes());
    files.insert("guest.sh".to_owned(), GUEST_SH.into());

    let mut out = BufWriter::new(File::create(path)?);
    let mut folders = vec!["dev".to_owned()];
    for name in files.keys() {
        let mut at = 0;
        while let Some(slash) = name[at..].find('/') {
            at += slash;
            if !folders.contains(&name[..at].to_owned()) {
                folders.push(name[..at].to_owned());
            }
            at += 1;
        }
    }
    let mut inode = 0;
    let mut entry = |name: &str, mode: u32, data: &[u8]| -> Result<()> {
        inode += 1;
        let builder = NewcBuilder::new(name).mode(mode).ino(inode).nlink(1);
        let mut entry = builder.write(&mut out, data.len() as u32);
        entry.write_all(data)?;
        entry.finish()?;
        Ok(())
    };
    for folder in &folders {
        entry(folder, FOLDER, &[])?;
    }
    for (name, data) in &files {
        entry(name, FILE, data)?;
    }
    cpio::newc::trailer(&mut out)?.flush()?;
    Ok(())
}
