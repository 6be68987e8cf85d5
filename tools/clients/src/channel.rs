// SPDX-License-Identifier: GPL-2.0
//! A shell in the guest, behind a virtio-serial port that QEMU connects to a UNIX socket of ours.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Printed by the guest's first process when its shell is there.
pub(crate) const READY: &str = "@@ready";
/// Comes before the exit status, at the end of a command.
const END: &str = "@@end ";

/// The connection.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: BufReader<UnixStream>,
    /// Bytes of a line that has not ended yet.
    partial: Vec<u8>,
}

impl Channel {
    /// Takes QEMU's connection, within `time`; `alive` tells whether QEMU still runs.
    pub(crate) fn accept(
        listener: &UnixListener,
        time: Duration,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let end = Instant::now() + time;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(Self {
                        stream: BufReader::new(stream),
                        partial: Vec::new(),
                    });
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    alive()?;
                    ensure!(Instant::now() < end, "QEMU does not connect");
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(e) => return Err(e).context("accept"),
            }
        }
    }

    /// Waits for the guest's shell.
    pub(crate) fn ready(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while self.line(end).context("waiting for the guest's shell")? != READY {}
        Ok(())
    }

    /// Runs `command` in the guest; gives its output.
    ///
    /// # Errors
    /// If it fails or takes longer than `time`, with its output.
    pub(crate) fn run(&mut self, command: &str, time: Duration) -> Result<String> {
        let text = format!("{{ {command}\n}} </dev/null 2>&1; s=$?; echo; echo {END}$s\n");
        self.send(&text)?;
        let end = Instant::now() + time;
        let mut output = String::new();
        loop {
            let line = self
                .line(end)
                .with_context(|| format!("guest: {command}\n{output}"))?;
            if let Some(status) = line.strip_prefix(END) {
                let output = output.trim_end().to_owned();
                ensure!(
                    status == "0",
                    "guest: {command}\n{output}\nexit status {status}"
                );
                return Ok(output);
            }
            output += &line;
            output += "\n";
        }
    }

    /// Sends text and waits for nothing.
    pub(crate) fn send(&mut self, text: &str) -> Result<()> {
        self.stream
            .get_mut()
            .write_all(text.as_bytes())
            .context("writing to the guest")
    }

    fn line(&mut self, end: Instant) -> Result<String> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no answer in time");
            self.stream.get_ref().set_read_timeout(Some(left))?;
            match self.stream.read_until(b'\n', &mut self.partial) {
                Ok(0) => bail!("QEMU closed the connection"),
                Ok(_) if self.partial.ends_with(b"\n") => {
                    let line = String::from_utf8_lossy(&self.partial).trim_end().to_owned();
                    self.partial.clear();
                    return Ok(line);
                }
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e).context("reading from the guest"),
            }
        }
    }
}
