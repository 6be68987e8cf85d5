// SPDX-License-Identifier: GPL-2.0
//! The kernel's own threads for work of all kinds: how many there are, and what they use.

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::{Context, Result};

/// What of /proc/PID/stat is behind the name, for each of them.
fn stats() -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path().join("stat");
        // Not a process, or one that is gone.
        let Ok(stat) = fs::read_to_string(path) else {
            continue;
        };
        let named = stat.split_once(" (kworker/").map(|(_, rest)| rest);
        if let Some((_, fields)) = named.and_then(|rest| rest.rsplit_once(") ")) {
            all.push(fields.to_owned());
        }
    }
    Ok(all)
}

/// How many there are.
///
/// # Errors
/// If the kernel does not tell.
pub fn count() -> Result<usize> {
    Ok(stats()?.len())
}

/// How long they have run, those together that are still there.
///
/// # Errors
/// If the kernel does not tell.
pub fn time() -> Result<Duration> {
    /// Time for the kernel, counted from the field behind the name.
    const STIME: usize = 12;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock")?;
    let mut ticks = 0.0;
    for stat in stats()? {
        let field = stat.split(' ').nth(STIME).context("a short line")?;
        ticks += field.parse::<f64>()?;
    }
    Ok(Duration::from_secs_f64(ticks / per_second as f64))
}
