// SPDX-License-Identifier: GPL-2.0
//! Measures a VFIO stack from inside the virtual machine and prints [`Measured`] as JSON.
//!
//! The same program takes the same steps whatever interface it is told to use. Under `scripts/vm
//! --icount` all figures are instructions of the whole machine, kernel and this program;
//! `scripts/bench` starts it so.

#![forbid(unsafe_code)]

mod clock;
mod memory;
mod rows;
mod sheet;
mod space;

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result};
use clap::Parser;
use vfio_client::sysfs::PciDevice;
use vfio_rs_bench::Measured;

use crate::clock::Clock;
use crate::sheet::{Sheet, Wanted};
use crate::space::Interface;

/// Measures a VFIO stack; needs root and the devices of `scripts/bench`.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure.
    #[arg(long, value_enum, default_value = "type1")]
    interface: Interface,
    /// Fill an address space with this many mappings at most, for the scaling curve.
    #[arg(long, default_value_t = 0)]
    mappings: u64,
    /// Measure two threads against one, and nothing else; needs two processors and a clock that
    /// shows time.
    #[arg(long)]
    threads: bool,
    /// Only rows whose name contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Only the row of just this name: mark each of its steps for a profiler, and copy the kernel's
    /// symbols to this file.
    #[arg(long)]
    marks: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let devices = Devices::bind()?;
    let mut sheet = Sheet::new(match args.marks {
        Some(_) => Wanted::Named(&args.filter),
        None => Wanted::Containing(&args.filter),
    });
    if let Some(file) = &args.marks {
        fs::write(file, fs::read("/proc/kallsyms")?).context("copy symbols")?;
    }
    let clock = Clock::new(args.marks.is_some());
    if args.threads {
        rows::threads::all(&mut sheet, args.interface, &devices)?;
    } else {
        rows::device::all(&mut sheet, clock, args.interface, &devices)?;
        rows::dma::all(&mut sheet, clock, args.interface, &devices)?;
        rows::many::all(&mut sheet, clock, args.interface, &devices)?;
        rows::scaling::all(&mut sheet, clock, args.interface, &devices, args.mappings)?;
    }
    let measured: Measured = sheet.into();
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// The devices that are measured with, bound to vfio-pci.
#[derive(Debug)]
struct Devices {
    /// QEMU's edu: MSI, a BAR of 1 MiB.
    edu: PciDevice,
    /// QEMU's pci-testdev with a BAR of 16 MiB, if the machine has it.
    testdev: Option<PciDevice>,
}

impl Devices {
    fn bind() -> Result<Self> {
        let named =
            |id: &str| env::var(format!("VFIO_RS_BDF_{id}")).map(|address| PciDevice::at(&address));
        let edu = named("EDU0").context("no device edu0: run in scripts/vm")?;
        edu.bind_vfio().context("bind edu")?;
        let testdev = named("BIGBAR0").ok();
        if let Some(testdev) = &testdev {
            testdev.bind_vfio().context("bind pci-testdev")?;
        }
        Ok(Self { edu, testdev })
    }
}
