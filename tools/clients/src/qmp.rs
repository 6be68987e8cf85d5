// SPDX-License-Identifier: GPL-2.0
//! The monitor of the nested QEMU.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::system::limit;

/// An open monitor.
#[derive(Debug)]
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
    /// Events that came while something else was waited for.
    events: Vec<Value>,
}

impl Qmp {
    /// Connects to the socket of a QEMU that runs.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("QEMU's monitor")?;
        let mut qmp = Self {
            stream: BufReader::new(stream),
            events: Vec::new(),
        };
        let greeting = qmp.read(limit(20))?;
        ensure!(greeting.get("QMP").is_some(), "no greeting: {greeting}");
        qmp.call("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command.
    pub(crate) fn call(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream.get_mut(), "{line}")?;
        loop {
            let mut reply = self.read(limit(60))?;
            if reply.get("event").is_some() {
                self.events.push(reply);
            } else if let Some(error) = reply.get("error") {
                bail!("{command}: {}", error["desc"]);
            } else {
                return Ok(reply["return"].take());
            }
        }
    }

    /// Waits until the device `id` is gone.
    pub(crate) fn deleted(&mut self, id: &str, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        let wanted = |e: &Value| e["event"] == "DEVICE_DELETED" && e["data"]["device"] == id;
        loop {
            if let Some(at) = self.events.iter().position(wanted) {
                self.events.remove(at);
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no DEVICE_DELETED for {id}");
            let event = self.read(left).context("waiting for DEVICE_DELETED")?;
            self.events.push(event);
        }
    }

    fn read(&mut self, time: Duration) -> Result<Value> {
        self.stream.get_ref().set_read_timeout(Some(time))?;
        let mut line = String::new();
        self.stream.read_line(&mut line).context("QEMU's monitor")?;
        ensure!(!line.is_empty(), "QEMU closed its monitor");
        Ok(serde_json::from_str(&line)?)
    }
}
