// SPDX-License-Identifier: GPL-2.0
//! The other end of the wire: a network card that the virtual machine itself drives, and a TCP
//! server on it that sends back what it got.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::system::{command, device, limit, until};

/// TCP port of the server.
pub(crate) const PORT: u16 = 7000;

/// The peer, up and serving until the process ends.
#[derive(Debug)]
pub(crate) struct Peer {
    interface: String,
    /// Bytes that the server got, of connections that ended.
    received: Arc<AtomicU64>,
}

impl Peer {
    /// Brings the card with QEMU id `id` up with `addresses` (each with its prefix length).
    pub(crate) fn start(id: &str, driver: &str, addresses: &[&str]) -> Result<Self> {
        command(&["modprobe", driver])?;
        let card = device(id)?;
        until("the peer's interface", limit(20), || {
            Ok(!card.netdevs().is_empty())
        })?;
        let interface = card.netdevs().remove(0);
        // A run before this one may have left its own.
        command(&["busybox", "ip", "addr", "flush", "dev", &interface])?;
        for address in addresses {
            command(&["busybox", "ip", "addr", "add", address, "dev", &interface])?;
        }
        command(&["busybox", "ip", "link", "set", &interface, "up"])?;
        let carrier = format!("/sys/class/net/{interface}/carrier");
        until("the peer's link", limit(30), || {
            Ok(fs::read_to_string(&carrier).is_ok_and(|c| c.trim() == "1"))
        })?;
        let listener = TcpListener::bind(("0.0.0.0", PORT)).context("TCP server")?;
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = Arc::clone(&counter);
                thread::spawn(move || {
                    let mut stream = stream;
                    let mut data = Vec::new();
                    if stream.read_to_end(&mut data).is_ok() {
                        counter.fetch_add(data.len() as u64, Ordering::SeqCst);
                        let _ = stream.write_all(&data);
                        let _ = stream.shutdown(Shutdown::Write);
                    }
                });
            }
        });
        Ok(Self {
            interface,
            received,
        })
    }

    /// Bytes that came in over TCP so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::SeqCst)
    }

    /// Bytes that the card itself counted: received and sent.
    pub(crate) fn counters(&self) -> Result<(u64, u64)> {
        let read = |name: &str| -> Result<u64> {
            let path = format!("/sys/class/net/{}/statistics/{name}", self.interface);
            Ok(fs::read_to_string(&path).context(path)?.trim().parse()?)
        };
        Ok((read("rx_bytes")?, read("tx_bytes")?))
    }

    /// Checks that the card moved at least `bytes` each way since `before`.
    pub(crate) fn moved(&self, before: (u64, u64), bytes: u64) -> Result<()> {
        // igb and e1000e refresh their counters every two seconds.
        until("the peer's own counters", limit(10), || {
            let now = self.counters()?;
            Ok(now.0 - before.0 >= bytes && now.1 - before.1 >= bytes)
        })?;
        ensure!(self.received() >= bytes, "the TCP server got less");
        Ok(())
    }
}
