// SPDX-License-Identifier: GPL-2.0
//! The connection to the host.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use vm_init::Frame;

/// Sends and receives [`Frame`]s; clones share the connection.
#[derive(Clone)]
pub(crate) struct Agent {
    port: Arc<Mutex<File>>,
    receiver: Arc<File>,
}

impl Agent {
    /// Opens the virtio-serial port `device`.
    pub(crate) fn open(device: &Path) -> Result<Self> {
        let port = OpenOptions::new().read(true).write(true).open(device);
        let port = port.with_context(|| format!("opening {}", device.display()))?;
        let receiver = Arc::new(port.try_clone()?);
        let port = Arc::new(Mutex::new(port));
        Ok(Self { port, receiver })
    }

    /// Sends one frame; returns when the host's QEMU has taken it.
    pub(crate) fn send(&self, frame: &Frame) -> Result<()> {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        frame.write(&mut *port).context("writing to the host")
    }

    /// Waits for the next frame; none when the host has gone.
    pub(crate) fn receive(&self) -> Option<Frame> {
        Frame::read(&mut &*self.receiver).ok().flatten()
    }
}
