// SPDX-License-Identifier: GPL-2.0
//! A virtual function whose physical function the virtual machine itself drives.

use std::fs;

use anyhow::{Context, Result};
use vfio_client::sysfs::PciDevice;

use crate::system::{command, device, limit, until};

/// The one virtual function of igb with QEMU id `id`, bound to vfio-pci; igb itself is up, as a
/// virtual function has no link otherwise.
pub(crate) fn of(id: &str) -> Result<PciDevice> {
    command(&["modprobe", "igb"])?;
    let pf = device(id)?;
    pf.bind_to("igb").with_context(|| format!("{id} to igb"))?;
    until("igb's interface", limit(20), || {
        Ok(!pf.netdevs().is_empty())
    })?;
    let interface = pf.netdevs().remove(0);
    command(&["busybox", "ip", "link", "set", &interface, "up"])?;
    if pf.virtual_functions().is_empty() {
        fs::write(pf.path().join("sriov_numvfs"), "1").context("sriov_numvfs")?;
    }
    let vfs = pf.virtual_functions();
    let vf = vfs.first().context("no virtual function")?.clone();
    vf.bind_vfio().context("virtual function to vfio-pci")?;
    Ok(vf)
}
