// SPDX-License-Identifier: GPL-2.0
//! Resets of all devices that share a bridge or a slot.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use vfio_client::config::{self, COMMAND_MEMORY};
use vfio_client::sys;
use vfio_client::sysfs::{self, PciDevice};
use vfio_client::uapi::*;
use vfio_client::{Container, Device, Group};
use vfio_rs_selftests::modules::Set;
use vfio_rs_selftests::qmp::Plugged;
use vfio_rs_selftests::race::race_while;
use vfio_rs_selftests::reset::{bridged, hot_reset, raw_reset};
use vfio_rs_selftests::setup::{Bound, EDU, IGB, NVME, Opened, PAGE, is_rust_stack, open_edu};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite};

/// VLAN ether type of Intel's network adapters: an ordinary register, kept until a reset.
const VET: u64 = 0x38;
/// Intel 82540EM, as QEMU's e1000 is one: no reset of its own.
const E1000: (u16, u16) = (0x8086, 0x100e);

/// One entry of the answer: group, and address as sysfs has it.
type Dependent = (u32, String);

/// VFIO_DEVICE_GET_PCI_HOT_RESET_INFO with room for `room` devices; the count that comes back and
/// the devices.
fn info(device: &Device, room: usize) -> (io::Result<i32>, u32, Vec<Dependent>) {
    let mut buf = sys::buffer(12 + room * 8 + 8);
    let argsz = 12 + room as u32 * 8;
    sys::bytes_mut(&mut buf)[..4].copy_from_slice(&argsz.to_ne_bytes());
    let result = sys::with_buffer(device, DEVICE_GET_PCI_HOT_RESET_INFO, &mut buf);
    let bytes = sys::bytes(&buf);
    let u32_at = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
    let count = u32_at(8);
    let devices = (0..(count as usize).min(room)).map(|i| {
        let at = 12 + 8 * i;
        let (bus, devfn) = (bytes[at + 6], bytes[at + 7]);
        let segment = u32_at(at + 4) as u16;
        let address = format!("{segment:04x}:{bus:02x}:{:02x}.{}", devfn >> 3, devfn & 7);
        (u32_at(at), address)
    });
    (result, count, devices.collect())
}

/// Opens a device that is not bound yet.
fn open(pci: &PciDevice) -> Result<Opened> {
    pci.bind_vfio()?;
    Bound::new(pci.clone())?.open()
}

/// Writes a register that a reset clears.
fn mark(device: &Device) -> Outcome {
    device.config()?.update_command(0, COMMAND_MEMORY)?;
    let bar = device.region(0)?;
    device.write32(&bar, VET, 0x1234)?;
    same("the mark", device.read32(&bar, VET)?, 0x1234)
}

/// Whether no reset cleared it. Enables memory, as a device that is opened anew needs it.
fn is_marked(device: &Device) -> Result<bool> {
    device.config()?.update_command(0, COMMAND_MEMORY)?;
    Ok(device.read32(&device.region(0)?, VET)? == 0x1234)
}

fn alone_in_its_slot() -> Outcome {
    let opened = IGB.open()?;
    let device = &opened.device;
    let (result, count, _) = info(device, 0);
    errno("no room", result, Errno::ENOSPC)?;
    same("count", count, 1)?;
    let (result, _, devices) = info(device, 3);
    result?;
    let address = opened.bound.pci.address.clone();
    same("devices", devices, vec![(opened.bound.group, address)])?;

    mark(&opened.device)?;
    let mapping = device.mmap(&device.region(0)?, 0, PAGE as usize)?;
    same("the mark, mapped", mapping.read32(VET as usize), 0x1234)?;
    hot_reset(device, &[&opened.group])?;
    let config = device.config()?;
    ensure!(
        config.read16(config::COMMAND)? & COMMAND_MEMORY != 0,
        "memory is off"
    );
    ensure!(!is_marked(device)?, "the device was not reset");
    ensure!(mapping.read32(VET as usize) != 0x1234, "the map is stale");
    same("vendor", config.read16(config::VENDOR)?, IGB.id.0)
}

fn malformed_requests() -> Outcome {
    let opened = IGB.open()?;
    let other = EDU.bind()?.open_group()?;
    let device = &opened.device;
    mark(&opened.device)?;
    let group = opened.group.as_raw_fd();
    let mut small = [11u64, 0];
    let result = sys::with_buffer(device, DEVICE_GET_PCI_HOT_RESET_INFO, &mut small);
    errno("info, argsz 11", result, Errno::EINVAL)?;
    for nr in [DEVICE_GET_PCI_HOT_RESET_INFO, DEVICE_PCI_HOT_RESET] {
        errno("null", sys::with_value(device, nr, 0), Errno::EFAULT)?;
    }
    let try_fds = |fds: &[RawFd]| raw_reset(device, 64, 0, fds.len() as u32, fds);
    errno(
        "argsz 11",
        raw_reset(device, 11, 0, 1, &[group]),
        Errno::EINVAL,
    )?;
    errno(
        "flags",
        raw_reset(device, 16, 1, 1, &[group]),
        Errno::EINVAL,
    )?;
    errno("no group", try_fds(&[]), Errno::EINVAL)?;
    errno("too many groups", try_fds(&[group, group]), Errno::EINVAL)?;
    errno(
        "far too many",
        raw_reset(device, 64, 0, u32::MAX, &[group]),
        Errno::EINVAL,
    )?;
    errno("-1", try_fds(&[-1]), Errno::EBADF)?;
    errno("not open", try_fds(&[9999]), Errno::EBADF)?;
    for fd in [device.as_raw_fd(), opened.container.as_raw_fd(), 0] {
        errno("no group's file", try_fds(&[fd]), Errno::EINVAL)?;
    }
    errno(
        "another group",
        try_fds(&[other.as_raw_fd()]),
        Errno::EINVAL,
    )?;
    ensure!(
        is_marked(&opened.device)?,
        "a refused request reset the device"
    );
    // argsz need not cover the descriptors.
    raw_reset(device, 12, 0, 1, &[group])?;
    ensure!(!is_marked(&opened.device)?, "the device was not reset");
    Ok(())
}

fn none_on_the_root_bus() -> Outcome {
    let edu = open_edu()?;
    errno("info", info(&edu.device, 4).0, Errno::ENODEV)?;
    errno(
        "reset",
        hot_reset(&edu.device, &[&edu.group]),
        Errno::ENODEV,
    )?;
    errno(
        "no group",
        raw_reset(&edu.device, 12, 0, 0, &[]),
        Errno::EINVAL,
    )
}

fn others_on_the_bus() -> Outcome {
    let members = bridged()?;
    let (first, second) = (&members[0], &members[1]);
    let opened = open(first)?;
    let (result, count, devices) = info(&opened.device, 8);
    result?;
    same("devices on the bus", count as usize, members.len())?;
    for member in &members {
        let entry = (opened.bound.group, member.address.clone());
        ensure!(devices.contains(&entry), "{entry:?} is not in {devices:?}");
    }
    errno(
        "a device without driver",
        hot_reset(&opened.device, &[&opened.group]),
        Errno::EINVAL,
    )?;
    second.bind_vfio()?;
    for member in &members[2..] {
        member.bind_vfio()?;
    }
    hot_reset(&opened.device, &[&opened.group])?;
    let other = opened.group.device(&second.address)?;
    hot_reset(&other, &[&opened.group])?;
    let twice = [opened.group.as_raw_fd(); 2];
    raw_reset(&other, 20, 0, 2, &twice)?;
    drop(other);
    hot_reset(&opened.device, &[&opened.group])?;
    second.release()?;
    errno(
        "one is gone",
        hot_reset(&opened.device, &[&opened.group]),
        Errno::EINVAL,
    )
}

/// Two functions of one slot without an IOMMU, each thus a group of its own; skips if there are
/// none.
fn bare() -> Result<[PciDevice; 2]> {
    let mut all = sysfs::find_all(E1000.0, E1000.1)?;
    all.retain(|pci| pci.group().is_none());
    match <[PciDevice; 2]>::try_from(all) {
        Ok(two) => Ok(two),
        Err(_) => skip!("no two functions of a slot without an IOMMU"),
    }
}

fn devices_of_two_groups() -> Outcome {
    let [one, two] = bare()?;
    let allowed = Set::new("vfio", "enable_unsafe_noiommu_mode", "1")?;
    one.bind_vfio()?;
    let first = one.group().context("no group")?;
    let container = Container::open()?;
    let group = Group::open_bare(first)?;
    group.set_container(&container)?;
    container.set_iommu(VFIO_NOIOMMU_IOMMU)?;
    let device = group.device(&one.address)?;
    errno("a stranger", info(&device, 8).0, Errno::EPERM)?;
    errno(
        "a stranger beside it",
        hot_reset(&device, &[&group]),
        Errno::EINVAL,
    )?;
    two.bind_vfio()?;
    let second = two.group().context("no group")?;
    ensure!(first != second, "both are in group {first}");
    let (result, count, devices) = info(&device, 8);
    result?;
    same("devices", count, 2)?;
    for entry in [(first, one.address.clone()), (second, two.address.clone())] {
        ensure!(devices.contains(&entry), "{entry:?} is not in {devices:?}");
    }

    mark(&device)?;
    let other_group = Group::open_bare(second)?;
    errno("one group", hot_reset(&device, &[&group]), Errno::EINVAL)?;
    errno(
        "the other group",
        hot_reset(&device, &[&other_group]),
        Errno::EINVAL,
    )?;
    ensure!(is_marked(&device)?, "reset by who has one group only");
    hot_reset(&device, &[&other_group, &group])?;
    ensure!(!is_marked(&device)?, "not reset");

    // From the other device, while both are in use, each in a container of its own.
    let other_container = Container::open()?;
    other_group.set_container(&other_container)?;
    other_container.set_iommu(VFIO_NOIOMMU_IOMMU)?;
    let other = other_group.device(&two.address)?;
    mark(&device)?;
    mark(&other)?;
    errno(
        "one group",
        hot_reset(&other, &[&other_group]),
        Errno::EINVAL,
    )?;
    ensure!(
        is_marked(&device)? && is_marked(&other)?,
        "reset by who has one group only"
    );
    hot_reset(&other, &[&group, &other_group])?;
    ensure!(
        !is_marked(&device)? && !is_marked(&other)?,
        "not both are reset"
    );
    drop((device, other, group, other_group));
    one.release()?;
    two.release()?;
    drop(allowed);
    Ok(())
}

fn unused_devices_are_reset_by_their_bus() -> Outcome {
    let plugged = Plugged::new("e1000", 2, E1000)?;
    let [one, two] = &plugged.functions[..] else {
        skip!("not two functions")
    };
    // The two are in one group: nothing tells apart what they send.
    one.bind_vfio()?;
    let (_container, group) = Bound::new(one.clone())?.attach(VFIO_TYPE1v2_IOMMU)?;
    let device = group.device(&one.address)?;
    ensure!(!device.can_reset()?, "it has a reset of its own");
    mark(&device)?;
    drop(device);
    let device = group.device(&one.address)?;
    ensure!(
        is_marked(&device)?,
        "reset, though the bus is shared with a stranger"
    );
    two.bind_vfio()?;
    let second = group.device(&two.address)?;
    drop(device);
    let device = group.device(&one.address)?;
    ensure!(
        is_marked(&device)?,
        "reset, though another device is in use"
    );
    drop(second);
    ensure!(is_marked(&device)?, "reset in use");
    drop(device);
    let device = group.device(&one.address)?;
    ensure!(!is_marked(&device)?, "not reset");
    // There was no user since.
    let second = group.device(&two.address)?;
    mark(&device)?;
    drop(device);
    drop(second);
    let device = group.device(&one.address)?;
    ensure!(!is_marked(&device)?, "not reset by the last to leave");
    Ok(())
}

fn all_kinds() -> Outcome {
    for kind in [IGB, NVME] {
        let opened = kind.open()?;
        for _ in 0..3 {
            hot_reset(&opened.device, &[&opened.group])?;
            let config = opened.device.config()?;
            same("vendor", config.read16(config::VENDOR)?, kind.id.0)?;
        }
    }
    Ok(())
}

/// Another thread of the same user reads the device all the time.
fn accesses_are_waited_for() -> Outcome {
    if !is_rust_stack() {
        skip!("C gives up with EBUSY");
    }
    let opened = IGB.open()?;
    let device = &opened.device;
    device.config()?.update_command(0, COMMAND_MEMORY)?;
    let bar = device.region(0)?;
    let read = || device.read(&bar, 0, &mut [0; 0x4000]).is_ok();
    let mut result = Ok(());
    let end = || {
        result = (0..15).try_for_each(|_| hot_reset(device, &[&opened.group]));
    };
    ensure!(race_while(end, &[&read, &read]), "a read failed");
    result.context("reset")
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    alone_in_its_slot,
    malformed_requests,
    none_on_the_root_bus,
    others_on_the_bus,
    devices_of_two_groups,
    unused_devices_are_reset_by_their_bus,
    all_kinds,
    accesses_are_waited_for,
);
