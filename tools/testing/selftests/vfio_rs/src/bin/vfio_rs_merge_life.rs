// SPDX-License-Identifier: GPL-2.0
//! Groups that joined another one, and the end: descriptors closed in each order, processes killed,
//! devices taken away.

use std::any::Any;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use vfio_client::uapi::*;
use vfio_client::{Container, Device, DmaBuf, Edu, Group, counters};
use vfio_rs_selftests::merge::{EduGroup, edu_groups, reaches};
use vfio_rs_selftests::order::permutations;
use vfio_rs_selftests::process::{self, Latch};
use vfio_rs_selftests::qmp::Plugged;
use vfio_rs_selftests::setup::{Bound, EDU, GLANCE, IOVA, PAGE, PATIENCE, slowness};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, suite};

const VIABLE: u32 = VFIO_GROUP_FLAGS_VIABLE;

/// A leader with a member, a page that both reach, and a device of each.
struct Merged {
    container: Container,
    leader: Group,
    member: Group,
    leaders: Device,
    members: Device,
    buf: DmaBuf,
}

fn merged(groups: &[EduGroup; 2]) -> Result<Merged> {
    let (container, leader) = groups[0].devices[0].attach(VFIO_TYPE1v2_IOMMU)?;
    let member = groups[1].open()?;
    leader.merge(&member).context("merge")?;
    let buf = DmaBuf::new(PAGE as usize)?;
    container.map_buf(&buf, IOVA)?;
    Ok(Merged {
        leaders: leader.device(groups[0].name())?,
        members: leader.device(groups[1].name())?,
        container,
        leader,
        member,
        buf,
    })
}

/// All groups are whole and free.
fn check_free(groups: &[EduGroup]) -> Outcome {
    same("locked memory", counters::locked_kib()?, 0)?;
    for group in groups {
        let (_container, open) = group.devices[0].attach(VFIO_TYPE1v2_IOMMU)?;
        open.device(group.name())?;
    }
    Ok(())
}

fn closed_in_each_order() -> Outcome {
    let groups = edu_groups()?;
    // A sample: each second one, or on a slow kernel less.
    let step = if slowness() > 1 { 11 } else { 2 };
    for order in permutations(4).into_iter().step_by(step) {
        let m = merged(&groups)?;
        let mut parts: [Option<Box<dyn Any>>; 4] = [
            Some(Box::new(m.leader)),
            Some(Box::new(m.member)),
            Some(Box::new(m.leaders)),
            Some(Box::new(m.members)),
        ];
        drop(m.container);
        for (closed, part) in order.iter().enumerate() {
            let (leader, member) = (parts[0].is_some(), parts[1].is_some());
            let devices = parts[2].is_some() || parts[3].is_some();
            if !leader && devices {
                errno("leader", Group::open(groups[0].number), Errno::EBUSY)
                    .with_context(|| format!("{closed} closed of {order:?}"))?;
            }
            if !member && (leader || devices) {
                errno("member", Group::open(groups[1].number), Errno::EBUSY)
                    .with_context(|| format!("{closed} closed of {order:?}"))?;
            }
            parts[*part] = None;
        }
        check_free(&groups).with_context(|| format!("after {order:?}"))?;
    }
    Ok(())
}

fn member_works_without_other_descriptors() -> Outcome {
    let groups = edu_groups()?;
    let m = merged(&groups)?;
    drop((m.leader, m.member, m.leaders, m.container));
    same("DMA", reaches(&m.members, IOVA, &m.buf)?, true)?;
    drop(m.members);
    check_free(&groups)
}

fn leader_closed_first_frees_the_member() -> Outcome {
    let groups = edu_groups()?;
    let m = merged(&groups)?;
    drop((m.leader, m.leaders));
    // The member's device keeps it all.
    same(
        "status",
        m.member.status()?,
        VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET | VFIO_GROUP_FLAGS_MERGED,
    )?;
    errno("leave", m.member.leave(), Errno::EBUSY)?;
    drop(m.members);
    same("status then", m.member.status()?, VIABLE)?;
    errno("leave then", m.member.leave(), Errno::EINVAL)?;
    m.member.set_container(&m.container)?;
    Ok(())
}

fn killed() -> Outcome {
    let groups = edu_groups()?;
    for round in 0..if slowness() > 1 { 3 } else { 6 } {
        let ready = Latch::new()?;
        let mut victim = process::spawn(|| {
            let work = || -> Outcome {
                let m = merged(&groups)?;
                ready.open()?;
                Edu::new(&m.members)?.start_store(IOVA, 64)?;
                if round % 3 == 0 {
                    drop(m.member);
                    loop {
                        thread::sleep(Duration::from_secs(1));
                    }
                }
                drop(m.members);
                loop {
                    m.leader.split(&m.member)?;
                    m.leader.merge(&m.member)?;
                }
            };
            work().is_err().into()
        })?;
        ready.wait(PATIENCE * slowness())?;
        thread::sleep(Duration::from_millis(round * 3));
        victim.kill()?;
        check_free(&groups).with_context(|| format!("after round {round}"))?;
    }
    Ok(())
}

/// Starts `take`, which waits for `device` to be closed, in a process that holds none of `m`.
fn start_taking(m: &Merged, take: impl FnOnce() -> Outcome) -> Result<process::Child> {
    let fds = [
        m.container.as_raw_fd(),
        m.leader.as_raw_fd(),
        m.member.as_raw_fd(),
        m.leaders.as_raw_fd(),
        m.members.as_raw_fd(),
    ];
    process::spawn(|| {
        for fd in fds {
            // SAFETY: the child's copies, which it never uses.
            unsafe { libc::close(fd) };
        }
        take().is_err().into()
    })
}

/// Takes the devices of the second group away while it is merged and one is open.
fn taken(groups: &[EduGroup; 2], take: impl FnOnce() -> Outcome) -> Outcome {
    let m = merged(groups)?;
    let mut child = start_taking(&m, take)?;
    thread::sleep(GLANCE);
    ensure!(child.try_wait()?.is_none(), "it was taken while open");
    errno("leave", m.member.leave(), Errno::EBUSY)?;
    drop(m.members);
    child.ended_well("taking it")?;
    errno("status of the member", m.member.status(), Errno::ENODEV)?;
    errno("leave", m.member.leave(), Errno::ENODEV)?;
    errno("split", m.leader.split(&m.member), Errno::ENODEV)?;
    errno("merge", m.leader.merge(&m.member), Errno::ENODEV)?;
    errno(
        "its device",
        m.leader.device(groups[1].name()),
        Errno::ENODEV,
    )?;
    same("the leader's DMA", reaches(&m.leaders, IOVA, &m.buf)?, true)?;
    drop((m.leaders, m.leader, m.member, m.container, m.buf));
    Ok(())
}

fn member_is_unbound() -> Outcome {
    let groups: [EduGroup; 2] = edu_groups()?;
    let devices = &groups[1].devices;
    taken(&groups, || {
        Ok(devices.iter().try_for_each(|device| device.pci.unbind())?)
    })?;
    devices.iter().try_for_each(|d| d.pci.bind_vfio())?;
    check_free(&groups)
}

fn member_is_unplugged() -> Outcome {
    let [first]: [EduGroup; 1] = edu_groups()?;
    let mut plugged = Some(Plugged::new("edu", 1, EDU.id)?);
    let device = plugged.iter().flat_map(|p| &p.functions).next().cloned();
    let device = device.context("a function")?;
    // It shows up some time before drivers may have it.
    let end = Instant::now() + PATIENCE * slowness();
    while device.bind_vfio().is_err() && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
    device.bind_vfio()?;
    let bound = Bound::new(device)?;
    let second = EduGroup {
        number: bound.group,
        devices: vec![bound],
    };
    let groups = [first, second];
    taken(&groups, || {
        drop(plugged.take());
        Ok(())
    })?;
    // The process that took it out was another one.
    std::mem::forget(plugged.take());
    check_free(&groups[..1])
}

fn leader_is_unbound() -> Outcome {
    let groups = edu_groups()?;
    let m = merged(&groups)?;
    let leader = groups[0].devices[0].pci.clone();
    drop(m.leaders);
    leader.unbind()?;
    for (what, result) in [
        ("status", m.leader.status().map(drop)),
        ("merge", m.leader.merge(&m.member)),
        ("split", m.leader.split(&m.member)),
    ] {
        errno(&format!("{what} of the leader"), result, Errno::ENODEV)?;
    }
    // Its device goes on, in the same container.
    same("the member's DMA", reaches(&m.members, IOVA, &m.buf)?, true)?;
    m.leader.device(groups[1].name())?;
    errno("leave", m.member.leave(), Errno::EBUSY)?;
    drop(m.members);
    m.member.leave()?;
    same("the member", m.member.status()?, VIABLE)?;
    same("locked memory", counters::locked_kib()?, 0)?;
    leader.bind_vfio()?;
    drop((m.leader, m.member));
    check_free(&groups)
}

suite!(
    iommus: All, debug: Lifetimes;
    closed_in_each_order,
    member_works_without_other_descriptors,
    leader_closed_first_frees_the_member,
    killed,
    member_is_unbound,
    member_is_unplugged,
    leader_is_unbound,
);
