// SPDX-License-Identifier: GPL-2.0
//! Does what the command line asks, and says so by the exit status.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;

use crate::cli::{Cli, Command, DoctorArgs, ListArgs};
use crate::host::Host;
use crate::root::Root;
use crate::{
    allow, bind, doctor, explain, faults, lines, list, persist, record, show, text, top, who,
};

/// Done.
pub const OK: u8 = 0;
/// A problem was found, or something failed.
pub const PROBLEM: u8 = 1;

/// Runs a command; what it prints goes to `out`. Returns the exit status.
///
/// # Errors
/// What went wrong, for which the status is [`PROBLEM`].
pub fn run(cli: &Cli, out: &mut dyn Write, width: usize) -> Result<u8> {
    let root = match &cli.root {
        Some(path) => Root::open(path)?,
        None => Root::real(),
    };
    let default = Command::List(ListArgs::default());
    let text = match cli.command.as_ref().unwrap_or(&default) {
        Command::List(args) => {
            let host = Host::read(root);
            if host.machine.groups().is_empty() && !args.json {
                eprintln!("vfio-rs: no device has an IOMMU group; `vfio-rs doctor` says why");
            }
            list::run(&host, args, width)?
        }
        Command::Show(args) => show::run(&Host::read(root), &args.devices, args.json, width)?,
        Command::Who(args) => {
            let host = Host::read(root);
            if host.users.is_partial && !args.json {
                eprintln!("vfio-rs: not all processes can be looked into; root sees all");
            }
            who::run(&host, args.json, width)?
        }
        Command::Bind(args) => bind::bind(&Host::read(root), args)?,
        Command::Restore(args) => bind::restore(&Host::read(root), args)?,
        Command::Doctor(args) => {
            let (text, is_well) = doctor::run(&Host::read(root), args, width)?;
            out.write_all(text.as_bytes())?;
            return Ok(if is_well { OK } else { PROBLEM });
        }
        Command::Allow(args) => allow::allow(&Host::read(root), args)?,
        Command::Deny(args) => allow::deny(&Host::read(root), args)?,
        Command::Persist(args) => persist::persist(&Host::read(root), args)?,
        Command::Forget(args) => persist::forget(&Host::read(root), args)?,
        Command::UdevApply { address } => persist::apply(&root, address)?,
        Command::Faults(args) if args.follow && root.is_real() => {
            faults::follow(args, out)?;
            String::new()
        }
        Command::Faults(args) => faults::run(&Host::read(root), args)?,
        Command::Top(args) => {
            top::run(root, args, out, width)?;
            String::new()
        }
        Command::Explain { words, json } => explain::run(words, *json, width)?,
        Command::Qemu(args) => lines::qemu(&Host::read(root), &args.devices)?,
        Command::Libvirt(args) => lines::libvirt(&Host::read(root), &args.devices)?,
        Command::Completions { shell } => {
            let mut bytes = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "vfio-rs", &mut bytes);
            String::from_utf8(bytes)?
        }
        Command::Man { dir: Some(dir) } => {
            fs::create_dir_all(dir)?;
            clap_mangen::generate_to(Cli::command(), dir)
                .with_context(|| dir.display().to_string())?;
            String::new()
        }
        Command::Man { dir: None } => man()?,
        Command::Record { note } => record_all(root, note, width)?,
    };
    out.write_all(text.as_bytes())?;
    Ok(OK)
}

fn man() -> Result<String> {
    let mut bytes = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut bytes)?;
    Ok(String::from_utf8(bytes)?)
}

/// Runs what only reads, and prints what was read.
fn record_all(root: Root, notes: &[String], width: usize) -> Result<String> {
    let host = Host::read(root.remembering());
    let all: Vec<_> = host
        .machine
        .devices
        .iter()
        .map(|d| d.address.to_string())
        .collect();
    show::run(&host, &all, true, width)?;
    list::run(&host, &ListArgs::default(), width)?;
    let notes: Vec<_> = notes.iter().map(String::as_str).collect();
    doctor::run(&host, &DoctorArgs::default(), width)?;
    let names = host.machine.names.list();
    Ok(record::write(
        &host.root,
        &notes,
        &names,
        &host.users.processes,
    ))
}

/// Standard output, without colours if it is no terminal or NO_COLOR is set.
#[must_use]
pub fn stdout() -> Box<dyn Write> {
    Box::new(anstream::AutoStream::auto(io::stdout()))
}

/// Whether this program was called by this name.
#[must_use]
pub fn is_called(program: Option<&str>, name: &str) -> bool {
    let path = program.map(Path::new);
    path.and_then(Path::file_name)
        .is_some_and(|file| file == name)
}

/// Columns to print in.
#[must_use]
pub fn width() -> usize {
    text::width()
}
