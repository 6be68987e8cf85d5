// SPDX-License-Identifier: GPL-2.0
//! `vfio-rs doctor`: what keeps devices from being assigned, by what the kernel does, never by what
//! its command line asks for.
//!
//! | file         | has                                                |
//! |--------------|----------------------------------------------------|
//! | `system.rs`  | checks of the machine                              |
//! | `device.rs`  | checks of one device                               |
//! | `memory.rs`  | checks of what a client needs: memory, huge pages  |

mod device;
mod memory;
mod system;

use anstyle::Style;
use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::DoctorArgs;
use crate::host::Host;
use crate::text::{BAD, FAINT, GOOD, WARN, shown, styled, wrap};

pub(crate) use self::memory::{limit_lines, locked_limit};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// It is as it should be.
    Pass,
    /// It works, but there is something to know.
    Warn,
    /// It does not work.
    Fail,
    /// It cannot be told, mostly as that takes root.
    Unknown,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
            Self::Unknown => "unknown",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Pass => GOOD,
            Self::Warn => WARN,
            Self::Fail => BAD,
            Self::Unknown => FAINT,
        }
    }
}

/// A check.
#[derive(Debug, Clone)]
pub struct Check {
    /// What was looked at, in a word.
    pub name: &'static str,
    /// How it ended.
    pub level: Level,
    /// Why.
    pub why: String,
    /// What to run, or read, to change that.
    pub run: Option<String>,
}

impl Check {
    fn new(name: &'static str, level: Level, why: impl Into<String>) -> Self {
        Self {
            name,
            level,
            why: why.into(),
            run: None,
        }
    }

    fn pass(name: &'static str, why: impl Into<String>) -> Self {
        Self::new(name, Level::Pass, why)
    }

    fn warn(name: &'static str, why: impl Into<String>, run: impl Into<String>) -> Self {
        let run = Some(run.into());
        Self {
            run,
            ..Self::new(name, Level::Warn, why)
        }
    }

    fn fail(name: &'static str, why: impl Into<String>, run: impl Into<String>) -> Self {
        let run = Some(run.into());
        Self {
            run,
            ..Self::new(name, Level::Fail, why)
        }
    }

    fn unknown(name: &'static str, why: impl Into<String>) -> Self {
        Self::new(name, Level::Unknown, why)
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "status": self.level.word(),
            "why": self.why,
            "run": self.run,
        })
    }

    fn text(&self, width: usize) -> String {
        const INDENT: &str = "                       ";
        let head = format!("{:7}  {:12}  ", self.level.word(), self.name);
        let body = wrap(&shown(&self.why), INDENT, width);
        let head = head.replacen(
            self.level.word(),
            &styled(self.level.word(), self.level.style()),
            1,
        );
        let mut text = format!("{head}{}", body.strip_prefix(INDENT).unwrap_or(&body));
        if let Some(run) = &self.run {
            text += &format!("{INDENT}-> {}\n", shown(run));
        }
        text
    }
}

/// What is printed, and whether all is well.
///
/// # Errors
/// If a word means no device.
pub fn run(host: &Host, args: &DoctorArgs, width: usize) -> Result<(String, bool)> {
    let mut checks = system::all(host);
    checks.extend(memory::all(host, args)?);
    let devices = match args.devices.is_empty() {
        true => Vec::new(),
        false => host.all(&args.devices)?,
    };
    let mut of_devices = Vec::new();
    for device in devices {
        of_devices.push((device.address, device::all(host, device)));
    }
    let every = checks
        .iter()
        .chain(of_devices.iter().flat_map(|(_, checks)| checks));
    let is_well = every.clone().all(|check| check.level != Level::Fail);
    if args.json {
        let list = |checks: &[Check]| checks.iter().map(Check::json).collect::<Vec<_>>();
        let devices: Vec<_> = of_devices
            .iter()
            .map(|(address, checks)| {
                json!({ "address": address.to_string(), "checks": list(checks) })
            })
            .collect();
        let value = json!({ "checks": list(&checks), "devices": devices, "well": is_well });
        return Ok((crate::json::document(&value)?, is_well));
    }
    let mut out: String = checks.iter().map(|check| check.text(width)).collect();
    for (address, checks) in &of_devices {
        out += &format!("\n{address}\n");
        out.extend(checks.iter().map(|check| check.text(width)));
    }
    Ok((out, is_well))
}
