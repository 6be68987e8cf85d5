// SPDX-License-Identifier: GPL-2.0
//! Runs unmodified VFIO clients inside the virtual machine, on whatever VFIO stack is loaded there,
//! and checks what they achieve with the devices. Prints TAP; the exit status is 1 if anything
//! failed.
//!
//! Nothing here sleeps to synchronise: each wait is for an event or a state, and has a limit.

#![forbid(unsafe_op_in_unsafe_fn)]

mod channel;
mod dpdk;
mod edu;
mod guest;
mod initrd;
mod peer;
mod qemu;
mod report;
mod system;
mod vf;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::report::Report;

#[derive(Debug, Parser)]
#[command(about = "Runs QEMU and DPDK on the loaded VFIO stack; in the virtual machine")]
struct Args {
    #[command(subcommand)]
    client: Client,
}

#[derive(Debug, Subcommand)]
enum Client {
    /// A nested Linux guest with devices assigned by QEMU.
    Qemu(qemu::Options),
    /// DPDK's testpmd between igb and e1000e.
    Dpdk(dpdk::Options),
    /// In the guest: drives the edu device at this address.
    GuestEdu {
        /// PCI address.
        address: String,
    },
}

/// How the devices are to interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Interrupts {
    /// MSI-X where the device has it.
    Msix,
    /// MSI where the driver can be told.
    Msi,
    /// INTx.
    Intx,
}

impl Interrupts {
    /// Name in results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Msix => "msix",
            Self::Msi => "msi",
            Self::Intx => "intx",
        }
    }
}

/// Where a program is, if it is installed.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"]
        .iter()
        .map(|dir| PathBuf::from(dir).join(name))
        .find(|path| path.exists())
}

fn main() -> ExitCode {
    let mut report = Report::new();
    match Args::parse().client {
        Client::Qemu(options) => qemu::run(&options, &mut report),
        Client::Dpdk(options) => dpdk::run(&options, &mut report),
        Client::GuestEdu { address } => {
            return match edu::drive(&address).and_then(|d| Ok((d, edu::interrupts(&address)?))) {
                Ok((driven, interrupts)) => {
                    println!("{driven}\n{interrupts}");
                    ExitCode::SUCCESS
                }
                Err(e) => {
                    println!("{e:#}");
                    ExitCode::FAILURE
                }
            };
        }
    }
    report.finish()
}
