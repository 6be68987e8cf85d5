// SPDX-License-Identifier: GPL-2.0
//! Runs a command and hands its output over line by line, keeping all of it in a log file.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

/// Runs `command` in `dir`, with what it prints (both streams, in order) appended to `log` and
/// given to `each`, line by line. Bytes that are not UTF-8 are replaced.
///
/// # Errors
/// If it cannot be started or read, or the log cannot be written.
pub(crate) fn lines(
    dir: &Path,
    command: &[impl AsRef<OsStr>],
    log: &mut File,
    mut each: impl FnMut(&str),
) -> Result<ExitStatus> {
    let mut child = Command::new("sh")
        .args(["-c", "exec \"$@\" 2>&1", "sh"])
        .args(command)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("sh")?;
    let output = child.stdout.take().context("no pipe to the command")?;
    let mut reader = BufReader::new(output);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        log.write_all(&bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        // A serial console ends lines by \r\n.
        each(text.trim_end_matches(['\n', '\r']));
        bytes.clear();
    }
    Ok(child.wait()?)
}

/// Runs `script` with `argument` in `dir`, its output shown as it is (it has progress of its own).
///
/// # Errors
/// If it fails.
pub(crate) fn build(dir: &Path, script: &str, argument: &str) -> Result<()> {
    let status = Command::new(dir.join(script))
        .arg(argument)
        .current_dir(dir)
        .stdin(Stdio::null())
        // Standard output is for results.
        .stdout(std::io::stderr())
        .status()
        .with_context(|| script.to_owned())?;
    anyhow::ensure!(status.success(), "{script} {argument}: {status}");
    Ok(())
}

/// Starts to build the same on processors that nobody else needs, in silence. Who needs it calls
/// [`build`], which waits for this one, and says why it failed.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn build_idly(dir: &Path, script: &str, argument: &str) -> Result<Child> {
    Command::new("nice")
        .args(["-n", "19"])
        .arg(dir.join(script))
        .arg(argument)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("nice")
}
