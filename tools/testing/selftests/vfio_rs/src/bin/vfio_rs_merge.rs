// SPDX-License-Identifier: GPL-2.0
//! Groups that join another one: what they share, what they may do then, and what cannot be joined.

use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use vfio_client::sys;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Edu, Event};
use vfio_rs_selftests::merge::{EduGroup, edu_groups, pair, reaches};
use vfio_rs_selftests::reset::hot_reset;
use vfio_rs_selftests::setup::{E1000E, IGB, IOVA, NVME, PAGE};
use vfio_rs_selftests::{Outcome, Result, ensure, errno, same, skip, suite};

const VIABLE: u32 = VFIO_GROUP_FLAGS_VIABLE;
const SET: u32 = VFIO_GROUP_FLAGS_CONTAINER_SET;
const MERGED: u32 = VFIO_GROUP_FLAGS_MERGED;

fn page() -> Result<DmaBuf> {
    Ok(DmaBuf::new(PAGE as usize)?)
}

fn mappings_before_and_after() -> Outcome {
    let p = pair()?;
    let (before, after) = (page()?, page()?);
    p.container.map_buf(&before, IOVA)?;
    p.leader.merge(&p.other)?;
    p.container.map_buf(&after, IOVA + PAGE)?;
    let device = p.leader.device(p.groups[1].name())?;
    same("mapped before", reaches(&device, IOVA, &before)?, true)?;
    same("mapped after", reaches(&device, IOVA + PAGE, &after)?, true)
}

fn devices_are_opened_through_the_leader() -> Outcome {
    let p = pair()?;
    let names: Vec<_> = p.groups.iter().flat_map(|g| &g.devices).collect();
    let name = |at: usize| names[at].pci.address.as_str();
    errno("too early", p.leader.device(name(1)), Errno::ENODEV)?;
    p.leader.merge(&p.other)?;
    let mut all = Vec::new();
    for at in 0..names.len() {
        all.push(p.leader.device(name(at))?);
        errno("of a member", p.other.device(name(at)), Errno::EBUSY)?;
    }
    for device in &all {
        same("liveness", Edu::new(device)?.liveness(5)?, !5)?;
    }
    let unknown = "0000:ff:1f.7";
    errno("unknown", p.leader.device(unknown), Errno::ENODEV)?;
    errno(
        "unknown, of a member",
        p.other.device(unknown),
        Errno::EBUSY,
    )?;
    errno(
        "an option",
        p.leader.device(&format!("{} x", name(1))),
        Errno::EINVAL,
    )
}

fn split_cuts_off() -> Outcome {
    let p = pair()?;
    let [theirs, own] = [page()?, page()?];
    p.container.map_buf(&theirs, IOVA)?;
    p.leader.merge(&p.other)?;
    drop(p.leader.device(p.groups[1].name())?);
    p.leader.split(&p.other)?;
    errno("again", p.leader.split(&p.other), Errno::EINVAL)?;
    let leaders = p.leader.device(p.groups[0].name())?;
    errno(
        "the other's",
        p.leader.device(p.groups[1].name()),
        Errno::ENODEV,
    )?;
    let container = Container::open()?;
    p.other.set_container(&container)?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    let device = p.other.device(p.groups[1].name())?;
    same(
        "the leader's memory",
        reaches(&device, IOVA, &theirs)?,
        false,
    )?;
    container.map_buf(&own, IOVA)?;
    same("its own", reaches(&device, IOVA, &own)?, true)?;
    same(
        "the leader goes on",
        reaches(&leaders, IOVA, &theirs)?,
        true,
    )
}

fn merged_before_the_container() -> Outcome {
    let groups: [EduGroup; 2] = edu_groups()?;
    let (leader, other) = (groups[0].open()?, groups[1].open()?);
    leader.merge(&other)?;
    errno(
        "without a container",
        leader.device(groups[1].name()),
        Errno::EINVAL,
    )?;
    errno("leave none", leader.unset_container(), Errno::EINVAL)?;
    let container = Container::open()?;
    leader.set_container(&container)?;
    errno(
        "without a backend",
        leader.device(groups[1].name()),
        Errno::EINVAL,
    )?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    let buf = page()?;
    container.map_buf(&buf, IOVA)?;
    let device = leader.device(groups[1].name())?;
    same("DMA", reaches(&device, IOVA, &buf)?, true)
}

fn merged_and_split_under_dma() -> Outcome {
    let p = pair()?;
    let buf = page()?;
    p.container.map_buf(&buf, IOVA)?;
    let device = p.leader.device(p.groups[0].name())?;
    let edu = Edu::new(&device)?;
    for round in 0..4 {
        buf.fill(0x5b);
        edu.start_store(IOVA, 64)?;
        for _ in 0..25 {
            p.leader.merge(&p.other)?;
            if round % 2 == 0 {
                p.leader.split(&p.other)?;
            } else {
                p.other.leave()?;
            }
        }
        edu.wait_dma()?;
        ensure!(buf.get(0) != 0x5b, "a copy did not arrive");
    }
    Ok(())
}

fn leader_leaves_the_container() -> Outcome {
    let p = pair()?;
    p.leader.merge(&p.other)?;
    let device = p.leader.device(p.groups[1].name())?;
    errno(
        "member's device open",
        p.leader.unset_container(),
        Errno::EBUSY,
    )?;
    drop(device);
    p.leader.unset_container()?;
    same("leader", p.leader.status()?, VIABLE)?;
    same("member", p.other.status()?, VIABLE | MERGED)?;
    p.other.leave()?;
    // Nobody owns its DMA.
    same("alone", p.other.status()?, VIABLE)?;
    p.leader.merge(&p.other)?;
    p.leader.set_container(&p.container)?;
    p.container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    p.leader.device(p.groups[1].name())?;
    Ok(())
}

fn status() -> Outcome {
    let groups: [EduGroup; 2] = edu_groups()?;
    let (leader, other) = (groups[0].open()?, groups[1].open()?);
    let both = |what: &str, leaders, others| -> Outcome {
        same(&format!("leader {what}"), leader.status()?, leaders)?;
        same(&format!("other {what}"), other.status()?, others)
    };
    both("at first", VIABLE, VIABLE)?;
    leader.merge(&other)?;
    both("merged", VIABLE, VIABLE | MERGED)?;
    let container = Container::open()?;
    leader.set_container(&container)?;
    both("in a container", VIABLE | SET, VIABLE | SET | MERGED)?;
    // It is its user's, by the leader, and nobody else's.
    same("reason", other.viability()?.reason, 0)?;
    leader.split(&other)?;
    both("split", VIABLE | SET, VIABLE)?;
    leader.merge(&other)?;
    leader.unset_container()?;
    both("out of it", VIABLE, VIABLE | MERGED)?;
    other.leave()?;
    both("at last", VIABLE, VIABLE)
}

fn roles() -> Outcome {
    let groups: [EduGroup; 3] = edu_groups()?;
    let (container, a) = groups[0].devices[0].attach(VFIO_TYPE1v2_IOMMU)?;
    let (b, c) = (groups[1].open()?, groups[2].open()?);
    errno("with itself", a.merge(&a), Errno::EINVAL)?;
    errno("no member", a.split(&b), Errno::EINVAL)?;
    errno("itself", a.split(&a), Errno::EINVAL)?;
    errno("joined none", a.leave(), Errno::EINVAL)?;
    errno("free", b.leave(), Errno::EINVAL)?;
    a.merge(&b)?;
    errno("twice", a.merge(&b), Errno::EBUSY)?;
    errno("the other way round", b.merge(&a), Errno::EBUSY)?;
    errno("a chain", b.merge(&c), Errno::EBUSY)?;
    errno("a member of another", c.merge(&b), Errno::EBUSY)?;
    errno("a leader", c.merge(&a), Errno::EBUSY)?;
    errno("SET of a member", b.set_container(&container), Errno::EBUSY)?;
    errno("UNSET of a member", b.unset_container(), Errno::EBUSY)?;
    errno(
        "SET of the leader",
        a.set_container(&container),
        Errno::EINVAL,
    )?;
    errno("a leader leaves", a.leave(), Errno::EINVAL)?;
    errno("a member splits its leader", b.split(&a), Errno::EINVAL)?;
    errno("a stranger splits", c.split(&b), Errno::EINVAL)?;
    a.merge(&c)?;
    a.split(&b)?;
    errno("two members", c.merge(&b), Errno::EBUSY)?;
    b.set_container(&container)?;
    errno("one in a container", a.merge(&b), Errno::EBUSY)?;
    b.merge_ioctl(GROUP_SPLIT, 0, c.as_raw_fd()).map_or_else(
        |e| same("errno", e.raw_os_error(), Some(libc::EINVAL)),
        |()| same("split of another's", true, false),
    )?;
    b.unset_container()?;
    Ok(())
}

fn open_devices_keep_it() -> Outcome {
    let p = pair()?;
    let container = Container::open()?;
    p.other.set_container(&container)?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    let device = p.other.device(p.groups[1].name())?;
    errno(
        "merge with a device open",
        p.leader.merge(&p.other),
        Errno::EBUSY,
    )?;
    drop(device);
    p.other.unset_container()?;
    let leaders = p.leader.device(p.groups[0].name())?;
    p.leader.merge(&p.other)?;
    let (one, two) = (
        p.leader.device(p.groups[1].name())?,
        p.leader.device(&p.groups[1].devices[1].pci.address)?,
    );
    drop(one);
    errno(
        "split with a device open",
        p.leader.split(&p.other),
        Errno::EBUSY,
    )?;
    errno("leave with a device open", p.other.leave(), Errno::EBUSY)?;
    drop(two);
    // One of the leader does not matter.
    p.other.leave()?;
    drop(leaders);
    Ok(())
}

fn wrong_arguments() -> Outcome {
    let p = pair()?;
    let null = std::fs::File::open("/dev/null")?;
    let event = Event::new()?;
    let device = p.leader.device(p.groups[0].name())?;
    for nr in [GROUP_MERGE, GROUP_SPLIT] {
        let call = |flags, fd: RawFd| p.leader.merge_ioctl(nr, flags, fd);
        errno("NULL", sys::with_value(&p.leader, nr, 0), Errno::EFAULT)?;
        let fds = [
            (null.as_raw_fd(), Errno::EBADFD),
            (event.as_raw_fd(), Errno::EBADFD),
            (p.container.as_raw_fd(), Errno::EBADFD),
            (device.as_raw_fd(), Errno::EBADFD),
            (999, Errno::EBADF),
            (-2, Errno::EBADF),
            (i32::MIN, Errno::EBADF),
        ];
        for (fd, error) in fds {
            errno(&format!("descriptor {fd}"), call(0, fd), error)?;
        }
        let nobody = if nr == GROUP_MERGE {
            Errno::EBADF
        } else {
            Errno::EINVAL
        };
        errno("-1", call(0, -1), nobody)?;
        let good = p.other.as_raw_fd();
        for bit in 0..32 {
            if nr == GROUP_MERGE && 1 << bit == VFIO_GROUP_MERGE_SAME_DOMAIN {
                continue;
            }
            errno("an unknown flag", call(1 << bit, good), Errno::EINVAL)?;
        }
        for (argsz, reserved) in [(0, 0), (15, 0), (16, 1)] {
            let mut merge = vfio_group_merge {
                argsz,
                flags: 0,
                group_fd: good,
                __reserved: reserved,
            };
            let result = sys::with_struct(&p.leader, nr, &mut merge);
            errno("a malformed struct", result, Errno::EINVAL)?;
        }
    }
    same("status", p.other.status()?, VIABLE)?;
    p.leader.merge_ioctl(
        GROUP_MERGE,
        VFIO_GROUP_MERGE_SAME_DOMAIN,
        p.other.as_raw_fd(),
    )?;
    p.leader.device(p.groups[1].name())?;
    Ok(())
}

fn not_viable() -> Outcome {
    E1000E.load_host_driver()?;
    let p = pair()?;
    let neighbour = p.groups[1].devices[0]
        .pci
        .group_members()
        .into_iter()
        .find(|d| d.id() == Some(E1000E.id));
    let Some(neighbour) = neighbour else {
        skip!("no group of an edu and a device with a host driver");
    };
    neighbour.probe()?;
    let buf = page()?;
    p.container.map_buf(&buf, IOVA)?;
    let device = p.leader.device(p.groups[0].name())?;
    errno("merge", p.leader.merge(&p.other), Errno::EPERM)?;
    same("the other", p.other.status()?, 0)?;
    same("the leader's DMA", reaches(&device, IOVA, &buf)?, true)?;
    drop(device);
    // All or nothing.
    p.leader.unset_container()?;
    p.leader.merge(&p.other)?;
    errno(
        "SET_CONTAINER of both",
        p.leader.set_container(&p.container),
        Errno::EPERM,
    )?;
    same("the leader", p.leader.status()?, VIABLE)?;
    errno(
        "SET_IOMMU",
        p.container.set_iommu(VFIO_TYPE1v2_IOMMU),
        Errno::EINVAL,
    )?;
    neighbour.release()?;
    p.leader.set_container(&p.container)?;
    // It is denied while it is in use through another group, too.
    let _ = neighbour.probe();
    same("driver while in use", neighbour.driver(), None)
}

fn nothing_is_counted_twice() -> Outcome {
    let p = pair()?;
    let buf = DmaBuf::new(64 * PAGE as usize)?;
    nix::unistd::seteuid(nix::unistd::Uid::from_raw(65534))?;
    setrlimit(Resource::RLIMIT_MEMLOCK, 64 * PAGE, 64 * PAGE)?;
    p.container.map_buf(&buf, IOVA)?;
    p.leader.merge(&p.other)?;
    let device = p.leader.device(p.groups[1].name())?;
    let more = page()?;
    errno(
        "one more page",
        p.container.map_buf(&more, 1 << 24),
        Errno::ENOMEM,
    )?;
    buf.fill(0x5b);
    Edu::new(&device)?.store(IOVA + 63 * PAGE, 64)?;
    ensure!(buf.get(63 << 12) != 0x5b, "the last page is not reached");
    same("unmapped", p.container.unmap_all()?, 64 * PAGE)
}

fn hot_reset_by_the_leader() -> Outcome {
    let p = pair()?;
    let bound = match NVME.bind() {
        Ok(bound) => bound,
        Err(_) => IGB.bind()?,
    };
    let group = bound.open_group()?;
    p.leader.merge(&group)?;
    let device = p.leader.device(&bound.pci.address)?;
    if hot_reset(&device, &[&p.leader]).is_err_and(|e| e.raw_os_error() == Some(libc::ENODEV)) {
        skip!("no device that a bridge resets");
    }
    hot_reset(&device, &[&p.leader])?;
    hot_reset(&device, &[&group])?;
    errno("a stranger", hot_reset(&device, &[&p.other]), Errno::EINVAL)?;
    drop(device);
    let device = p.leader.device(p.groups[0].name())?;
    drop(device);
    p.leader.split(&group)?;
    Ok(())
}

suite!(
    iommus: All, debug: Answers;
    mappings_before_and_after,
    devices_are_opened_through_the_leader,
    split_cuts_off,
    merged_before_the_container,
    merged_and_split_under_dma,
    leader_leaves_the_container,
    status,
    roles,
    open_devices_keep_it,
    wrong_arguments,
    not_viable,
    nothing_is_counted_twice,
    hot_reset_by_the_leader,
);
