// SPDX-License-Identifier: GPL-2.0
//! Groups of several edu devices, as slots, bridges and ports make them, and DMA by one of them.

use anyhow::Result;
use vfio_client::sysfs::{PciDevice, VFIO_PCI};
use vfio_client::{Container, Device, DmaBuf, Edu};

use crate::check::same;
use crate::setup::{Bound, EDU, IOVA, PAGE, all_edus};
use crate::{Outcome, skip};

/// Pairs of edu devices in a group: behind a conventional bridge, in a slot, behind ports that do
/// not isolate; skips if there is none.
///
/// # Errors
/// Skip.
pub fn pairs() -> Result<Vec<[PciDevice; 2]>> {
    let mut pairs = Vec::new();
    for device in all_edus()? {
        let mut edus = device.group_members();
        edus.retain(|d| d.id() == Some(EDU.id));
        if let [first, second, ..] = &edus[..]
            && *first == device
        {
            pairs.push([first.clone(), second.clone()]);
        }
    }
    if pairs.is_empty() {
        skip!("no group with two edu devices");
    }
    Ok(pairs)
}

/// Binds a device whose neighbours then have no drivers that keep the group from being used.
///
/// # Errors
/// errno of the step that failed.
pub fn bind(device: &PciDevice) -> Result<Bound> {
    for other in device.group_members() {
        if !other.is_bridge() && other.driver().as_deref() != Some(VFIO_PCI) {
            other.release()?;
        }
    }
    device.bind_vfio()?;
    Bound::new(device.clone())
}

/// Memory for [`copies`], mapped at [`IOVA`].
///
/// # Errors
/// The kernel's errno.
pub fn space(container: &Container) -> Result<DmaBuf> {
    let buf = DmaBuf::new(2 * PAGE as usize)?;
    container.map_buf(&buf, IOVA)?;
    Ok(buf)
}

/// Copies bytes by the edu device within `buf`, two pages mapped at [`IOVA`].
///
/// # Errors
/// If something else arrived.
pub fn copies(device: &Device, buf: &DmaBuf, seed: u8) -> Outcome {
    let edu = Edu::new(device)?;
    buf.fill_pattern(seed);
    edu.fetch(IOVA, 128)?;
    edu.store(IOVA + PAGE, 128)?;
    same(
        "what arrived",
        buf.copy(PAGE as usize, 128),
        buf.copy(0, 128),
    )
}
