// SPDX-License-Identifier: GPL-2.0
//! The virtio-serial ports, found by name; udev, which would name them, does not run.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail};

const CLASS: &str = "/sys/class/virtio-ports";
const LINKS: &str = "/dev/virtio-ports";

/// Waits for the port called `name` (it appears some time after the driver's start) and returns its
/// device node.
pub(crate) fn find(name: &str) -> Result<PathBuf> {
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        if let Some((_, node)) = all().into_iter().find(|(found, _)| found == name) {
            return Ok(node);
        }
        thread::sleep(Duration::from_millis(5));
    }
    bail!("no virtio-serial port {name}")
}

/// Makes the links of all ports, as udev would.
pub(crate) fn link_all() -> Result<()> {
    fs::create_dir_all(LINKS)?;
    for (name, node) in all() {
        symlink(&node, Path::new(LINKS).join(&name)).with_context(|| format!("linking {name}"))?;
    }
    Ok(())
}

/// Names and device nodes of the ports that are there now.
fn all() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(CLASS).into_iter().flatten().flatten();
    let port = |entry: fs::DirEntry| {
        let name = fs::read_to_string(entry.path().join("name")).ok()?;
        let node = Path::new("/dev").join(entry.file_name());
        node.exists().then(|| (name.trim().to_owned(), node))
    };
    entries.filter_map(port).collect()
}
