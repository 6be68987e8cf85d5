// SPDX-License-Identifier: GPL-2.0
//! What the clients need from the virtual machine's own Linux: devices by name, commands, waiting.

use std::env;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use vfio_client::sysfs::PciDevice;

/// Factor on all limits, for slow machines.
fn slowness() -> u32 {
    match env::var("VFIO_RS_KERNEL").as_deref() {
        Ok("debug") => 10,
        _ => 1,
    }
}

/// `seconds`, or longer on a kernel with its checkers on.
pub(crate) fn limit(seconds: u64) -> Duration {
    Duration::from_secs(seconds) * slowness()
}

/// The device with this QEMU id in the virtual machine.
pub(crate) fn device(id: &str) -> Result<PciDevice> {
    let name = format!("VFIO_RS_BDF_{}", id.to_uppercase());
    let address = env::var(&name).with_context(|| format!("{name}: run by scripts/vm?"))?;
    Ok(PciDevice::at(&address))
}

/// Runs a command; gives its output.
///
/// # Errors
/// If it fails, with what it printed.
pub(crate) fn command(words: &[&str]) -> Result<String> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
        .with_context(|| words[0].to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{}: {}\n{text}{}",
        words.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// Looks until `ready` says yes.
///
/// # Errors
/// If the time is up, naming `what`.
pub(crate) fn until(
    what: &str,
    time: Duration,
    mut ready: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let end = Instant::now() + time;
    while !ready()? {
        if Instant::now() > end {
            bail!("{what}: not within {} s", time.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
