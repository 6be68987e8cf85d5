// SPDX-License-Identifier: GPL-2.0
//! A refusal that explains itself: each device of a group, its driver, and whether it is in the
//! way.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use vfio_client::sysfs::{self, PciDevice, VFIO_PCI};
use vfio_client::uapi::*;
use vfio_client::viability::*;
use vfio_client::{Container, Group, sys};
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::modules::Set;
use vfio_rs_selftests::process;
use vfio_rs_selftests::setup::{
    Bound, E1000E, EDU, PATIENCE, is_rust_stack, open_edu, shared_group, slowness,
};
use vfio_rs_selftests::{Outcome, Result, ensure, errno, same, skip, suite};

fn only_ours() -> Outcome {
    if !is_rust_stack() {
        skip!("C VFIO does not explain refusals");
    }
    Ok(())
}

fn member(pci: &PciDevice, driver: &str, reason: u32) -> Member {
    Member {
        name: pci.address.clone(),
        driver: driver.to_owned(),
        reason,
    }
}

/// A shared group with one device bound to vfio-pci, one with a driver of the kernel, and the rest
/// without.
fn spoiled() -> Result<(Bound, PciDevice, Vec<PciDevice>)> {
    only_ours()?;
    E1000E.load_host_driver().ok();
    let mut devices = shared_group()?;
    for device in &devices {
        device.release()?;
    }
    let Some(at) = devices.iter().position(|d| d.id() == Some(E1000E.id)) else {
        skip!("no e1000e in a shared group");
    };
    let driven = devices.remove(at);
    driven.probe()?;
    if driven.driver().is_none() {
        skip!("the kernel has no driver for it");
    }
    let first = devices.remove(0);
    first.bind_vfio()?;
    Ok((Bound::new(first)?, driven, devices))
}

fn lone_device() -> Outcome {
    only_ours()?;
    let bound = EDU.bind()?;
    let group = bound.open_group()?;
    let want = Viability {
        reason: VIABLE,
        devices: vec![member(&bound.pci, VFIO_PCI, VIABLE)],
    };
    same("before the container", group.viability()?, want.clone())?;
    let container = Container::open()?;
    group.set_container(&container)?;
    same("in a container", group.viability()?, want.clone())?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    let device = group.device(&bound.pci.address)?;
    same("in use", group.viability()?, want.clone())?;
    same("the device's feature", device.viability()?, want)
}

fn driver_of_the_kernel_is_named() -> Outcome {
    let (bound, driven, others) = spoiled()?;
    let group = bound.open_group()?;
    let check = |when: &str| -> Outcome {
        let said = group.viability()?;
        same(when, said.reason, NOT_VIABLE_DRIVER)?;
        same(when, said.devices.len(), others.len() + 2)?;
        let of = |pci: &PciDevice| said.of(&pci.address).cloned();
        same(
            when,
            of(&driven),
            Some(member(&driven, "e1000e", NOT_VIABLE_DRIVER)),
        )?;
        same(
            when,
            of(&bound.pci),
            Some(member(&bound.pci, VFIO_PCI, VIABLE)),
        )?;
        for other in &others {
            same(when, of(other), Some(member(other, "", VIABLE)))?;
        }
        Ok(())
    };
    check("before")?;
    let mut log = Kmsg::now()?;
    let container = Container::open()?;
    errno(
        "SET_CONTAINER",
        group.set_container(&container),
        Errno::EPERM,
    )?;
    let lines = log.lines()?;
    let prefix = format!("vfio_rs: group {}: ", bound.group);
    for text in [
        "refused to a container (-1): used by the kernel".to_owned(),
        format!("{}, driver e1000e: used by the kernel", driven.address),
        format!("{}, driver vfio-pci: viable", bound.pci.address),
        format!("{}, no driver: viable", others[0].address),
    ] {
        let line = format!("{prefix}{text}");
        ensure!(lines.contains(&line), "no line '{line}' in {lines:#?}");
    }
    check("after the refusal")?;
    driven.release()?;
    let said = group.viability()?;
    same("without the driver", said.reason, VIABLE)?;
    same(
        "the device",
        said.of(&driven.address),
        Some(&member(&driven, "", VIABLE)),
    )?;
    group.set_container(&container)?;
    same("in the container", group.viability()?.reason, VIABLE)
}

/// Users cannot fill the log by being refused.
fn log_of_refusals_is_limited() -> Outcome {
    let (bound, _driven, _others) = spoiled()?;
    let group = bound.open_group()?;
    let container = Container::open()?;
    let mut log = Kmsg::now()?;
    for _ in 0..200 {
        errno(
            "SET_CONTAINER",
            group.set_container(&container),
            Errno::EPERM,
        )?;
    }
    let lines = log.lines()?;
    let refusals = lines.iter().filter(|l| l.contains("refused to")).count();
    ensure!(refusals < 100, "{refusals} of 200 refusals were logged");
    Ok(())
}

fn driver_that_declares_itself_safe() -> Outcome {
    only_ours()?;
    // A bridge has a driver of the kernel, and is no obstacle.
    let all = sysfs::all()?;
    let beside_a_bridge = all.into_iter().find(|d| {
        let members = d.group_members();
        d.id() == Some(EDU.id)
            && members
                .iter()
                .any(|m| m.driver().as_deref() == Some("pcieport"))
    });
    let Some(pci) = beside_a_bridge else {
        skip!("no edu shares a group with a port of PCI Express");
    };
    pci.bind_vfio()?;
    let bound = Bound::new(pci)?;
    let group = bound.open_group()?;
    let said = group.viability()?;
    same("the group", said.reason, VIABLE)?;
    let ports = said.devices.iter().filter(|d| d.driver == "pcieport");
    ensure!(ports.clone().count() != 0, "no port in {said:?}");
    for port in ports {
        same("a port", port.reason, VIABLE)?;
    }
    group.set_container(&Container::open()?)?;
    Ok(())
}

fn interrupts_that_are_not_isolated() -> Outcome {
    only_ours()?;
    let bound = EDU.bind()?;
    let group = bound.open_group()?;
    let _unsafe = Set::new("vfio_iommu_type1", "allow_unsafe_interrupts", "N")?;
    let said = group.viability()?;
    let container = Container::open()?;
    group.set_container(&container)?;
    match container.set_iommu(VFIO_TYPE1v2_IOMMU) {
        Ok(()) => same("with isolated interrupts", said.reason, VIABLE),
        Err(e) => {
            errno("SET_IOMMU", Err::<(), _>(e), Errno::EPERM)?;
            same("without", said.reason, NOT_VIABLE_NO_ISOLATED_MSI)?;
            same("the device", said.devices[0].reason, said.reason)
        }
    }
}

fn device_without_iommu() -> Outcome {
    only_ours()?;
    let all = sysfs::find_all(EDU.id.0, EDU.id.1)?;
    let Some(pci) = all.into_iter().find(|pci| pci.group().is_none()) else {
        skip!("every edu has an IOMMU");
    };
    let _allowed = Set::new("vfio", "enable_unsafe_noiommu_mode", "1")?;
    pci.bind_vfio()?;
    let number = pci.group().unwrap_or_default();
    let said = Group::open_bare(number)?.viability();
    pci.release()?;
    let said = said?;
    same("the group", said.reason, NOT_VIABLE_NO_IOMMU)?;
    same(
        "its device",
        said.devices,
        vec![member(&pci, VFIO_PCI, NOT_VIABLE_NO_IOMMU)],
    )
}

/// GET_VIABILITY with words of the caller's at the start of `bytes` bytes; what is in the buffer
/// then.
fn raw(group: &Group, bytes: usize, words: &[u32]) -> (io::Result<i32>, Vec<u8>) {
    let mut buffer = sys::buffer(bytes + 2 * ROW);
    let all = sys::bytes_mut(&mut buffer);
    all.fill(0xa5);
    all[..HEADER].fill(0);
    for (at, word) in words.iter().enumerate() {
        all[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
    }
    let result = sys::with_buffer(group, GROUP_GET_VIABILITY, &mut buffer);
    (result, sys::bytes(&buffer).to_vec())
}

fn room_for_the_answer() -> Outcome {
    only_ours()?;
    let devices = shared_group()?;
    devices[0].bind_vfio()?;
    let bound = Bound::new(devices[0].clone())?;
    let group = bound.open_group()?;
    let count = devices[0].group_members().len();
    let (result, _) = raw(&group, HEADER, &[HEADER as u32 - 1]);
    errno("less than the header", result, Errno::EINVAL)?;
    for (argsz, rows) in [
        (HEADER, 0),
        (HEADER + count * ROW - 1, count - 1),
        (HEADER + ROW, 1),
    ] {
        let (result, bytes) = raw(&group, HEADER + rows * ROW, &[argsz as u32]);
        errno("too little room", result, Errno::ENOSPC)?;
        same("argsz", word(&bytes, 0), argsz as u32)?;
        same("count", word(&bytes, 8), count as u32)?;
        ensure!(
            bytes[HEADER..].iter().all(|b| *b == 0xa5),
            "devices were written without room for all"
        );
    }
    let full = HEADER + count * ROW;
    for argsz in [full, full + 1, u32::MAX as usize] {
        // A count and a reason of the caller's do not matter.
        let (result, bytes) = raw(&group, full, &[argsz as u32, 0, 77, 99]);
        same("with room", result?, 0)?;
        same("count", word(&bytes, 8), count as u32)?;
        ensure!(
            bytes[full..].iter().all(|b| *b == 0xa5),
            "written behind the devices"
        );
        for row in bytes[HEADER..full].chunks_exact(ROW) {
            same("reserved", word(row, 68), 0)?;
        }
    }
    for flags in [1, 0x8000_0000] {
        let (result, bytes) = raw(&group, full, &[full as u32, flags]);
        errno("flags", result, Errno::EINVAL)?;
        same("count then", word(&bytes, 8), 0)?;
    }
    errno(
        "no memory",
        sys::raw(group.as_raw_fd(), GROUP_GET_VIABILITY, 8),
        Errno::EFAULT,
    )
}

fn room_for_the_feature() -> Outcome {
    only_ours()?;
    let opened = open_edu()?;
    let ask = |op: u32, argsz: usize, inner: usize| -> io::Result<u32> {
        let mut buffer = sys::buffer(FEATURE_HEADER + HEADER + 2 * ROW);
        let bytes = sys::bytes_mut(&mut buffer);
        for (at, word) in [argsz as u32, op | FEATURE_VIABILITY, inner as u32]
            .into_iter()
            .enumerate()
        {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
        }
        sys::with_buffer(&opened.device, DEVICE_FEATURE, &mut buffer)?;
        Ok(word(sys::bytes(&buffer), FEATURE_HEADER + 8))
    };
    let (get, set) = (VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_SET);
    let probe = VFIO_DEVICE_FEATURE_PROBE;
    let data = HEADER + ROW;
    let full = FEATURE_HEADER + data;
    same("count", ask(get, full, data)?, 1)?;
    same("probing", ask(probe | get, FEATURE_HEADER, 0)?, 0)?;
    for (what, op, argsz, inner, want) in [
        ("probing for SET", probe | set, full, data, Errno::EINVAL),
        ("SET", set, full, data, Errno::EINVAL),
        ("no header", get, full - ROW - 1, data, Errno::EINVAL),
        ("no inner argsz", get, full, 0, Errno::EINVAL),
        ("no room for the device", get, full - 1, data, Errno::ENOSPC),
        ("less room inside", get, full, data - 1, Errno::ENOSPC),
    ] {
        errno(what, ask(op, argsz, inner), want)?;
    }
    Ok(())
}

fn group_that_lost_its_devices() -> Outcome {
    only_ours()?;
    let bound = EDU.bind()?;
    let group = bound.open_group()?;
    bound.pci.release()?;
    errno("GET_VIABILITY", group.viability(), Errno::ENODEV)
}

/// Who is asked to give the device back may still ask about it.
fn answers_while_the_device_is_wanted_back() -> Outcome {
    only_ours()?;
    let opened = open_edu()?;
    let request = vfio_client::Event::new()?;
    opened
        .device
        .enable_irqs(VFIO_PCI_REQ_IRQ_INDEX, &[request.as_raw_fd()])?;
    let fds = [
        opened.device.as_raw_fd(),
        opened.group.as_raw_fd(),
        opened.container.as_raw_fd(),
    ];
    let pci = opened.bound.pci.clone();
    let mut unbind = process::spawn(|| {
        for fd in fds {
            // SAFETY: the child's copies, which it never uses.
            unsafe { libc::close(fd) };
        }
        pci.unbind().is_err().into()
    })?;
    ensure!(
        request.wait(PATIENCE * slowness())?.is_some(),
        "the user is not asked to let go"
    );
    same("the group", opened.group.viability()?.reason, VIABLE)?;
    same("the device", opened.device.viability()?.reason, VIABLE)?;
    drop(opened);
    unbind.wait(PATIENCE * slowness()).map(drop)
}

suite!(
    iommus: Vtd, debug: Answers;
    lone_device,
    driver_of_the_kernel_is_named,
    log_of_refusals_is_limited,
    driver_that_declares_itself_safe,
    interrupts_that_are_not_isolated,
    device_without_iommu,
    room_for_the_answer,
    room_for_the_feature,
    group_that_lost_its_devices,
    answers_while_the_device_is_wanted_back,
);
