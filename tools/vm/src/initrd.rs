// SPDX-License-Identifier: GPL-2.0
//! The initramfs: the first process, its job, and what modules the kernel needs for that.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cpio::NewcBuilder;
use vm_init::{EARLY_MODULE, JOB_FILE, Job};

const FILE: u32 = 0o100_000;

/// Writes the archive to `path`; `modules` are loaded in this order.
pub(crate) fn write(path: &Path, init: &Path, job: &Job, modules: &[PathBuf]) -> Result<()> {
    let read = |file: &Path| fs::read(file).with_context(|| format!("reading {}", file.display()));
    let init = read(init)?;
    let job = serde_json::to_vec(job)?;
    let mut out = BufWriter::new(File::create(path)?);
    let mut files = vec![
        ("init".to_owned(), 0o755, init),
        (JOB_FILE.trim_start_matches('/').to_owned(), 0o600, job),
    ];
    for (number, module) in modules.iter().enumerate() {
        let name = format!("{}{number}", EARLY_MODULE.trim_start_matches('/'));
        files.push((name, 0o600, read(module)?));
    }
    for (inode, (name, mode, data)) in files.iter().enumerate() {
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
