// SPDX-License-Identifier: GPL-2.0
//! The kernel's log, as a rule from a moment on, for lines that users are meant to see.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::setup::{PATIENCE, slowness};

/// The log from [`Kmsg::now`] on.
#[derive(Debug)]
pub struct Kmsg(File);

impl Kmsg {
    /// Starts behind what has been logged so far.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn now() -> Result<Self> {
        let mut kmsg = Self::all()?;
        kmsg.0.seek(SeekFrom::End(0))?;
        Ok(kmsg)
    }

    /// Starts with the oldest line that the kernel still has.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn all() -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .context("open /dev/kmsg")?;
        Ok(Self(file))
    }

    /// The texts logged since the last call.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn lines(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(len) => {
                    let text = String::from_utf8_lossy(&record[..len]);
                    let body = text.split_once(';').map_or("", |(_, body)| body);
                    lines.push(body.lines().next().unwrap_or_default().to_owned());
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(lines),
                // Overwritten before it was read.
                Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {}
                Err(e) => return Err(e).context("read /dev/kmsg"),
            }
        }
    }

    /// A line with this text must have been logged since the last call.
    ///
    /// # Errors
    /// If there is none.
    pub fn expect(&mut self, text: &str) -> Result<()> {
        let lines = self.lines()?;
        ensure!(
            lines.iter().any(|line| line.contains(text)),
            "no log line with '{text}' but {lines:#?}"
        );
        Ok(())
    }

    /// Does `what` again and again until a line with this text is logged, which an interrupt does
    /// in its own time, and not at all while too much is logged: the kernel then leaves lines out.
    ///
    /// # Errors
    /// If `what` fails, or the line does not come.
    pub fn expect_of(&mut self, text: &str, mut what: impl FnMut() -> Result<()>) -> Result<()> {
        let end = Instant::now() + PATIENCE * slowness();
        loop {
            what()?;
            let found = self.expect(text);
            if found.is_ok() || Instant::now() >= end {
                return found;
            }
        }
    }
}
