// SPDX-License-Identifier: GPL-2.0
//! Modules and their parameters.

use std::ffi::CString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use vfio_client::Setting;
use vfio_client::sysfs::PciDevice;

use crate::check::errno;
use crate::setup::{Bound, EDU, Opened, is_rust_stack, read_trimmed};
use crate::{Outcome, skip};

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

/// The module vfio-pci, removed. Dropping this loads it.
#[derive(Debug)]
pub struct Removed(());

impl Removed {
    /// Removes it, and with it the driver; skips if it is no module.
    ///
    /// # Errors
    /// errno of delete_module(2); skip.
    pub fn vfio_pci() -> Result<Self> {
        if !Path::new("/sys/module/vfio_pci/refcnt").exists() {
            skip!("vfio-pci is built in");
        }
        remove_module("vfio_pci").context("removing vfio_pci")?;
        Ok(Self(()))
    }

    /// Loads it again.
    ///
    /// # Errors
    /// What modprobe said; skip.
    pub fn load(self) -> Result<()> {
        modprobe(&["vfio-pci"])
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = modprobe(&["vfio-pci"]);
    }
}

/// One of the modules of `test_modules`, loaded. Dropping this unloads it.
#[derive(Debug)]
pub struct TestModule(&'static str);

impl TestModule {
    /// Loads `name` with `arguments`; skips where it is not installed, but in the project's
    /// machine, where it must be.
    ///
    /// # Errors
    /// What modprobe said; skip.
    pub fn load(name: &'static str, arguments: &[&str]) -> Result<Self> {
        let found = modprobe(&["--dry-run", name]);
        if found.is_err() && std::env::var_os("VFIO_RS_STACK").is_none() {
            skip!("the module {name} of test_modules is not installed");
        }
        modprobe(&[&[name], arguments].concat())?;
        Ok(Self(name))
    }
}

impl Drop for TestModule {
    fn drop(&mut self) {
        let _ = modprobe(&["-r", self.0]);
    }
}

/// edu, bound to vfio-pci and changed by one of the modules of `test_modules`.
#[derive(Debug)]
pub struct ChangedEdu {
    /// The device.
    pub pci: PciDevice,
    /// Takes back what users see: goes last.
    _module: TestModule,
}

impl ChangedEdu {
    /// Loads `module` for the device, with more `arguments`.
    ///
    /// # Errors
    /// As [`TestModule::load`], or what kept the device from being bound.
    pub fn new(module: &'static str, arguments: &[&str]) -> Result<Self> {
        Self::of(EDU.find()?, module, arguments)
    }

    /// As [`ChangedEdu::new`], for a certain device.
    ///
    /// # Errors
    /// As [`ChangedEdu::new`].
    pub fn of(pci: PciDevice, module: &'static str, arguments: &[&str]) -> Result<Self> {
        pci.bind_vfio()?;
        let device = format!("device={}", pci.address);
        let module = TestModule::load(module, &[&[device.as_str()], arguments].concat())?;
        Ok(Self {
            pci,
            _module: module,
        })
    }

    /// Opens the device in a type1v2 container.
    ///
    /// # Errors
    /// The step that failed.
    pub fn open(&self) -> Result<Opened> {
        Bound::new(self.pci.clone())?.open()
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
    _setting: Setting,
}

impl Set {
    /// Writes the parameter; skips if there is no such parameter.
    ///
    /// # Errors
    /// Skip, or what the write said.
    pub fn new(module: &str, name: &str, value: &str) -> Result<Self> {
        parameter(module, name)?;
        let setting = Setting::parameter(module, name, value);
        Ok(Self {
            _setting: setting.with_context(|| path(module, name))?,
        })
    }
}

/// delete_module(2) without waiting.
///
/// # Errors
/// errno of the call: `EAGAIN` if the module is in use.
pub fn remove_module(name: &str) -> std::io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: a plain system call.
    let ret = unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) };
    if ret < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A module that is there must not be removable; says whether it is there.
///
/// # Errors
/// If it can be removed.
pub fn stays(name: &str) -> Result<bool> {
    // Only modules have a count; what is built in cannot be removed.
    if !Path::new(&format!("/sys/module/{name}/refcnt")).exists() {
        return Ok(false);
    }
    errno(
        &format!("removing {name}"),
        remove_module(name),
        Errno::EAGAIN,
    )?;
    Ok(true)
}

/// No module that serves a device in use must be removable.
///
/// # Errors
/// If one can be removed, or none is there.
pub fn all_stay() -> Outcome {
    let names: &[&str] = if is_rust_stack() {
        &[
            "vfio_pci",
            "vfio_pci_core",
            "vfio_iommu_type1",
            "vfio",
            "vfio_rs",
        ]
    } else {
        &["vfio_pci", "vfio_pci_core", "vfio_iommu_type1", "vfio"]
    };
    let mut tried = 0;
    for name in names {
        tried += u32::from(stays(name)?);
    }
    ensure!(tried > 0, "no module found");
    Ok(())
}
