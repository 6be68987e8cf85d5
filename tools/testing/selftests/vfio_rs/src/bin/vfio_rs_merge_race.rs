// SPDX-License-Identifier: GPL-2.0
//! Groups that join and leave each other, by several threads and processes at once. No call fails
//! but for the role of a group, and in the end all are whole and free.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::errno::Errno;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Group};
use vfio_rs_selftests::merge::{EduGroup, edu_groups};
use vfio_rs_selftests::process::spawn;
use vfio_rs_selftests::race::{is_expected, race};
use vfio_rs_selftests::setup::{IOVA, number};
use vfio_rs_selftests::{Outcome, Result, ensure, suite};

const GROUPS: usize = 3;
/// How long they run against each other.
const RUN: Duration = Duration::from_millis(800);
/// What the role of a group makes calls fail with.
const ALLOWED: [Errno; 3] = [Errno::EBUSY, Errno::EINVAL, Errno::ENODEV];

/// All groups are whole and free.
fn check_free(groups: &[EduGroup]) -> Outcome {
    for group in groups {
        let (_container, open) = group.devices[0].attach(VFIO_TYPE1v2_IOMMU)?;
        open.device(group.name())?;
    }
    Ok(())
}

fn threads() -> Outcome {
    let groups: [EduGroup; GROUPS] = edu_groups()?;
    let container = Container::open()?;
    let open: Vec<_> = groups.iter().map(EduGroup::open).collect::<Result<_>>()?;
    let seeds = AtomicU64::new(number("VFIO_RS_SEED", 7)?);
    let call = || -> io::Result<()> {
        let mut rng = Rng::with_seed(seeds.fetch_add(1, Ordering::Relaxed));
        let (a, b) = (&open[rng.usize(..GROUPS)], &open[rng.usize(..GROUPS)]);
        match rng.u8(..8) {
            0 | 1 => a.merge(b),
            2 => a.split(b),
            3 => a.leave(),
            4 => a.set_container(&container),
            5 => a.unset_container(),
            6 => {
                let _ = container.set_iommu(VFIO_TYPE1v2_IOMMU);
                a.device(groups[rng.usize(..GROUPS)].name()).map(drop)
            }
            // Closing a copy is not the end of the file.
            _ => {
                let copy = a.as_fd().try_clone_to_owned()?;
                b.status()?;
                drop(copy);
                Ok(())
            }
        }
    };
    let body = || is_expected(call(), &ALLOWED);
    ensure!(race(RUN, &[&body, &body, &body]), "a call failed strangely");
    drop(open);
    check_free(&groups)
}

/// Groups join and leave one whose container is being filled and emptied, and is closed at last.
fn merging_while_mapping() -> Outcome {
    let groups: [EduGroup; GROUPS] = edu_groups()?;
    let (container, leader) = groups[0].devices[0].attach(VFIO_TYPE1v2_IOMMU)?;
    let (one, two) = (groups[1].open()?, groups[2].open()?);
    let bufs = [DmaBuf::new(2 << 12)?, DmaBuf::new(64 << 12)?];
    let map = |at: usize| {
        let (iova, size) = (IOVA + ((at as u64) << 24), bufs[at].len() as u64);
        container.map_buf(&bufs[at], iova).is_ok() && container.unmap(iova, size).ok() == Some(size)
    };
    let merge = |group: &Group| leader.merge(group).is_ok() && leader.split(group).is_ok();
    ensure!(
        race(
            RUN,
            &[&|| map(0), &|| map(1), &|| merge(&one), &|| merge(&two)]
        ),
        "a call failed"
    );
    leader.merge(&one)?;
    drop((container, leader, one, two));
    check_free(&groups)
}

/// Calls of all kinds until `end`; false if one failed as it never should.
fn stir(seed: u64, end: Instant, held: &mut [Option<Group>; GROUPS], again: bool) -> Result<bool> {
    let groups: [EduGroup; GROUPS] = edu_groups()?;
    let containers = [Container::open()?, Container::open()?];
    let mut rng = Rng::with_seed(seed);
    let mut devices = Vec::new();
    while Instant::now() < end {
        let (a, b, c) = (rng.usize(..GROUPS), rng.usize(..GROUPS), rng.usize(..2));
        let result = match (&held[a], &held[b]) {
            (None, _) => Group::open(groups[a].number).map(|group| held[a] = Some(group)),
            (Some(a), Some(b)) if rng.bool() => match rng.u8(..3) {
                0 => a.split(b),
                _ => a.merge(b),
            },
            (Some(group), _) => match rng.u8(..8) {
                0 | 1 => group.set_container(&containers[c]),
                2 => group.unset_container(),
                3 => containers[c].set_iommu(VFIO_TYPE1v2_IOMMU),
                4 => group.leave(),
                5 => {
                    let device = group.device(groups[b].name());
                    device.map(|device| devices.push(device))
                }
                6 => {
                    devices.clear();
                    Ok(())
                }
                _ => {
                    if again {
                        held[a] = None;
                    }
                    Ok(())
                }
            },
        };
        if !is_expected(result, &ALLOWED) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Two processes, with descriptors of the same files or each with its own.
fn two_processes(shared: bool) -> Outcome {
    let groups: [EduGroup; GROUPS] = edu_groups()?;
    let open = |group: &EduGroup| shared.then(|| group.open()).transpose();
    let mut held = [open(&groups[0])?, open(&groups[1])?, open(&groups[2])?];
    let seed = number("VFIO_RS_SEED", 7)?;
    let end = Instant::now() + RUN;
    let mut children = Vec::new();
    for child in 0..2 {
        children.push(spawn(|| {
            let good = stir(seed + child, end, &mut held, !shared);
            i32::from(!good.unwrap_or(false))
        })?);
    }
    for mut child in children {
        child.ended_well("a process")?;
    }
    drop(held);
    check_free(&groups)
}

fn two_processes_with_the_same_files() -> Outcome {
    two_processes(true)
}

fn two_processes_with_their_own_files() -> Outcome {
    two_processes(false)
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    threads,
    merging_while_mapping,
    two_processes_with_the_same_files,
    two_processes_with_their_own_files,
);
