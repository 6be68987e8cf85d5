// SPDX-License-Identifier: GPL-2.0
//! A driver of the kernel that gets at a group in spite of the IOMMU core: the user's DMA is cut
//! off first, they are told, and the log names device and driver.

use std::fs;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;

use nix::errno::Errno;
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::*;
use vfio_client::viability::{NOT_VIABLE_DRIVER, VIABLE as REASON_NONE};
use vfio_client::{Container, Device, DmaBuf, Edu, Event, Group};
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::merge::{EduGroup, edu_groups};
use vfio_rs_selftests::modules::TestModule;
use vfio_rs_selftests::pamu::joined;
use vfio_rs_selftests::setup::{Bound, IOVA, PAGE, PATIENCE, is_rust_stack, slowness};
use vfio_rs_selftests::shapes::{bind, copies, pairs, space};
use vfio_rs_selftests::{Outcome, Result, bail, ensure, errno, same, skip, suite};

const VIABLE: u32 = VFIO_GROUP_FLAGS_VIABLE;
const SET: u32 = VFIO_GROUP_FLAGS_CONTAINER_SET;
const MERGED: u32 = VFIO_GROUP_FLAGS_MERGED;
const DRIVER: &str = "vfio-rs-intruder";

/// The driver that declares itself safe for as long as it is asked.
fn intruder() -> Result<TestModule> {
    if !is_rust_stack() {
        skip!("C VFIO does not notice");
    }
    TestModule::load("vfio_rs_intruder", &[])
}

/// DMA by the device reaches nothing of `buf`, two pages at IOVA, and what is in them does not
/// reach the device.
fn check_cut_off(device: &Device, buf: &DmaBuf) -> Outcome {
    let edu = Edu::new(device)?;
    buf.fill(0x11);
    edu.fetch(IOVA, 128)?;
    edu.store(IOVA, 128)?;
    edu.store(IOVA + PAGE, 128)?;
    ensure!(buf.is_filled(0, buf.len(), 0x11), "DMA arrives");
    Ok(())
}

fn request_of(device: &Device) -> Result<Event> {
    let request = Event::new()?;
    device.enable_irqs(VFIO_PCI_REQ_IRQ_INDEX, &[request.as_raw_fd()])?;
    Ok(request)
}

fn check_asked(request: &Event) -> Outcome {
    let asked = request.wait(PATIENCE * slowness())?;
    ensure!(asked.is_some(), "the user is not asked to let go");
    Ok(())
}

/// The group names the intruder, whatever else it says.
fn check_named(group: &Group, device: &PciDevice) -> Outcome {
    let said = group.viability()?;
    same("the group", said.reason, NOT_VIABLE_DRIVER)?;
    let Some(member) = said.of(&device.address) else {
        bail!("{} is not listed", device.address);
    };
    same("the driver", member.driver.as_str(), DRIVER)?;
    same("the device", member.reason, NOT_VIABLE_DRIVER)
}

/// With the intruder there the group is in no container, and comes into none.
fn check_refused(group: &Group, device: &PciDevice) -> Outcome {
    same("status", group.status()?, 0)?;
    check_named(group, device)?;
    let mut log = Kmsg::now()?;
    let container = Container::open()?;
    let joined = group.set_container(&container);
    errno("SET_CONTAINER", joined, Errno::EPERM)?;
    log.expect(&format!("{}, driver {DRIVER}: used", device.address))
}

fn user_is_cut_off_and_told() -> Outcome {
    let _module = intruder()?;
    for [one, two] in pairs()? {
        let bound = bind(&one)?;
        two.release()?;
        let (container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
        let buf = space(&container)?;
        let device = group.device(&one.address)?;
        let request = request_of(&device)?;
        copies(&device, &buf, 1)?;
        same("status before", group.status()?, VIABLE | SET)?;

        let mut log = Kmsg::now()?;
        two.bind_to(DRIVER)?;
        let lines = log.lines()?;
        let find = |text: &str| lines.iter().position(|line| line.contains(text));
        let noticed = find(&format!(
            "{}: Driver {DRIVER} got the device although a user has group {}: cut off",
            two.address, bound.group
        ));
        let seen = find(&format!("{}: Intruder sees the device", two.address));
        ensure!(noticed.is_some() && seen.is_some(), "{lines:#?}");
        ensure!(noticed < seen, "the driver came first: {lines:#?}");
        check_asked(&request)?;
        same("status", group.status()?, SET)?;
        check_named(&group, &two)?;
        check_cut_off(&device, &buf)?;
        // Nothing that the user does brings it back.
        let more = DmaBuf::new(PAGE as usize)?;
        let _ = container.map_buf(&more, IOVA + 4 * PAGE);
        check_cut_off(&device, &buf)?;

        drop(device);
        group.unset_container()?;
        check_refused(&group, &two)?;
        two.release()?;
        works_again(&bound, &group)?;
    }
    Ok(())
}

fn works_again(bound: &Bound, group: &Group) -> Outcome {
    same("status, free", group.status()?, VIABLE)?;
    let container = Container::open()?;
    group.set_container(&container)?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    let buf = space(&container)?;
    copies(&group.device(&bound.pci.address)?, &buf, 2)?;
    same("status, in use", group.status()?, VIABLE | SET)?;
    same("reason", group.viability()?.reason, REASON_NONE)?;
    Ok(group.unset_container()?)
}

fn group_without_a_user_is_refused() -> Outcome {
    let _module = intruder()?;
    for [one, two] in pairs()? {
        let bound = bind(&one)?;
        two.bind_to(DRIVER)?;
        let group = bound.open_group()?;
        check_refused(&group, &two)?;
        two.release()?;
        works_again(&bound, &group)?;
    }
    Ok(())
}

fn before_there_is_an_address_space() -> Outcome {
    let _module = intruder()?;
    let [one, two] = pairs()?.remove(0);
    let bound = bind(&one)?;
    two.release()?;
    let (container, group) = bound.join()?;
    two.bind_to(DRIVER)?;
    same("status", group.status()?, SET)?;
    check_named(&group, &two)?;
    let set = container.set_iommu(VFIO_TYPE1v2_IOMMU);
    errno("SET_IOMMU", set, Errno::EPERM)?;
    two.release()?;
    // They have to let go all the same.
    same("status without it", group.status()?, SET)?;
    group.unset_container()?;
    works_again(&bound, &group)
}

/// A member that was cut off does not spoil the container of those that it leaves.
fn member_leaves_before_there_is_an_address_space() -> Outcome {
    let _module = intruder()?;
    let (groups, last) = alone_and_pair()?;
    let (container, leader) = groups[0].devices[0].join()?;
    let other = groups[1].open()?;
    leader.merge(&other)?;
    last.bind_to(DRIVER)?;
    let set = container.set_iommu(VFIO_TYPE1v2_IOMMU);
    errno("SET_IOMMU", set, Errno::EPERM)?;
    leader.split(&other)?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    let buf = space(&container)?;
    copies(&leader.device(groups[0].name())?, &buf, 9)?;
    check_refused(&other, &last)?;
    Ok(last.release()?)
}

/// A group alone and one with two devices, the second of which is free for the intruder.
fn alone_and_pair() -> Result<([EduGroup; 2], PciDevice)> {
    let groups: [EduGroup; 2] = edu_groups()?;
    let Some(last) = groups[1].devices.get(1) else {
        skip!("no group with two edu devices");
    };
    last.pci.release()?;
    let last = last.pci.clone();
    Ok((groups, last))
}

fn member_of_another_group() -> Outcome {
    let _module = intruder()?;
    let (groups, last) = alone_and_pair()?;
    let (container, leader) = groups[0].devices[0].attach(VFIO_TYPE1v2_IOMMU)?;
    let other = groups[1].open()?;
    leader.merge(&other)?;
    let buf = space(&container)?;
    let leaders = leader.device(groups[0].name())?;
    let members = leader.device(groups[1].name())?;
    let (not_asked, asked) = (request_of(&leaders)?, request_of(&members)?);
    copies(&members, &buf, 3)?;

    last.bind_to(DRIVER)?;
    check_asked(&asked)?;
    same("requests to the leader", not_asked.take()?, None)?;
    same("status of the member", other.status()?, SET | MERGED)?;
    same("status of the leader", leader.status()?, SET | VIABLE)?;
    check_named(&other, &last)?;
    same("the leader", leader.viability()?.reason, REASON_NONE)?;
    let shown = fs::read_to_string("/sys/kernel/debug/vfio_rs/groups")?;
    let line = format!("group {}: used by the kernel, cut off,", groups[1].number);
    ensure!(shown.contains(&line), "no '{line}' in {shown}");
    check_cut_off(&members, &buf)?;
    copies(&leaders, &buf, 4)?;

    drop(members);
    leader.split(&other)?;
    check_refused(&other, &last)?;
    errno("MERGE", leader.merge(&other), Errno::EPERM)?;
    copies(&leaders, &buf, 5)?;
    last.release()?;
    leader.merge(&other)?;
    copies(&leader.device(groups[1].name())?, &buf, 6)
}

fn leader_of_another_group() -> Outcome {
    let _module = intruder()?;
    let (groups, last) = alone_and_pair()?;
    let (container, leader) = groups[1].devices[0].attach(VFIO_TYPE1v2_IOMMU)?;
    let other = groups[0].open()?;
    leader.merge(&other)?;
    let buf = space(&container)?;
    let leaders = leader.device(groups[1].name())?;
    let members = leader.device(groups[0].name())?;
    let asked = request_of(&leaders)?;

    last.bind_to(DRIVER)?;
    check_asked(&asked)?;
    same("status of the leader", leader.status()?, SET)?;
    // It has its leader's, and is no part of what is cut off.
    same("status of the member", other.status()?, SET | MERGED)?;
    check_cut_off(&leaders, &buf)?;
    copies(&members, &buf, 7)?;

    drop((leaders, members));
    leader.unset_container()?;
    let container = Container::open()?;
    errno("both", leader.set_container(&container), Errno::EPERM)?;
    last.release()?;
    leader.set_container(&container)?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    let buf = space(&container)?;
    copies(&leader.device(groups[1].name())?, &buf, 8)
}

/// Answers are what is, or was a moment ago, while the driver goes and its module is unloaded.
fn asking_races_with_the_driver_going() -> Outcome {
    const TURNS: u32 = 4;
    drop(intruder()?);
    let [one, two] = pairs()?.remove(0);
    let bound = bind(&one)?;
    two.release()?;
    let (_container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let device = group.device(&one.address)?;
    let done = AtomicBool::new(false);
    let ask = || -> Outcome {
        while !done.load(Ordering::Relaxed) {
            for said in [group.viability()?, device.viability()?] {
                let driver = said.of(&two.address).map(|member| member.driver.as_str());
                // The last while it is coming or going.
                let known = matches!(driver, Some("" | DRIVER | "unknown"));
                ensure!(known, "{said:?}");
            }
            let status = group.status()?;
            ensure!(status & SET != 0, "status {status:#x}");
        }
        Ok(())
    };
    let turns = || -> Outcome {
        for _ in 0..TURNS {
            let module = intruder()?;
            two.bind_to(DRIVER)?;
            drop(module);
            same("driver", two.driver(), None)?;
        }
        Ok(())
    };
    scope(|threads| {
        let asking = threads.spawn(ask);
        let turned = turns();
        done.store(true, Ordering::Relaxed);
        joined(asking)?;
        turned
    })
}

suite!(
    iommus: All, debug: Answers;
    user_is_cut_off_and_told,
    group_without_a_user_is_refused,
    before_there_is_an_address_space,
    member_leaves_before_there_is_an_address_space,
    member_of_another_group,
    leader_of_another_group,
    asking_races_with_the_driver_going,
);
