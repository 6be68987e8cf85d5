// SPDX-License-Identifier: GPL-2.0
//! DPDK's testpmd forwards between igb, or a virtual function of it, and e1000e, which are on one
//! wire.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::report::Report;
use crate::system::{device, limit};
use crate::{Interrupts, program, vf};

const TESTPMD: &str = "dpdk-testpmd";
const PROMPT: &str = "testpmd> ";
/// Packets that each port must have received before it counts as forwarding.
const PACKETS: u64 = 20_000;
const PORTS: [&str; 2] = ["igb0", "e1000e0"];

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Kinds of interrupts, one run each.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "msix,msi,intx"
    )]
    interrupts: Vec<Interrupts>,
    /// Also a run without huge pages.
    #[arg(long)]
    no_huge: bool,
    /// Also a run with a virtual function of igb, which the kernel drives.
    #[arg(long)]
    vf: bool,
}

/// Addresses of the ports.
fn ports() -> Result<[String; 2]> {
    Ok([device(PORTS[0])?.address, device(PORTS[1])?.address])
}

/// Runs all that `options` ask for.
pub(crate) fn run(options: &Options, report: &mut Report) {
    if program(TESTPMD).is_none() {
        report.skip("testpmd", "no dpdk-testpmd here (Debian package dpdk-dev)");
        return;
    }
    let prepared = report.step("ports bound, huge pages", || {
        for id in PORTS {
            device(id)?
                .bind_vfio()
                .with_context(|| format!("{id} to vfio-pci"))?;
        }
        let pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
        fs::write(pages, "256")?;
        let got = fs::read_to_string(pages)?;
        ensure!(got.trim() == "256", "only {} huge pages", got.trim());
        Ok(String::new())
    });
    if !prepared {
        return;
    }
    for &interrupts in &options.interrupts {
        let name = interrupts.name();
        report.step(&format!("{name}: forwards, stops, starts again"), || {
            forward(&ports()?, interrupts, &["--in-memory"])
        });
    }
    if options.no_huge {
        report.step("no huge pages: forwards, stops, starts again", || {
            forward(&ports()?, Interrupts::Msix, &["--no-huge", "-m", "96"])
        });
    }
    if options.vf {
        report.step("virtual function: forwards, stops, starts again", || {
            let ports = [vf::of(PORTS[0])?.address, device(PORTS[1])?.address];
            forward(&ports, Interrupts::Msix, &["--in-memory"])
        });
    }
}

/// testpmd with its prompt.
struct Testpmd {
    child: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    /// All that it has printed.
    log: String,
}

impl Testpmd {
    fn start(ports: &[String; 2], interrupts: Interrupts, more: &[&str]) -> Result<Self> {
        let mut words = vec!["-l", "0-1", "-n", "1", "--iova-mode=va"];
        words.extend(match interrupts {
            Interrupts::Msix => ["--vfio-intr=msix"],
            Interrupts::Msi => ["--vfio-intr=msi"],
            Interrupts::Intx => ["--vfio-intr=legacy"],
        });
        ports.iter().for_each(|a| words.extend(["-a", a]));
        words.extend(more);
        words.extend(["--", "-i", "--total-num-mbufs=4096", "--no-mlockall"]);
        // Both streams in one, and each line at once.
        let mut child = Command::new("sh")
            .args(["-c", "exec stdbuf -oL \"$@\" 2>&1", "sh", TESTPMD])
            .args(&words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("no pipe to testpmd")?;
        let mut stream = child.stdout.take().context("no pipe from testpmd")?;
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut testpmd = Self {
            child,
            input,
            output,
            log: String::new(),
        };
        testpmd.wait(0, PROMPT, 1)?;
        Ok(testpmd)
    }

    /// Waits until `text` was printed `times` times after `from`; gives all that was.
    ///
    /// Prompts tell nothing: testpmd prints some before it has done what it was told.
    fn wait(&mut self, from: usize, text: &str, times: usize) -> Result<String> {
        let end = Instant::now() + limit(120);
        while self.log[from..].matches(text).count() < times {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.log += &String::from_utf8_lossy(&bytes),
                Err(mpsc::RecvTimeoutError::Timeout) => bail!("testpmd hangs:\n{}", self.tail()),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    bail!("testpmd ended: {}\n{}", self.child.wait()?, self.tail())
                }
            }
        }
        Ok(self.log[from..].to_owned())
    }

    /// Runs a command that is done when `text` was printed `times` times; gives what it printed.
    fn command(&mut self, command: &str, text: &str, times: usize) -> Result<String> {
        let from = self.log.len();
        writeln!(self.input, "{command}")?;
        self.wait(from, text, times)
            .with_context(|| command.to_owned())
    }

    fn tail(&self) -> String {
        let lines: Vec<_> = self.log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Has each port send to the other's address: a virtual function gets only what is meant for
    /// it.
    fn address_each_other(&mut self) -> Result<()> {
        for (port, other) in [("0", "1"), ("1", "0")] {
            let said = self.command(&format!("show port info {other}"), "Promiscuous", 1)?;
            let address = said
                .split_once("MAC address: ")
                .and_then(|(_, rest)| rest.split_whitespace().next())
                .with_context(|| format!("no address in:\n{said}"))?
                .to_owned();
            writeln!(self.input, "set eth-peer {port} {address}")?;
        }
        self.command("set fwd mac", "packet forwarding mode", 1)
            .map(drop)
    }

    /// A counter of each port.
    fn counters(&mut self, name: &str) -> Result<Vec<u64>> {
        let text = self.command("show port stats all", "Tx-bps", PORTS.len())?;
        let counters: Vec<u64> = text
            .split(&format!("{name}:"))
            .skip(1)
            .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
            .collect();
        ensure!(counters.len() == PORTS.len(), "{name} not in:\n{text}");
        Ok(counters)
    }

    /// Starts forwarding and looks until both ports have received `PACKETS`; gives the counts.
    fn traffic(&mut self) -> Result<Vec<u64>> {
        self.command("clear port stats all", "cleared", PORTS.len())?;
        self.command("start tx_first 4", "packet forwarding", 1)?;
        let end = Instant::now() + limit(60);
        let packets = loop {
            let packets = self.counters("RX-packets")?;
            if packets.iter().all(|&n| n >= PACKETS) {
                break packets;
            }
            ensure!(
                Instant::now() < end,
                "packets received: {packets:?}\n{}",
                self.tail()
            );
        };
        self.command("stop", "Done.", 1)?;
        for errors in ["RX-errors", "TX-errors"] {
            let errors_seen = self.counters(errors)?;
            ensure!(errors_seen == [0, 0], "{errors}: {errors_seen:?}");
        }
        Ok(packets)
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forward(ports: &[String; 2], interrupts: Interrupts, more: &[&str]) -> Result<String> {
    let mut testpmd = Testpmd::start(ports, interrupts, more)?;
    testpmd.address_each_other()?;
    let first = testpmd.traffic()?;
    testpmd.command("port stop all", "\nDone", 1)?;
    testpmd.command("port start all", "\nDone", 1)?;
    let second = testpmd.traffic()?;
    writeln!(testpmd.input, "quit")?;
    let status = testpmd.child.wait()?;
    while let Ok(bytes) = testpmd.output.recv() {
        testpmd.log += &String::from_utf8_lossy(&bytes);
    }
    ensure!(status.success(), "testpmd: {status}\n{}", testpmd.tail());
    // The link change is told by an interrupt.
    let changes = testpmd.log.matches("link state change event").count();
    ensure!(changes > 0, "no interrupt came:\n{}", testpmd.tail());
    Ok(format!(
        "received {first:?}, again {second:?}; {changes} link interrupts"
    ))
}
