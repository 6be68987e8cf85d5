// SPDX-License-Identifier: GPL-2.0
//! Does a step and sees whether it worked: a write may succeed that has done nothing.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::plan::Step;
use crate::address::Address;
use crate::machine::folder;
use crate::root::Root;

/// Changes the running machine.
#[derive(Debug)]
pub(crate) struct Kernel<'a> {
    root: &'a Root,
    /// The last failed probe, which may be what a failed verification is about.
    refusal: Option<io::Error>,
    /// Lines of the log that were there before.
    seen: usize,
}

/// Writes to a file of sysfs.
pub(crate) fn put(path: &str, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(format!("/{path}"))?;
    file.write_all(text.as_bytes())
}

impl<'a> Kernel<'a> {
    pub(crate) fn new(root: &'a Root) -> Self {
        Self {
            root,
            refusal: None,
            seen: root.log().len(),
        }
    }

    /// Does `step`.
    pub(crate) fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Load(module) => load(module),
            Step::Override(address, driver) => {
                let path = format!("{}/driver_override", folder(*address));
                let driver = driver.as_deref().unwrap_or("\n");
                put(&path, driver).with_context(|| format!("/{path}"))
            }
            Step::Unbind(address) => {
                let path = format!("{}/driver/unbind", folder(*address));
                match put(&path, &address.to_string()) {
                    // It has gone by itself.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                    result => result.with_context(|| format!("/{path}")),
                }
            }
            Step::Probe(address) => {
                self.refusal = put("sys/bus/pci/drivers_probe", &address.to_string()).err();
                Ok(())
            }
            Step::Verify(address, None) => {
                let driver = self.driver(*address);
                match driver.as_deref() {
                    Some("vfio-pci") => bail!("{address}: still with vfio-pci"),
                    _ => Ok(()),
                }
            }
            Step::Verify(address, Some(wanted)) => self.verify(*address, wanted),
        }
    }

    fn driver(&self, address: Address) -> Option<String> {
        self.root.link_name(&format!("{}/driver", folder(address)))
    }

    fn verify(&mut self, address: Address, wanted: &str) -> Result<()> {
        let mut driver = self.driver(address);
        if driver.as_deref() != Some(wanted) && driver.is_none() {
            // Several may fit, and another was asked first.
            let path = format!("sys/bus/pci/drivers/{wanted}/bind");
            if let Err(e) = put(&path, &address.to_string()) {
                self.refusal.get_or_insert(e);
            }
            driver = self.driver(address);
        }
        if driver.as_deref() == Some(wanted) {
            return Ok(());
        }
        let now = driver.map_or("no driver took it".to_owned(), |name| {
            format!("{name} took it")
        });
        let mut text = format!("{address} was to go to {wanted}, but {now}");
        if let Some(e) = self.refusal.take() {
            text += &format!(" ({e})");
        }
        let name = address.to_string();
        let log = self.root.log();
        let words = log
            .iter()
            .skip(self.seen)
            .filter(|line| line.text.contains(&name));
        for line in words.rev().take(3).collect::<Vec<_>>().into_iter().rev() {
            text += &format!("\nthe kernel says: {}", line.text);
        }
        bail!(text)
    }
}

/// Loads a module.
pub(crate) fn load(module: &str) -> Result<()> {
    let output = Command::new("modprobe")
        .arg(module)
        .output()
        .context("modprobe")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("modprobe {module} failed: {}", words.trim());
    }
    Ok(())
}
