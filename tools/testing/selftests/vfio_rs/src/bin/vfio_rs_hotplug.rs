// SPDX-License-Identifier: GPL-2.0
//! Devices that come to a group in use, and go from it.

use std::fs;
use std::os::fd::AsRawFd;
use std::time::Instant;

use nix::errno::Errno;
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::*;
use vfio_client::{DmaBuf, Event};
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::process;
use vfio_rs_selftests::qmp::Plugged;
use vfio_rs_selftests::setup::{
    Bound, EDU, GLANCE, IGB, IOVA, Opened, PATIENCE, all_edus, is_amd_iommu, is_rust_stack,
    slowness,
};
use vfio_rs_selftests::shapes::copies;
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite};

/// Takes a device off its bus, as if it had been pulled out.
fn remove(device: &PciDevice) -> std::io::Result<()> {
    fs::write(device.path().join("remove"), "1")
}

/// Looks for devices again, and waits for `device` to be in group `group`.
fn rescan(device: &PciDevice, group: u32) -> Outcome {
    fs::write("/sys/bus/pci/rescan", "1").context("rescan")?;
    let end = Instant::now() + PATIENCE * slowness();
    while device.group() != Some(group) {
        ensure!(
            Instant::now() < end,
            "{} is in group {:?}, not {group}",
            device.address,
            device.group()
        );
        std::thread::sleep(GLANCE / 10);
    }
    Ok(())
}

/// An edu device in use, in a group with another, each behind a port of its own. Not in one slot: a
/// function that is found later may land in a group of its own. Not behind a conventional bridge:
/// with VT-d the last to leave the bus takes the others' DMA along.
fn in_use() -> Result<(Opened, DmaBuf, PciDevice)> {
    for first in all_edus()? {
        let members = first.group_members();
        let ports = members.iter().filter(|m| m.is_bridge()).count();
        let mut others = members.iter();
        let other = others.find(|d| d.id() == Some(EDU.id) && **d != first);
        if let Some(other) = other
            && ports > 1
        {
            other.release()?;
            first.bind_vfio()?;
            let opened = Bound::new(first)?.open()?;
            let buf = opened.map_new(IOVA, 2)?;
            return Ok((opened, buf, other.clone()));
        }
    }
    skip!("no two edu devices behind ports that do not isolate");
}

fn comes_back_to_a_group_in_use() -> Outcome {
    let (opened, buf, other) = in_use()?;
    let group = opened.bound.group;
    let count = other.group_members().len();
    remove(&other).context("remove")?;
    ensure!(!other.path().exists(), "{} is still there", other.address);
    same(
        "devices of the group",
        opened.bound.pci.group_members().len(),
        count - 1,
    )?;
    copies(&opened.device, &buf, 1)?;
    let mut log = Kmsg::now()?;
    rescan(&other, group)?;
    if is_rust_stack() {
        log.expect(&format!(
            "{}: Came to group {group}, which a user has",
            other.address
        ))?;
    }
    copies(&opened.device, &buf, 2)?;
    // It sees what the user has mapped, as soon as they have it.
    other.bind_vfio().context("bind it")?;
    let device = opened.group.device(&other.address)?;
    copies(&device, &buf, 3)
}

fn removal_waits_for_its_user_alone() -> Outcome {
    let (opened, buf, other) = in_use()?;
    other.bind_vfio()?;
    let device = opened.group.device(&other.address)?;
    let request = Event::new()?;
    device.enable_irqs(VFIO_PCI_REQ_IRQ_INDEX, &[request.as_raw_fd()])?;
    let not_asked = Event::new()?;
    opened
        .device
        .enable_irqs(VFIO_PCI_REQ_IRQ_INDEX, &[not_asked.as_raw_fd()])?;
    let fds = [
        device.as_raw_fd(),
        opened.device.as_raw_fd(),
        opened.group.as_raw_fd(),
        opened.container.as_raw_fd(),
    ];
    let mut removal = process::spawn(|| {
        for fd in fds {
            // SAFETY: the child's copies, which it never uses.
            unsafe { libc::close(fd) };
        }
        remove(&other).is_err().into()
    })?;
    ensure!(
        request.wait(PATIENCE * slowness())?.is_some(),
        "the user is not asked to let go"
    );
    ensure!(removal.try_wait()?.is_none(), "a device in use went");
    drop(device);
    removal.ended_well("removal")?;
    same("requests for the other", not_asked.take()?, None)?;
    errno(
        "the device",
        opened.group.device(&other.address),
        Errno::ENODEV,
    )?;
    copies(&opened.device, &buf, 5)?;
    rescan(&other, opened.bound.group)
}

/// A device that is plugged in beside one in use belongs to the user's address space, and to no
/// driver of the kernel for as long as they have the group.
fn plugged_into_a_group_in_use() -> Outcome {
    IGB.load_host_driver()?;
    let (opened, buf, _other) = in_use()?;
    let count = opened.bound.pci.group_members().len();
    let mut plugged = Plugged::at("noacs2", "igb", 1, IGB.id)?;
    let new = plugged.functions[0].clone();
    same("its group", new.group(), Some(opened.bound.group))?;
    copies(&opened.device, &buf, 6)?;
    std::thread::sleep(GLANCE);
    same("its driver", new.driver(), None)?;
    // Not even by name.
    new.set_override(IGB.driver)?;
    errno("probe while in use", new.probe(), Errno::EINVAL)?;
    same("its driver then", new.driver(), None)?;
    if is_rust_stack() {
        let said = opened.group.viability()?;
        same("members", said.devices.len(), count + 1)?;
        same("the verdict", said.reason, vfio_client::viability::VIABLE)?;
    }
    drop((opened, buf));
    if !is_amd_iommu() {
        new.probe().context("probe when free")?;
        same("its driver when free", new.driver().as_deref(), IGB.driver)?;
        new.release()?;
    }
    let (opened, buf, _other) = in_use()?;
    new.bind_vfio()?;
    let device = opened.group.device(&new.address)?;
    let config = device.config()?;
    same(
        "vendor",
        config.read16(vfio_client::config::VENDOR)?,
        0x8086,
    )?;

    let request = Event::new()?;
    device.enable_irqs(VFIO_PCI_REQ_IRQ_INDEX, &[request.as_raw_fd()])?;
    plugged.unplug()?;
    ensure!(
        request.wait(PATIENCE * slowness())?.is_some(),
        "the user is not asked to let go"
    );
    drop(device);
    drop(plugged);
    ensure!(!new.path().exists(), "{} is still there", new.address);
    errno("it", opened.group.device(&new.address), Errno::ENODEV)?;
    copies(&opened.device, &buf, 8)?;
    same(
        "devices at the end",
        opened.bound.pci.group_members().len(),
        count,
    )
}

suite!(
    iommus: All, debug: Lifetimes;
    comes_back_to_a_group_in_use,
    removal_waits_for_its_user_alone,
    plugged_into_a_group_in_use,
);
