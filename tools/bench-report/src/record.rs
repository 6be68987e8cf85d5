// SPDX-License-Identifier: GPL-2.0
//! The JSON that is kept: what was measured, and by which tools the measured code was built.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use vfio_rs_bench::Measured;

use crate::rows;
use crate::stack::Stack;

/// Everything of one run of `make bench`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What the numbers are.
    pub unit: String,
    /// What compiled the modules; other compilers, other numbers.
    pub rustc: String,
    /// Results of each stack, by its name.
    pub stacks: BTreeMap<String, Measured>,
}

impl Record {
    /// Reads a kept one.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Keeps it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// Takes over a row that was not measured again.
    pub(crate) fn keep_row(&self, stack: Stack, row: &str, measured: &mut Measured) {
        if let Some(value) = self.value(stack, row) {
            measured.rows.insert(row.to_owned(), value);
        }
    }

    /// Takes over the scaling curve, and the rows that come from it.
    pub(crate) fn keep_scaling(&self, stack: Stack, measured: &mut Measured) {
        if let Some(kept) = self.stacks.get(stack.name()) {
            measured.scaling.clone_from(&kept.scaling);
        }
        for row in rows::OF_SCALING {
            self.keep_row(stack, row, measured);
        }
    }

    /// Adds results, with no more digits than mean something.
    pub(crate) fn add(&mut self, stack: Stack, mut measured: Measured) {
        self.unit = "instructions, unless the row says otherwise".to_owned();
        self.rustc = rustc();
        let round = |value: &mut f64| *value = (*value * 100.0).round() / 100.0;
        measured.rows.values_mut().for_each(round);
        for point in &mut measured.scaling {
            round(&mut point.map);
            round(&mut point.unmap);
        }
        self.stacks.insert(stack.name().to_owned(), measured);
    }

    /// Value of a row, if the stack serves it.
    pub(crate) fn value(&self, stack: Stack, row: &str) -> Option<f64> {
        self.stacks.get(stack.name())?.rows.get(row).copied()
    }
}

/// Version of the Rust compiler in use.
fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    text.unwrap_or_default()
}
