// SPDX-License-Identifier: GPL-2.0
//! A guided tour of VFIO: takes a PCI device away from the kernel, drives it from this program,
//! lets it do DMA and raise an interrupt, shows that the IOMMU stops what it must, and gives it
//! back. Each step is told in plain words.
//!
//! The device is QEMU's `edu`, made for teaching. `steps.rs` has the steps, `tell.rs` the printing.

#![forbid(unsafe_code)]

mod steps;
mod tell;

use std::process::ExitCode;

use clap::Parser;

use crate::tell::Teller;

/// Drives QEMU's edu device from user space through VFIO, step by step, in words for newcomers.
/// Needs root.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Wait for Enter after each step.
    #[arg(short, long)]
    pause: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut tell = Teller::new(args.pause);
    match steps::tour(&mut tell) {
        Ok(()) => {
            tell.closing();
            ExitCode::SUCCESS
        }
        Err(e) => {
            tell.failure(&e);
            ExitCode::FAILURE
        }
    }
}
