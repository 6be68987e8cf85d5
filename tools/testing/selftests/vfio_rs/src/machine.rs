// SPDX-License-Identifier: GPL-2.0
//! Virtual machines that VFIO's files are given to.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use vfio_client::kvm::{KvmVfio, Vm};

use crate::setup::{PATIENCE, read_trimmed, slowness};
use crate::{Outcome, Result, same, skip};

/// A machine and its VFIO device; skips if there is no KVM.
///
/// # Errors
/// Skip, or the step that failed.
pub fn machine() -> Result<(Vm, KvmVfio)> {
    if !Path::new("/dev/kvm").exists() {
        // It fails where there is no modprobe or the CPU is another: the node tells.
        let _ = Command::new("modprobe").arg("kvm_amd").status();
    }
    if !Path::new("/dev/kvm").exists() {
        skip!("no KVM");
    }
    let vm = Vm::new()?;
    let vfio = vm.vfio()?;
    Ok((vm, vfio))
}

/// How often KVM's module is in use, when it has settled: machines go in their own time.
///
/// # Errors
/// If the kernel does not tell.
pub fn kvm_uses() -> Result<i64> {
    Ok(read_trimmed("/sys/module/kvm/refcnt")?.parse()?)
}

/// Waits for [`kvm_uses`] to be `want`.
///
/// # Errors
/// If it does not become that.
pub fn wait_kvm_uses(what: &str, want: i64) -> Outcome {
    let end = Instant::now() + PATIENCE * slowness();
    while kvm_uses()? != want && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    same(what, kvm_uses()?, want)
}
