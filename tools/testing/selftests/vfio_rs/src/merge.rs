// SPDX-License-Identifier: GPL-2.0
//! Groups of edu devices, for tests of groups that join others.

use std::collections::BTreeMap;

use vfio_client::sysfs::{self, VFIO_PCI};
use vfio_client::uapi::VFIO_TYPE1v2_IOMMU;
use vfio_client::{Container, Device, DmaBuf, Edu, Group};

use crate::setup::{Bound, EDU, is_rust_stack};
use crate::{Context, Result, skip};

/// A group of edu devices, all bound to vfio-pci; none of the group's others has a driver.
#[derive(Debug, Clone)]
pub struct EduGroup {
    /// Its number.
    pub number: u32,
    /// Its devices.
    pub devices: Vec<Bound>,
}

impl EduGroup {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn open(&self) -> Result<Group> {
        self.devices[0].open_group()
    }

    /// Address of its first device.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.devices[0].pci.address
    }
}

/// `N` such groups, small ones first; skips on a stack or a machine without.
///
/// # Errors
/// Skip, or a failed bind.
pub fn edu_groups<const N: usize>() -> Result<[EduGroup; N]> {
    if !is_rust_stack() {
        skip!("groups cannot join others");
    }
    let mut groups: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for device in sysfs::find_all(EDU.id.0, EDU.id.1)? {
        if let Some(number) = device.group() {
            groups.entry(number).or_default().push(device);
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(number, devices)| (devices.len(), *number));
    if groups.len() < N {
        skip!("{} groups of edu devices, not {N}", groups.len());
    }
    groups.truncate(N);
    let bind = |(number, devices): (u32, Vec<sysfs::PciDevice>)| -> Result<EduGroup> {
        for other in devices[0].group_members() {
            let driver = other.driver();
            if !other.is_bridge() && driver.is_some_and(|name| name != VFIO_PCI) {
                other.release()?;
            }
        }
        let bind = |device: sysfs::PciDevice| {
            device.bind_vfio()?;
            Bound::new(device)
        };
        let devices = devices.into_iter().map(bind).collect::<Result<_>>()?;
        Ok(EduGroup { number, devices })
    };
    let groups = groups.into_iter().map(bind).collect::<Result<Vec<_>>>()?;
    groups.try_into().ok().context("as many as asked for")
}

/// A leader in a container, and a group that is to join it.
#[derive(Debug)]
pub struct Pair {
    /// Both, that of the leader first.
    pub groups: [EduGroup; 2],
    /// The leader's, type1v2.
    pub container: Container,
    /// The first group.
    pub leader: Group,
    /// The second.
    pub other: Group,
}

/// The first two of [`edu_groups`].
///
/// # Errors
/// Skip, or the step that failed.
pub fn pair() -> Result<Pair> {
    let groups: [EduGroup; 2] = edu_groups()?;
    let (container, leader) = groups[0].devices[0].attach(VFIO_TYPE1v2_IOMMU)?;
    let other = groups[1].open()?;
    Ok(Pair {
        groups,
        container,
        leader,
        other,
    })
}

/// Whether DMA by the edu device `device` to `iova` arrives in `buf`.
///
/// # Errors
/// The kernel's errno.
pub fn reaches(device: &Device, iova: u64, buf: &DmaBuf) -> Result<bool> {
    const UNTOUCHED: u8 = 0x5b;
    buf.fill(UNTOUCHED);
    Edu::new(device)?.store(iova, 64)?;
    Ok(buf.get(0) != UNTOUCHED)
}
