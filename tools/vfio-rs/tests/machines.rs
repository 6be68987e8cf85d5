// SPDX-License-Identifier: GPL-2.0
//! What the commands print of recorded machines, against what is kept in `machines/*.out`. After a
//! change that is meant: `VFIO_RS_BLESS=1 cargo test -p vfio-rs-cli`, and read the difference.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use vfio_rs_cli::cli::Cli;
use vfio_rs_cli::errors::Stop;
use vfio_rs_cli::run;

/// Of all machines.
const ALL: &[&str] = &[
    "list",
    "list --groups",
    "who",
    "doctor",
    "top --once",
    "faults",
];
/// Of each alone.
const MACHINES: &[(&str, &[&str])] = &[
    (
        "desktop",
        &[
            "list --all -o full,id,override,numa,verdict",
            "show 01:00.0 nvme0n1",
            "list --json card1",
            "bind --dry-run 00:15.0",
            "bind --dry-run card1",
            "bind --dry-run --force=test nvme0n1",
            "bind --dry-run enp3s0",
            "bind --dry-run --force=test enp3s0",
            "bind 00:1b.0",
            "list nothing",
        ],
    ),
    (
        "laptop",
        &[
            "list nvme0n1p1",
            "show 04:00.4",
            "show --json wlp1s0",
            "bind --dry-run --only 04:00.4",
            "bind -n 04:00.4",
        ],
    ),
    (
        "server",
        &[
            "list -o address,user 15b3:1016",
            "show 01:00.0 01:00.2",
            "who --json",
            "bind -n 01:00.3",
            "restore -n --only 01:00.3",
            "restore -n 01:00.3",
            "bind -n sdc",
        ],
    ),
    (
        "no-iommu",
        &[
            "list --all",
            "show 0001:01:00.1",
            "list --json nouveau",
            "bind -n nouveau",
        ],
    ),
    (
        "vm-intel",
        &[
            "list -o full,class,driver,override",
            "show 00:02.0 01:00.0",
            "bind -n 00:11.0 01:00.0",
            "restore -n 00:02.0",
            "qemu 00:11.0 02:00.0",
            "libvirt 01:00.0",
            "allow -n root 00:02.0",
            "explain EPERM SET_CONTAINER",
            "explain 0x3b71",
            "explain nothing of the kind",
        ],
    ),
    ("vm-amd", &["show --json 00:02.0", "doctor 00:02.0"]),
    (
        "vm-virtio",
        &[
            "show 00:02.0",
            "doctor --json --client dpdk --mem 1G 00:02.0",
        ],
    ),
    (
        "vm-none",
        &["list --json 01:00.0", "doctor 01:00.0", "bind -n 01:00.0"],
    ),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines")
}

/// A command and what it prints, without colours.
fn session(tree: &Path, line: &str) -> Result<String> {
    let root = tree.to_str().context("path")?;
    let words = ["vfio-rs", "--root", root]
        .into_iter()
        .chain(line.split(' '));
    let cli = Cli::try_parse_from(words)?;
    let mut bytes = Vec::new();
    let status = run::run(&cli, &mut bytes, 80);
    let text = String::from_utf8(bytes)?;
    let mut out = format!("$ vfio-rs {line}\n{}", anstream::adapter::strip_str(&text));
    match status {
        Ok(0) => {}
        Ok(status) => writeln!(out, "(exit status {status})")?,
        Err(e) => {
            let stop = e.downcast_ref::<Stop>();
            let status = stop.map_or(run::PROBLEM, Stop::status);
            writeln!(out, "vfio-rs: {e:#}\n(exit status {status})")?;
        }
    }
    Ok(out + "\n")
}

#[test]
fn machines_as_they_were() -> Result<()> {
    for (name, lines) in MACHINES {
        let tree = folder().join(format!("{name}.tree"));
        let mut got = String::new();
        for line in ALL.iter().chain(*lines) {
            got += &session(&tree, line).with_context(|| format!("{name}: {line}"))?;
        }
        // Not JSON, nor what is for a shell, nor messages, which the terminal breaks.
        let heads = ["  ", "vfio-rs: ", "echo ", "[ "];
        let is_free = |text: &str| heads.iter().any(|head| text.starts_with(head));
        let wide = got.lines().find(|text| text.len() > 80 && !is_free(text));
        ensure!(wide.is_none(), "{name}: wider than 80: {wide:?}");
        let kept = folder().join(format!("{name}.out"));
        if std::env::var_os("VFIO_RS_BLESS").is_some() {
            fs::write(&kept, &got)?;
            continue;
        }
        let want = fs::read_to_string(&kept).with_context(|| kept.display().to_string())?;
        let differs = want
            .lines()
            .zip(got.lines())
            .find(|(want, got)| want != got);
        ensure!(
            want == got,
            "{}: first difference, kept and now: {differs:#?}",
            kept.display()
        );
    }
    Ok(())
}

/// What `record` writes tells the other commands the same.
#[test]
fn a_record_of_a_record_is_the_same() -> Result<()> {
    for (name, _) in MACHINES {
        let tree = folder().join(format!("{name}.tree"));
        let again = tempfile::NamedTempFile::new()?;
        let text = session(&tree, "record")?;
        let (_, text) = text.split_once('\n').context("no head")?;
        fs::write(again.path(), text)?;
        for line in ["list", "list --groups", "who"] {
            let (first, second) = (session(&tree, line)?, session(again.path(), line)?);
            ensure!(first == second, "{name}, {line}:\n{first}\n{second}");
        }
    }
    Ok(())
}
