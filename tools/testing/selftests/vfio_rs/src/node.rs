// SPDX-License-Identifier: GPL-2.0
//! Devices by their own nodes, bound to iommufd.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use vfio_client::iommufd::{self, Ioas};
use vfio_client::{Device, DmaBuf};

use crate::modules::modprobe;
use crate::setup::{Bound, Kind, PAGE};
use crate::skip;

/// Has iommufd take devices whose interrupts cannot be isolated, as the machine's parameters have
/// it for containers; skips where there is no iommufd.
///
/// # Errors
/// Skip.
pub fn prepare() -> Result<()> {
    if !Path::new(iommufd::NODE).exists() {
        // It fails where there is no such module: the node tells.
        let _ = modprobe(&["iommufd"]);
    }
    if !Path::new(iommufd::NODE).exists() {
        skip!("no iommufd");
    }
    let container = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
    let allowed = fs::read_to_string(container).unwrap_or_default();
    let own = "/sys/module/iommufd/parameters/allow_unsafe_interrupts";
    if allowed.trim() == "Y" && Path::new(own).exists() {
        fs::write(own, "Y").context("allow_unsafe_interrupts of iommufd")?;
    }
    Ok(())
}

/// A device that is bound to an iommufd of its own and attached to an address space of it.
#[derive(Debug)]
pub struct ByNode {
    /// The device, closed before its address space.
    pub device: Device,
    /// The address space.
    pub ioas: Ioas,
    /// What it is.
    pub bound: Bound,
}

impl ByNode {
    /// New memory of `pages` pages, mapped at `iova`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn map_new(&self, iova: u64, pages: u64) -> Result<DmaBuf> {
        let buf = DmaBuf::new((pages * PAGE) as usize)?;
        self.ioas.map(buf.addr(), iova, pages * PAGE)?;
        Ok(buf)
    }
}

/// Finds a device of this kind and opens its node; it is not bound to an iommufd yet.
///
/// # Errors
/// Skip, or the step that failed.
pub fn open(kind: &Kind) -> Result<(Bound, Device)> {
    prepare()?;
    let bound = kind.bind()?;
    let device = Device::open_node(&bound.pci).context("open the device's node")?;
    Ok((bound, device))
}

/// As [`open`], bound and attached.
///
/// # Errors
/// Skip, or the step that failed.
pub fn attach(kind: &Kind) -> Result<ByNode> {
    let (bound, device) = open(kind)?;
    let ioas = Ioas::new()?;
    device.bind_iommufd(&ioas).context("BIND_IOMMUFD")?;
    device.attach_pt(ioas.id()).context("ATTACH_IOMMUFD_PT")?;
    Ok(ByNode {
        device,
        ioas,
        bound,
    })
}
