// SPDX-License-Identifier: GPL-2.0
//! Modules and their parameters.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::setup::read_trimmed;
use crate::skip;

fn path(module: &str, name: &str) -> String {
    format!("/sys/module/{module}/parameters/{name}")
}

/// Runs modprobe with `arguments`; skips if there is none.
///
/// # Errors
/// What modprobe said; skip.
pub fn modprobe(arguments: &[&str]) -> Result<()> {
    let Ok(output) = Command::new("modprobe").args(arguments).output() else {
        skip!("no modprobe");
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "modprobe {} failed: {}",
        arguments.join(" "),
        said.trim()
    );
    Ok(())
}

/// The module vfio-pci, loaded anew with `arguments`. Dropping this loads it anew without.
#[derive(Debug)]
pub struct VfioPci(());

impl VfioPci {
    /// Unloads the module and loads it; no device is bound.
    ///
    /// # Errors
    /// What modprobe said; skip.
    pub fn load(arguments: &[&str]) -> Result<Self> {
        modprobe(&["-r", "vfio-pci"])?;
        let mut all = vec!["vfio-pci"];
        all.extend(arguments);
        let loaded = Self(());
        modprobe(&all)?;
        Ok(loaded)
    }
}

impl Drop for VfioPci {
    fn drop(&mut self) {
        let _ = modprobe(&["-r", "vfio-pci"]);
        let _ = modprobe(&["vfio-pci"]);
    }
}

/// The value of a parameter, as sysfs shows it; skips if there is no such parameter.
///
/// # Errors
/// Skip.
pub fn parameter(module: &str, name: &str) -> Result<String> {
    let path = path(module, name);
    if !Path::new(&path).exists() {
        skip!("no {path}");
    }
    read_trimmed(&path)
}

/// A parameter with a value of the test's. Dropping this restores the one before.
#[derive(Debug)]
pub struct Set {
    path: String,
    before: String,
}

impl Set {
    /// Writes the parameter; skips if there is no such parameter.
    ///
    /// # Errors
    /// Skip, or what the write said.
    pub fn new(module: &str, name: &str, value: &str) -> Result<Self> {
        let before = parameter(module, name)?;
        let path = path(module, name);
        fs::write(&path, value).with_context(|| path.clone())?;
        Ok(Self { path, before })
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, &self.before);
    }
}
