// SPDX-License-Identifier: GPL-2.0
//! `vfio-rs`, and `lsvfio`, which is the same program by another name.

#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::Parser;
use vfio_rs_cli::cli::{Cli, Command, ListCli};
use vfio_rs_cli::errors::Stop;
use vfio_rs_cli::run;

fn main() -> ExitCode {
    let name = std::env::args().next();
    let cli = if run::is_called(name.as_deref(), "lsvfio") {
        let ListCli { root, args } = ListCli::parse();
        Cli {
            root,
            command: Some(Command::List(args)),
        }
    } else {
        Cli::parse()
    };
    match run::run(&cli, &mut run::stdout(), run::width()) {
        Ok(status) => ExitCode::from(status),
        // Whoever reads has seen enough.
        Err(e) if is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("vfio-rs: {e:#}");
            let stop = e.downcast_ref::<Stop>();
            ExitCode::from(stop.map_or(run::PROBLEM, Stop::status))
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
}
