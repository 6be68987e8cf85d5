// SPDX-License-Identifier: GPL-2.0
//! What must hold after each test, whatever it did: no page pinned, and every device can be unbound
//! and bound again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vfio_client::counters;
use vfio_client::sysfs::{self, PciDevice, VFIO_PCI};

use crate::setup::{NVME, is_amd_iommu, slowness};

/// What is compared before and after a test.
#[derive(Debug, Clone, Copy)]
pub struct Baseline {
    pinned: i64,
}

impl Baseline {
    /// Takes it.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn take() -> Result<Self> {
        Ok(Self {
            pinned: counters::pinned_pages()?,
        })
    }

    /// Waits for the pinned pages to be back.
    ///
    /// # Errors
    /// If they are not.
    pub fn check(&self) -> Result<()> {
        let left = counters::wait_pinned_pages(self.pinned, Duration::from_secs(5) * slowness())?;
        ensure!(
            left == self.pinned,
            "{} pages stay pinned",
            left - self.pinned
        );
        Ok(())
    }
}

fn bound_devices() -> Result<Vec<PciDevice>> {
    Ok(sysfs::all()?
        .into_iter()
        .filter(|d| d.driver().as_deref() == Some(VFIO_PCI))
        .collect())
}

/// Unbinds every device from vfio-pci, binds it again, and unbinds it. Hangs if somebody still
/// holds one.
///
/// # Errors
/// If a step fails.
pub fn recycle_devices() -> Result<()> {
    for device in bound_devices()? {
        let name = device.address.clone();
        device.release().with_context(|| format!("unbind {name}"))?;
        device
            .bind_vfio()
            .with_context(|| format!("bind {name} again"))?;
        device
            .release()
            .with_context(|| format!("unbind {name} again"))?;
    }
    for device in sysfs::all()? {
        // A test may have failed between override and bind.
        device.set_override(None).ok();
    }
    Ok(())
}

/// Gives every device that has no driver back to the one that the kernel finds for it.
///
/// # Errors
/// If a step fails.
pub fn restore_devices() -> Result<()> {
    let hangs = |d: &PciDevice| is_amd_iommu() && d.id() == Some(NVME.id);
    for device in sysfs::all()?
        .into_iter()
        .filter(|d| d.driver().is_none() && !hangs(d))
    {
        // Most have no driver at all, or one that refuses: not our matter.
        device.probe().ok();
    }
    Ok(())
}
