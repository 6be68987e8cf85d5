// SPDX-License-Identifier: GPL-2.0
//! The stacks that are compared, and how each is measured: in a machine that just booted, the same
//! kernel for all.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use vfio_rs_bench::Measured;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stack {
    /// Linux's type1v2.
    C,
    /// Linux's iommufd by type1's ioctls.
    IommufdCompat,
    /// Linux's iommufd by its own.
    Iommufd,
    /// This project's type1v2.
    Ours,
    /// This project's devices with Linux's iommufd, by its own ioctls.
    OursIommufd,
}

/// All of them, in the order of the table.
pub(crate) const STACKS: [Stack; 5] = [
    Stack::C,
    Stack::IommufdCompat,
    Stack::Iommufd,
    Stack::Ours,
    Stack::OursIommufd,
];

/// Those that have a scaling curve of their own: iommufd's address spaces do not depend on whose
/// the devices are.
pub(crate) const DRAWN: [Stack; 4] = [Stack::C, Stack::IommufdCompat, Stack::Iommufd, Stack::Ours];

/// How often a machine whose processors run side by side is started: QEMU may lose one of its
/// timers.
const TRIES: u32 = 3;

impl Stack {
    /// Its name in the JSON and the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::IommufdCompat => "iommufd-compat",
            Self::Iommufd => "iommufd",
            Self::Ours => "ours",
            Self::OursIommufd => "ours-iommufd",
        }
    }

    fn modules(self) -> &'static str {
        match self {
            Self::Ours | Self::OursIommufd => "rust",
            Self::C | Self::IommufdCompat | Self::Iommufd => "c",
        }
    }

    fn interface(self) -> &'static str {
        match self {
            Self::C | Self::Ours => "type1",
            Self::IommufdCompat => "iommufd-compat",
            Self::Iommufd | Self::OursIommufd => "iommufd",
        }
    }
}

/// What starts the machines.
#[derive(Debug)]
pub(crate) struct Machines<'a> {
    /// The project's folder.
    pub top: &'a Path,
    /// The measuring program.
    pub program: &'a Path,
}

impl Machines<'_> {
    /// Counts instructions of everything but threads; the scaling curve ends at `mappings`.
    ///
    /// # Errors
    /// If the machine or the program fails.
    pub(crate) fn count(&self, stack: Stack, mappings: u64) -> Result<Measured> {
        let mappings = mappings.to_string();
        self.run(
            stack,
            &["--icount", "--timeout", "1800"],
            &["--mappings", &mappings],
        )
    }

    /// Counts instructions of the rows whose names contain `filter`.
    ///
    /// # Errors
    /// If the machine or the program fails.
    pub(crate) fn count_rows(&self, stack: Stack, filter: &str) -> Result<Measured> {
        self.run(
            stack,
            &["--icount", "--timeout", "600"],
            &["--filter", filter],
        )
    }

    /// Adds the row of the threads, by time.
    ///
    /// # Errors
    /// If no try succeeds.
    pub(crate) fn time(&self, stack: Stack, measured: &mut Measured) -> Result<()> {
        let mut last = None;
        for _ in 0..TRIES {
            match self.run(stack, &["--parallel", "--timeout", "120"], &["--threads"]) {
                Ok(timed) => {
                    measured.rows.extend(timed.rows);
                    measured.absent.extend(timed.absent);
                    return Ok(());
                }
                Err(e) => last = Some(e),
            }
        }
        last.map_or(Ok(()), Err)
    }

    /// Has the program measure `stack` in a machine with `options`.
    ///
    /// # Errors
    /// If the machine or the program fails.
    pub(crate) fn run(
        &self,
        stack: Stack,
        options: &[&str],
        arguments: &[&str],
    ) -> Result<Measured> {
        let output = Command::new(self.top.join("scripts/vm"))
            .args(options)
            .args(["--iommu", "intel,caching-mode=off"])
            // Whether a mapping needs a page table of its own must not be left to chance.
            .args(["--append", "norandmaps"])
            .args(["--no-default-devices", "--device", "edu,id=edu0,addr=0x10"])
            .args(["--device", "pci-testdev,id=bigbar0,membar=16M,addr=0x11"])
            .args(["--stack", stack.modules(), "--"])
            .arg(self.program)
            .args(["--interface", stack.interface()])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("scripts/vm")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{}: {}\n{said}",
            stack.name(),
            output.status
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let Some(json) = text.lines().find(|line| line.starts_with('{')) else {
            bail!("{}: no result\n{text}{said}", stack.name());
        };
        serde_json::from_str(json).with_context(|| json.to_owned())
    }
}
