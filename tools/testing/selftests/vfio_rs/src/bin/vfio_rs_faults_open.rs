// SPDX-License-Identifier: GPL-2.0
//! Each allocation of a call that opens, or joins a container, failing once, one after another: the same call then
//! succeeds. Debug kernel only.

use nix::errno::Errno;
use vfio_client::uapi::*;
use vfio_client::{Container, Group};
use vfio_rs_selftests::faults::Faults;
use vfio_rs_selftests::setup::EDU;
use vfio_rs_selftests::{Context, Outcome, same, suite};

/// No memory, or a copy from or to the user that failed.
const USUAL: &[Errno] = &[Errno::ENOMEM, Errno::EFAULT];

fn open_container() -> Outcome {
    Faults::new()?.sweep(
        "open of the container",
        USUAL,
        |_| Ok(()),
        |()| Container::open(),
        |(), done| {
            drop(done);
            let container = Container::open().context("once more")?;
            same("version", container.api_version()?, 0)
        },
    )
}

/// It can be open once: a failed open must not count.
fn open_group() -> Outcome {
    let faults = Faults::new()?;
    let bound = EDU.bind()?;
    faults.sweep(
        "open of a group",
        USUAL,
        |_| Ok(()),
        |()| Group::open(bound.group),
        |(), done| {
            drop(done);
            let group = bound.open_group().context("once more")?;
            same("flags", group.status()?, VFIO_GROUP_FLAGS_VIABLE)
        },
    )
}

fn set_container() -> Outcome {
    let faults = Faults::new()?;
    let bound = EDU.bind()?;
    let container = Container::open()?;
    faults.sweep(
        "SET_CONTAINER",
        USUAL,
        |_| bound.open_group(),
        |group| group.set_container(&container),
        |group, done| {
            if done.is_none() {
                group.set_container(&container).context("once more")?;
            }
            Ok(group.unset_container()?)
        },
    )
}

suite!(open_container, open_group, set_container);
