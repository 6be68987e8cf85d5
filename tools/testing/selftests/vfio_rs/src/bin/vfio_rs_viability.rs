// SPDX-License-Identifier: GPL-2.0
//! A group of several devices: it is handed out only if the kernel's own drivers keep off all of
//! it.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::scope;
use std::time::Instant;

use nix::errno::Errno;
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::*;
use vfio_client::{Container, Group};
use vfio_rs_selftests::modules::modprobe;
use vfio_rs_selftests::pamu::joined;
use vfio_rs_selftests::setup::{Bound, E1000E, GLANCE, PATIENCE, shared_group, slowness};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite};

const VIABLE: u32 = VFIO_GROUP_FLAGS_VIABLE;

/// Whether the kernel has a driver of its own for `device`, which is left without one.
fn has_host_driver(device: &PciDevice) -> bool {
    device.release().is_ok()
        && device.probe().is_ok()
        && device.driver().is_some()
        && device.release().is_ok()
}

/// A device of a shared group, bound to vfio-pci, and the others without a driver; those that the
/// kernel has a driver for come last.
fn shared() -> Result<(Bound, Vec<PciDevice>)> {
    E1000E.load_host_driver().ok();
    let mut devices = shared_group()?;
    devices.sort_by_key(has_host_driver);
    let first = devices.remove(0);
    first.bind_vfio()?;
    Ok((Bound::new(first)?, devices))
}

/// As [`shared`], and a neighbour with its host driver bound.
fn spoiled() -> Result<(Bound, PciDevice)> {
    let (bound, mut others) = shared()?;
    match others.pop() {
        Some(last) if last.probe().is_ok() && last.driver().is_some() => Ok((bound, last)),
        _ => skip!("no device of the shared group has a host driver"),
    }
}

fn neighbour_without_driver() -> Outcome {
    let (bound, others) = shared()?;
    let (_container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    group.device(&bound.pci.address)?;
    errno(
        "a device not bound to vfio-pci",
        group.device(&others[0].address),
        Errno::ENODEV,
    )
}

fn neighbour_with_host_driver() -> Outcome {
    let (bound, other) = spoiled()?;
    let group = bound.open_group()?;
    same("status", group.status()?, 0)?;
    errno(
        "SET_CONTAINER",
        group.set_container(&Container::open()?),
        Errno::EPERM,
    )?;
    same("status after that", group.status()?, 0)?;
    errno("UNSET_CONTAINER", group.unset_container(), Errno::EINVAL)?;
    errno(
        "GET_DEVICE_FD",
        group.device(&bound.pci.address),
        Errno::EINVAL,
    )?;
    // The neighbour goes: the group becomes viable, without reopening it.
    other.release()?;
    same("status without the neighbour", group.status()?, VIABLE)?;
    let container = Container::open()?;
    group.set_container(&container)?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    group.device(&bound.pci.address)?;
    Ok(())
}

/// The host drivers of the neighbours in a shared group, by device; all are unbound.
fn drivers_of(others: Vec<PciDevice>) -> Result<Vec<(PciDevice, String)>> {
    let mut all = Vec::new();
    for device in others {
        // It may have none.
        let _ = device.probe();
        if let Some(driver) = device.driver() {
            device.release()?;
            all.push((device, driver));
        }
    }
    if all.is_empty() {
        skip!("no device of the shared group has a host driver");
    }
    Ok(all)
}

fn host_driver_is_denied_while_in_use() -> Outcome {
    let (bound, others) = shared()?;
    let drivers = drivers_of(others)?;
    let (container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let device = group.device(&bound.pci.address)?;
    for (other, driver) in &drivers {
        other.set_override(Some(driver))?;
        // What the bus makes of the driver's EBUSY.
        errno(driver, other.probe(), Errno::EINVAL)?;
        same("driver while in use", other.driver(), None)?;
        let by_hand = fs::write(
            format!("/sys/bus/pci/drivers/{driver}/bind"),
            &other.address,
        );
        errno("bind by hand", by_hand, Errno::EBUSY)?;
        same("driver then", other.driver(), None)?;
    }
    same(
        "status",
        group.status()?,
        VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET,
    )?;
    drop((device, group, container));
    for (other, driver) in drivers {
        other.probe().context("probe when free")?;
        same("driver when free", other.driver(), Some(driver))?;
        other.release()?;
    }
    Ok(())
}

/// A group's user and the host driver of its other device take turns, and never have it both.
fn host_driver_races_with_use() -> Outcome {
    const TURNS: u32 = 4;
    let (bound, other) = spoiled()?;
    other.release()?;
    let (used, done) = (AtomicU32::new(0), AtomicBool::new(false));
    let user = || -> Outcome {
        while !done.load(Ordering::Relaxed) {
            let group = bound.open_group()?;
            match group.set_container(&Container::open()?) {
                Ok(()) => {
                    for _ in 0..3 {
                        same("driver while in use", other.driver(), None)?;
                    }
                    used.fetch_add(1, Ordering::Relaxed);
                }
                refused => errno("SET_CONTAINER", refused, Errno::EPERM)?,
            }
        }
        Ok(())
    };
    let drive = || -> Outcome {
        let end = Instant::now() + PATIENCE * slowness();
        let mut driven = 0;
        while driven < TURNS || used.load(Ordering::Relaxed) < TURNS {
            ensure!(Instant::now() < end, "{driven} probes, {used:?} uses");
            // It is denied now and then.
            let _ = other.probe();
            driven += u32::from(other.driver().is_some());
            other.unbind()?;
        }
        Ok(())
    };
    scope(|threads| {
        let user = threads.spawn(user);
        let driven = drive();
        done.store(true, Ordering::Relaxed);
        joined(user)?;
        driven
    })
}

fn host_driver_is_denied_from_set_container_on() -> Outcome {
    let (bound, other) = spoiled()?;
    other.release()?;
    let (_container, group) = bound.join()?;
    let _ = other.probe();
    same("driver while in a container", other.driver(), None)?;
    group.unset_container()?;
    other.probe()?;
    same(
        "has a driver when out of it",
        other.driver().is_some(),
        true,
    )?;
    same("status", group.status()?, 0)
}

fn neighbour_with_vfio_driver() -> Outcome {
    let (bound, others) = shared()?;
    others[0].bind_vfio()?;
    let (_container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let first = group.device(&bound.pci.address)?;
    let second = group.device(&others[0].address)?;
    for (device, pci) in [(&first, &bound.pci), (&second, &others[0])] {
        let config = device.config()?;
        let id = (
            config.read16(vfio_client::config::VENDOR)?,
            config.read16(vfio_client::config::DEVICE)?,
        );
        same("id", Some(id), pci.id())?;
    }
    errno("UNSET_CONTAINER", group.unset_container(), Errno::EBUSY)?;
    drop(first);
    errno("UNSET_CONTAINER", group.unset_container(), Errno::EBUSY)?;
    drop(second);
    Ok(group.unset_container()?)
}

/// pci-stub declares that it leaves DMA to others, as bridges' drivers do.
fn neighbour_with_a_safe_driver() -> Outcome {
    if modprobe(&["pci-stub"]).is_err() {
        skip!("no pci-stub");
    }
    let (bound, others) = shared()?;
    let other = &others[0];
    other.bind_to("pci-stub")?;
    let (_container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let in_use = VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET;
    same("status", group.status()?, in_use)?;
    let device = group.device(&bound.pci.address)?;
    errno("its", group.device(&other.address), Errno::ENODEV)?;
    // It comes and goes while the group is in use.
    other.unbind()?;
    other.probe()?;
    same("driver", other.driver().as_deref(), Some("pci-stub"))?;
    drop(device);
    same("status then", group.status()?, in_use)
}

fn group_stays_until_its_last_device() -> Outcome {
    let (bound, others) = shared()?;
    others[0].bind_vfio()?;
    others[0].release()?;
    Group::open(bound.group).context("open with one device left")?;
    bound.pci.release()?;
    errno(
        "open with none left",
        Group::open(bound.group),
        Errno::ENOENT,
    )
}

/// The host driver of a device takes it back after use, and its network interface reappears.
fn host_driver_comes_back() -> Outcome {
    E1000E.load_host_driver()?;
    let nic = E1000E.bind()?;
    let device = nic.pci.clone();
    let opened = nic.open()?;
    opened
        .device
        .config()?
        .update_command(0, vfio_client::config::COMMAND_MASTER)?;
    drop(opened);
    device.restore()?;
    same("driver", device.driver().as_deref(), E1000E.driver)?;
    let start = Instant::now();
    while device.netdevs().is_empty() && start.elapsed() < PATIENCE * slowness() {
        std::thread::sleep(GLANCE);
    }
    same("network interfaces", device.netdevs().len(), 1)
}

suite!(
    iommus: All, debug: Answers;
    neighbour_without_driver,
    neighbour_with_host_driver,
    host_driver_is_denied_while_in_use,
    host_driver_is_denied_from_set_container_on,
    host_driver_races_with_use,
    neighbour_with_vfio_driver,
    neighbour_with_a_safe_driver,
    group_stays_until_its_last_device,
    host_driver_comes_back,
);
