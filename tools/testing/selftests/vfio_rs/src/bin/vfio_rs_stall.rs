// SPDX-License-Identifier: GPL-2.0
//! A user whose own calls wait, for memory that does not come, keeps neither other users nor other devices waiting.

use std::fs;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use vfio_client::uapi::*;
use vfio_rs_selftests::absent::Absent;
use vfio_rs_selftests::merge::{EduGroup, edu_groups};
use vfio_rs_selftests::pamu::joined;
use vfio_rs_selftests::process::{self, Child, Latch};
use vfio_rs_selftests::setup::{Bound, E1000E, IGB, IOVA, PATIENCE, slowness};
use vfio_rs_selftests::{Outcome, Result, ensure, suite};

/// Waits until a task, a name in /proc, sleeps so that only what it waits for wakes it; not in passing.
fn wait_stuck(task: &str) -> Outcome {
    const LOOKS: u32 = 20;
    let end = Instant::now() + PATIENCE * slowness();
    let mut looks = 0;
    while looks < LOOKS {
        ensure!(Instant::now() < end, "{task} does not wait");
        let stat = fs::read_to_string(format!("/proc/{task}/stat"))?;
        looks = match stat.contains(") D ") {
            true => looks + 1,
            false => 0,
        };
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Makes `call` in a thread, which tells its number.
fn tell<T>(task: Sender<i32>, call: impl FnOnce() -> io::Result<T>) -> Outcome {
    // SAFETY: takes nothing.
    task.send(unsafe { libc::gettid() })?;
    call()?;
    Ok(())
}

/// Maps memory that does not come, which a group that joins the container waits for, which a merge waits for.
fn wait_for_oneself(
    [first, second]: &[Bound; 2],
    third: &EduGroup,
    ready: &Latch,
    end: &Latch,
) -> Outcome {
    let (container, _first) = first.attach(VFIO_TYPE1v2_IOMMU)?;
    let (second, third) = (second.open_group()?, third.open()?);
    let absent = Absent::new(1)?;
    let (task, tasks) = channel();
    let (join, merge) = (task.clone(), task);
    scope(|threads| {
        let map = threads.spawn(|| Ok(container.map_buf(&absent.buf, IOVA)?));
        absent.wait_wanted()?;
        let join = threads.spawn(|| tell(join, || second.set_container(&container)));
        wait_stuck(&format!("self/task/{}", tasks.recv()?))?;
        let merge = threads.spawn(|| tell(merge, || second.merge(&third)));
        wait_stuck(&format!("self/task/{}", tasks.recv()?))?;
        ready.open()?;
        let ended = end.wait(6 * PATIENCE * slowness());
        absent.let_come()?;
        joined(map)?;
        joined(join)?;
        // Refused if the group lost its device first.
        let _ = joined(merge);
        ended
    })
}

fn start(body: impl FnOnce() -> Outcome) -> Result<Child> {
    process::spawn(|| match body() {
        Ok(()) => 0,
        Err(e) => {
            println!("# {e:#}");
            1
        }
    })
}

fn others_go_on() -> Outcome {
    let groups: [EduGroup; 3] = edu_groups()?;
    let own = [E1000E.bind()?, IGB.bind()?];
    let (ready, end) = (Latch::new()?, Latch::new()?);
    let mut user = start(|| wait_for_oneself(&own, &groups[2], &ready, &end))?;
    ready.wait(PATIENCE * slowness())?;

    let mut other = start(|| {
        let (leader, member) = (groups[0].open()?, groups[1].open()?);
        leader.merge(&member)?;
        Ok(leader.split(&member)?)
    })?;
    other.ended_well("a merge of other groups")?;

    // Waits for the user, who has the group.
    let mut unbind = start(|| Ok(own[1].pci.unbind()?))?;
    wait_stuck(&unbind.pid.to_string())?;
    let mut other = start(|| {
        groups[0].devices[0].pci.unbind()?;
        Ok(groups[0].devices[0].pci.bind_vfio()?)
    })?;
    other.ended_well("another device that is bound")?;

    end.open()?;
    user.ended_well("the user")?;
    unbind.ended_well("his device's unbinding")?;
    Ok(own[1].pci.bind_vfio()?)
}

suite!(others_go_on);
