// SPDX-License-Identifier: GPL-2.0
//! The monitor of the machine's QEMU, over its virtio-serial port.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// An open monitor. Only one process can have it open at a time.
pub(crate) struct Qmp {
    port: BufReader<std::fs::File>,
}

impl Qmp {
    /// Opens the monitor for the first time: reads its greeting and enters command mode, once for all later clients.
    pub(crate) fn first_open(device: &Path) -> Result<Self> {
        let port = OpenOptions::new().read(true).write(true).open(device);
        let port = port.with_context(|| format!("opening {}", device.display()))?;
        let mut qmp = Self {
            port: BufReader::new(port),
        };
        qmp.read()?;
        qmp.call("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and returns its result.
    pub(crate) fn call(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments, "id": command });
        let line = format!("{line}\n");
        self.port.get_mut().write_all(line.as_bytes())?;
        loop {
            let mut reply = self.read()?;
            if reply["id"] != command {
                continue; // an event
            }
            if let Some(error) = reply.get("error") {
                bail!("QEMU refuses {command}: {}", error["desc"]);
            }
            return Ok(reply["return"].take());
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.port
            .read_line(&mut line)
            .context("reading from QEMU's monitor")?;
        serde_json::from_str(&line).with_context(|| format!("QEMU's monitor says {line:?}"))
    }
}
