// SPDX-License-Identifier: GPL-2.0
//! Groups that join another one in containers and circumstances that are not the usual ones, or are
//! refused there.

use nix::errno::Errno;
use vfio_client::sysfs::{self, PciDevice};
use vfio_client::uapi::*;
use vfio_client::viability::{NOT_VIABLE_NO_ISOLATED_MSI, VIABLE as REASON_NONE};
use vfio_client::{Container, DmaBuf, Group};
use vfio_rs_selftests::merge::{Pair, edu_groups, pair, reaches};
use vfio_rs_selftests::modules::Set;
use vfio_rs_selftests::pamu::{self, MIB};
use vfio_rs_selftests::setup::{IOVA, PAGE};
use vfio_rs_selftests::{Outcome, Result, errno, same, skip, suite};

const VIABLE: u32 = VFIO_GROUP_FLAGS_VIABLE;
const SET: u32 = VFIO_GROUP_FLAGS_CONTAINER_SET;
const RW: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

/// MERGE fails with `error`, and neither group has noticed.
fn check_refused(p: &Pair, error: Errno) -> Outcome {
    errno("MERGE", p.leader.merge(&p.other), error)?;
    same("the leader", p.leader.status()?, VIABLE | SET)?;
    same("the other", p.other.status()?, VIABLE)
}

fn mapping_without_an_address() -> Outcome {
    let p = pair()?;
    let buf = DmaBuf::new(PAGE as usize)?;
    p.container.map_buf(&buf, IOVA)?;
    let old = VFIO_DMA_UNMAP_FLAG_VADDR;
    same("taken", p.container.unmap_flags(old, IOVA, PAGE)?, PAGE)?;
    check_refused(&p, Errno::EBUSY)?;
    let new = VFIO_DMA_MAP_FLAG_VADDR;
    p.container.map(new, buf.addr(), IOVA, PAGE)?;
    p.leader.merge(&p.other)?;
    let device = p.leader.device(p.groups[1].name())?;
    same("DMA", reaches(&device, IOVA, &buf)?, true)
}

fn interrupts_that_are_not_isolated() -> Outcome {
    let p = pair()?;
    let _unsafe = Set::new("vfio_iommu_type1", "allow_unsafe_interrupts", "N")?;
    match p.other.viability()?.reason {
        REASON_NONE => Ok(p.leader.merge(&p.other)?),
        NOT_VIABLE_NO_ISOLATED_MSI => check_refused(&p, Errno::EPERM),
        other => same("reason", other, REASON_NONE),
    }
}

/// Devices without an IOMMU, at most two.
fn bare() -> Result<Vec<PciDevice>> {
    let mut found = sysfs::all()?;
    found.retain(|pci| pci.group().is_none() && pci.driver().is_none());
    // Not the machine's own.
    found.retain(|pci| {
        pci.id()
            .is_some_and(|(_, id)| [0x11e8, 0x100e].contains(&id))
    });
    found.truncate(2);
    Ok(found)
}

/// Binds `pci`, which gives it a group, and opens that.
fn open_bare(pci: &PciDevice) -> Result<Group> {
    pci.bind_vfio()?;
    Ok(Group::open_bare(pci.group().unwrap_or_default())?)
}

fn without_an_iommu(devices: &[PciDevice]) -> Outcome {
    let [first, second] = devices else {
        skip!("no two devices without an IOMMU");
    };
    let p = pair()?;
    let (one, two) = (open_bare(first)?, open_bare(second)?);
    errno("none among some", p.leader.merge(&one), Errno::EPERM)?;
    errno("some among none", one.merge(&p.other), Errno::EPERM)?;
    same("the other", p.other.status()?, VIABLE)?;
    let container = Container::open()?;
    one.set_container(&container)?;
    errno("in a container", one.merge(&p.other), Errno::EPERM)?;
    container.set_iommu(VFIO_NOIOMMU_IOMMU)?;
    one.merge(&two)?;
    let device = one.device(&second.address)?;
    errno("its own", two.device(&second.address), Errno::EBUSY)?;
    errno("SPLIT", one.split(&two), Errno::EBUSY)?;
    drop(device);
    Ok(one.split(&two)?)
}

fn only_one_has_an_iommu() -> Outcome {
    edu_groups::<2>()?;
    let devices = bare()?;
    let _allowed = Set::new("vfio", "enable_unsafe_noiommu_mode", "1")?;
    let result = without_an_iommu(&devices);
    for pci in devices {
        pci.release()?;
    }
    result
}

/// In a container of windows a member reaches those that are mapped, and leaves them as they are.
fn windows() -> Outcome {
    pamu::needed()?;
    let [first, second] = edu_groups()?;
    let opened = pamu::open_bound(first.devices[0].clone())?;
    let container = &opened.container;
    pamu::cut(container, 16 * MIB, 4)?;
    let buf = DmaBuf::new(PAGE as usize)?;
    container.map(RW, buf.addr(), 4 * MIB, PAGE)?;
    let other = second.open()?;
    opened.group.merge(&other)?;
    let device = opened.group.device(second.name())?;
    same("a window", reaches(&device, 4 * MIB, &buf)?, true)?;
    same("none", reaches(&device, 8 * MIB, &buf)?, false)?;
    let late = DmaBuf::new(PAGE as usize)?;
    container.map(RW, late.addr(), 8 * MIB, PAGE)?;
    same("a later one", reaches(&device, 8 * MIB, &late)?, true)?;
    drop(device);
    opened.group.split(&other)?;
    let leaders = &opened.device;
    same("the leader's", reaches(leaders, 8 * MIB, &late)?, true)?;
    other.set_container(&Container::open()?)?;
    Ok(())
}

suite!(
    iommus: Vtd, debug: Answers;
    mapping_without_an_address,
    interrupts_that_are_not_isolated,
    only_one_has_an_iommu,
    windows,
);
