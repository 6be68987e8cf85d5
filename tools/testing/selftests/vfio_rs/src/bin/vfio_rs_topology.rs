// SPDX-License-Identifier: GPL-2.0
//! Groups of several devices, as slots and bridges make them, and several groups at a time.

use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::*;
use vfio_client::{Container, Group};
use vfio_rs_selftests::setup::{Bound, EDU, Kind, PAGE, all_edus};
use vfio_rs_selftests::shapes::{bind, copies, pairs, space};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite};

use nix::errno::Errno;

/// An edu device in a group with a port that it is behind.
fn behind_a_port() -> Result<(PciDevice, PciDevice)> {
    for device in all_edus()? {
        let members = device.group_members();
        let port = members
            .into_iter()
            .find(|m| m.driver().as_deref() == Some("pcieport"));
        if let Some(port) = port {
            return Ok((device, port));
        }
    }
    skip!("no edu shares a group with a port of PCI Express")
}

fn both_of_a_group() -> Outcome {
    for [one, two] in pairs()? {
        let (bound, other) = (bind(&one)?, bind(&two)?);
        same("the group of the other", other.group, bound.group)?;
        let (container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
        let buf = space(&container)?;
        let first = group.device(&one.address)?;
        copies(&first, &buf, 1)?;
        let second = group.device(&two.address)?;
        copies(&second, &buf, 2)?;
        drop(first);
        // The first is closed, and the group in use all the same.
        copies(&second, &buf, 3)?;
        errno("UNSET_CONTAINER", group.unset_container(), Errno::EBUSY)?;
        drop(second);
        group.unset_container()?;
    }
    Ok(())
}

fn the_other_leaves_and_returns() -> Outcome {
    for [one, two] in pairs()? {
        let bound = bind(&one)?;
        bind(&two)?;
        let (container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
        let buf = space(&container)?;
        let first = group.device(&one.address)?;
        drop(group.device(&two.address)?);
        two.release().context("unbind the other")?;
        errno("the other", group.device(&two.address), Errno::ENODEV)?;
        copies(&first, &buf, 4)?;
        two.bind_vfio().context("bind it again")?;
        copies(&group.device(&two.address)?, &buf, 5)?;
    }
    Ok(())
}

fn port_without_acs() -> Outcome {
    let (device, port) = behind_a_port()?;
    let bound = bind(&device)?;
    let (container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let buf = space(&container)?;
    copies(&group.device(&device.address)?, &buf, 6)?;
    errno("the port", group.device(&port.address), Errno::ENODEV)?;
    // It works for the user, and keeps its driver.
    same("its driver", port.driver().as_deref(), Some("pcieport"))
}

/// Devices of groups of every shape that there is.
fn of_all_shapes() -> Result<Vec<Bound>> {
    let kind: Kind = EDU;
    let mut devices = vec![kind.find()?];
    for [one, _] in pairs()? {
        devices.push(one);
    }
    if let Ok((device, _)) = behind_a_port() {
        devices.push(device);
    }
    let mut bound: Vec<Bound> = Vec::new();
    for device in devices {
        let new = bind(&device)?;
        if bound.iter().all(|b| b.group != new.group) {
            bound.push(new);
        }
    }
    ensure!(bound.len() > 1, "one group only");
    Ok(bound)
}

fn one_container_for_all() -> Outcome {
    let all = of_all_shapes()?;
    let container = Container::open()?;
    let mut groups: Vec<Group> = Vec::new();
    for (at, bound) in all.iter().enumerate() {
        let group = bound.open_group()?;
        group.set_container(&container)?;
        if at == 0 {
            container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
        }
        groups.push(group);
    }
    let buf = space(&container)?;
    for (seed, (bound, group)) in (10..).zip(all.iter().zip(&groups)) {
        copies(&group.device(&bound.pci.address)?, &buf, seed)?;
    }
    // They leave in the order in which they came; the last still has the address space.
    let last = all.len() - 1;
    groups.drain(..last);
    copies(&groups[0].device(&all[last].pci.address)?, &buf, 20)
}

fn one_container_each() -> Outcome {
    let all = of_all_shapes()?;
    let mut parts = Vec::new();
    for bound in &all {
        let (container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
        let buf = space(&container)?;
        buf.fill(0x77);
        let device = group.device(&bound.pci.address)?;
        parts.push((device, buf, group, container));
    }
    // Same address, other memory.
    for (seed, (at, (device, buf, ..))) in (30..).zip(parts.iter().enumerate()) {
        copies(device, buf, seed)?;
        for (_, other, ..) in &parts[at + 1..] {
            ensure!(
                other.is_filled(0, 2 * PAGE as usize, 0x77),
                "another container's memory changed"
            );
        }
    }
    Ok(())
}

suite!(
    iommus: All, debug: Answers;
    both_of_a_group,
    the_other_leaves_and_returns,
    port_without_acs,
    one_container_for_all,
    one_container_each,
);
