// SPDX-License-Identifier: GPL-2.0
//! Groups that join another one while memory fails: a call that fails has changed nothing, and one
//! that copes has done all.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use vfio_client::DmaBuf;
use vfio_client::uapi::*;
use vfio_rs_selftests::faults::Faults;
use vfio_rs_selftests::merge::{EduGroup, Pair, edu_groups, pair};
use vfio_rs_selftests::setup::{IOVA, PAGE};
use vfio_rs_selftests::{Outcome, Result, errno, same, suite, translation};

const VIABLE: u32 = VFIO_GROUP_FLAGS_VIABLE;
/// How far the mapped pages are apart: each has page tables of its own.
const STEP: u64 = 2 << 20;
const PAGES: u64 = 4;
const ERRORS: [Errno; 3] = [Errno::ENOMEM, Errno::EFAULT, Errno::EXDEV];

/// A pair of groups, and pages that are mapped.
fn set_up() -> Result<(Pair, Vec<DmaBuf>)> {
    let p = pair()?;
    let mut bufs = Vec::new();
    for at in 0..PAGES {
        let buf = DmaBuf::new(PAGE as usize)?;
        p.container.map_buf(&buf, IOVA + at * STEP)?;
        bufs.push(buf);
    }
    Ok((p, bufs))
}

/// All devices of a group reach all pages.
fn check_all_there(group: &EduGroup) -> Outcome {
    for device in &group.devices {
        if translation::is_shown(&device.pci) {
            let bytes = translation::reachable(&device.pci, IOVA, PAGES * STEP)?;
            same(&device.pci.address, bytes, PAGES * PAGE)?;
        }
    }
    Ok(())
}

fn merging(flags: u32) -> Outcome {
    let faults = Faults::new()?;
    let (p, _bufs) = set_up()?;
    let errors = if flags == 0 { &ERRORS[..2] } else { &ERRORS };
    let mut merges = 0;
    faults.sweep(
        "MERGE",
        errors,
        |_| Ok(()),
        |()| {
            p.leader
                .merge_ioctl(GROUP_MERGE, flags, p.other.as_raw_fd())
        },
        |(), merged| {
            check_all_there(&p.groups[0])?;
            if merged.is_none() {
                same("status", p.other.status()?, VIABLE)?;
                return errno("split", p.leader.split(&p.other), Errno::EINVAL);
            }
            check_all_there(&p.groups[1])?;
            // This takes long.
            merges += 1;
            if merges % 16 == 1 {
                p.leader.device(p.groups[1].name())?;
            }
            Ok(p.leader.split(&p.other)?)
        },
    )?;
    p.other.set_container(&p.container)?;
    check_all_there(&p.groups[1])
}

fn merge() -> Outcome {
    merging(0)
}

fn merge_into_the_same_domain() -> Outcome {
    merging(VFIO_GROUP_MERGE_SAME_DOMAIN)
}

/// The kernel cannot give a group back without memory, and warns: that is not tried.
fn split() -> Outcome {
    let faults = Faults::besides("iommu_group_release_dma_owner")?;
    let (p, _bufs) = set_up()?;
    faults.sweep(
        "SPLIT",
        &ERRORS[1..2],
        |_| Ok(p.leader.merge(&p.other)?),
        |()| p.leader.split(&p.other),
        |(), done| {
            if done.is_none() {
                check_all_there(&p.groups[1])?;
                p.other.leave()?;
            }
            same("status", p.other.status()?, VIABLE)?;
            check_all_there(&p.groups[0])
        },
    )
}

fn container_of_both() -> Outcome {
    let faults = Faults::new()?;
    let (p, _bufs) = set_up()?;
    // A third one keeps the pages.
    let keeper = edu_groups::<3>()?[2].open()?;
    keeper.set_container(&p.container)?;
    p.leader.unset_container()?;
    p.leader.merge(&p.other)?;
    faults.sweep(
        "SET_CONTAINER",
        &ERRORS[..2],
        |_| Ok(()),
        |()| p.leader.set_container(&p.container),
        |(), done| {
            if done.is_none() {
                same("leader", p.leader.status()?, VIABLE)?;
                return errno("UNSET", p.leader.unset_container(), Errno::EINVAL);
            }
            check_all_there(&p.groups[0])?;
            check_all_there(&p.groups[1])?;
            Ok(p.leader.unset_container()?)
        },
    )
}

suite!(iommus: All, debug: Answers; merge, merge_into_the_same_domain, split, container_of_both);
