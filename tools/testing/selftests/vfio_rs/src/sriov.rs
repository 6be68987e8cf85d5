// SPDX-License-Identifier: GPL-2.0
//! Virtual functions of igb.

use std::fs;
use std::io;

use anyhow::{Context, Result, ensure};
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::VFIO_TYPE1v2_IOMMU;
use vfio_client::{Container, Device, Group};

use crate::modules::Set;
use crate::setup::{Bound, IGB};

/// Writes how many virtual functions `pf` shall have.
///
/// # Errors
/// errno of the write.
pub fn set_count(pf: &PciDevice, count: &str) -> io::Result<()> {
    fs::write(pf.path().join("sriov_numvfs"), count)
        .map_err(|e| e.raw_os_error().map_or(e, io::Error::from_raw_os_error))
}

/// Allows SR-IOV through vfio-pci while the result is alive.
///
/// # Errors
/// Skip.
pub fn allow() -> Result<Set> {
    Set::new("vfio_pci", "enable_sriov", "1")
}

/// igb bound to vfio-pci, with virtual functions; dropping this removes them.
#[derive(Debug)]
pub struct Vfs {
    /// The physical function.
    pub pf: Bound,
    /// The virtual functions, all bound to vfio-pci.
    pub vfs: Vec<PciDevice>,
    _allowed: Set,
}

impl Vfs {
    /// Makes `count` of them.
    ///
    /// # Errors
    /// Skip, or the step that failed.
    pub fn new(count: usize) -> Result<Self> {
        let pf = IGB.bind()?;
        let allowed = allow()?;
        set_count(&pf.pci, &count.to_string()).context("write sriov_numvfs")?;
        let vfs = pf.pci.virtual_functions();
        let made = Self {
            pf,
            vfs,
            _allowed: allowed,
        };
        ensure!(made.vfs.len() == count, "{} functions", made.vfs.len());
        Ok(made)
    }

    /// A group and a container of its own for the physical function or a virtual one.
    ///
    /// # Errors
    /// The step that failed.
    pub fn join(&self, pci: &PciDevice) -> Result<Joined> {
        Joined::new(pci)
    }
}

impl Drop for Vfs {
    fn drop(&mut self) {
        let _ = set_count(&self.pf.pci, "0");
    }
}

/// A device's group in a container of its own, from which the device can be opened.
#[derive(Debug)]
pub struct Joined {
    /// The container, type1v2.
    pub container: Container,
    /// The group.
    pub group: Group,
    /// The device.
    pub pci: PciDevice,
}

impl Joined {
    /// For a device that is bound.
    ///
    /// # Errors
    /// The step that failed.
    pub fn new(pci: &PciDevice) -> Result<Self> {
        let (container, group) = Bound::new(pci.clone())?.attach(VFIO_TYPE1v2_IOMMU)?;
        Ok(Self {
            container,
            group,
            pci: pci.clone(),
        })
    }

    /// GET_DEVICE_FD with `options` behind the address.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn open(&self, options: &str) -> io::Result<Device> {
        self.group.device(&format!("{}{options}", self.pci.address))
    }

    /// GET_DEVICE_FD with a token.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn open_with(&self, token: &str) -> io::Result<Device> {
        self.open(&format!(" vf_token={token}"))
    }
}
