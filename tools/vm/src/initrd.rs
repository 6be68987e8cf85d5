// SPDX-License-Identifier: GPL-2.0
//! The initramfs: the first process and its job, nothing else.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use cpio::NewcBuilder;
use vm_init::{JOB_FILE, Job};

const FILE: u32 = 0o100_000;

/// Writes the archive to `path`.
pub(crate) fn write(path: &Path, init: &Path, job: &Job) -> Result<()> {
    let init = fs::read(init).with_context(|| format!("reading {}", init.display()))?;
    let job = serde_json::to_vec(job)?;
    let mut out = BufWriter::new(File::create(path)?);
    for (inode, (name, mode, data)) in [
        ("init", 0o755, init),
        (JOB_FILE.trim_start_matches('/'), 0o600, job),
    ]
    .iter()
    .enumerate()
    {
        let entry = NewcBuilder::new(name)
            .mode(FILE | mode)
            .ino(inode as u32 + 1)
            .nlink(1);
        let mut entry = entry.write(&mut out, data.len() as u32);
        entry.write_all(data)?;
        entry.finish()?;
    }
    cpio::newc::trailer(&mut out)?.flush()?;
    Ok(())
}
