// SPDX-License-Identifier: GPL-2.0
//! Groups that join and leave each other, at random, against a model: after each step the answer is
//! what the model says, and so is the status of each group; now and then, what the IOMMU translates
//! for each device.
//!
//! `VFIO_RS_SEED` and `VFIO_RS_STEPS` ask for other and longer runs.

use std::collections::BTreeSet;
use std::io;

use fastrand::Rng;
use vfio_client::uapi::*;
use vfio_client::{Container, Device, DmaBuf, Group};
use vfio_rs_selftests::merge::{EduGroup, edu_groups};
use vfio_rs_selftests::setup::{IOVA, PAGE, number, slowness};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, same, suite, translation};

const GROUPS: usize = 3;
const CONTAINERS: usize = 2;
/// How often the IOMMU is looked at.
const LOOK: u64 = 16;

/// An errno, or what the call returned.
type Answer = std::result::Result<u64, i32>;

#[derive(Debug, Clone, Copy, Default)]
struct GroupModel {
    /// Its file exists: by a descriptor, a device, or a leader.
    exists: bool,
    /// There is a descriptor.
    held: bool,
    container: Option<usize>,
    leader: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct ContainerModel {
    backend: bool,
    mapped: bool,
}

/// A device that is open: of which group, and through which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DeviceModel {
    of: usize,
    through: usize,
}

#[derive(Debug, Default)]
struct Model {
    groups: [GroupModel; GROUPS],
    containers: [ContainerModel; CONTAINERS],
    devices: Vec<DeviceModel>,
}

const OK: Answer = Ok(0);
const BUSY: Answer = Err(libc::EBUSY);
const INVALID: Answer = Err(libc::EINVAL);

impl Model {
    fn members(&self, of: usize) -> Vec<usize> {
        (0..GROUPS)
            .filter(|g| self.groups[*g].leader == Some(of))
            .collect()
    }

    /// The container that a group's devices are in.
    fn container(&self, group: usize) -> Option<usize> {
        let at = self.groups[group].leader.unwrap_or(group);
        self.groups[at].container
    }

    fn open_of(&self, group: usize) -> bool {
        self.devices.iter().any(|d| d.of == group)
    }

    fn open(&mut self, group: usize) -> Answer {
        if self.groups[group].exists {
            return BUSY;
        }
        self.groups[group] = GroupModel {
            exists: true,
            held: true,
            ..Default::default()
        };
        OK
    }

    /// A descriptor or a device went: files that nobody holds go.
    fn collect(&mut self) {
        loop {
            let is_dead = |g: &usize| {
                let group = &self.groups[*g];
                let used = self.devices.iter().any(|d| d.through == *g);
                group.exists && !group.held && group.leader.is_none() && !used
            };
            let Some(dead) = (0..GROUPS).find(is_dead) else {
                return;
            };
            self.groups[dead] = GroupModel::default();
            for member in self.members(dead) {
                self.groups[member].leader = None;
            }
            self.empty_containers();
        }
    }

    /// A container that nobody is in forgets everything.
    fn empty_containers(&mut self) {
        for (at, container) in self.containers.iter_mut().enumerate() {
            if !self.groups.iter().any(|g| g.container == Some(at)) {
                *container = ContainerModel::default();
            }
        }
    }

    fn set_container(&mut self, group: usize, container: usize) -> Answer {
        let g = &mut self.groups[group];
        match (g.leader, g.container) {
            (Some(_), _) => BUSY,
            (None, Some(_)) => INVALID,
            (None, None) => {
                g.container = Some(container);
                OK
            }
        }
    }

    fn unset_container(&mut self, group: usize) -> Answer {
        let g = self.groups[group];
        if g.leader.is_some() {
            return BUSY;
        }
        if g.container.is_none() {
            return INVALID;
        }
        if self.devices.iter().any(|d| d.through == group) {
            return BUSY;
        }
        self.groups[group].container = None;
        self.empty_containers();
        OK
    }

    fn set_iommu(&mut self, container: usize) -> Answer {
        let empty = !self.groups.iter().any(|g| g.container == Some(container));
        if empty || self.containers[container].backend {
            return INVALID;
        }
        self.containers[container].backend = true;
        OK
    }

    fn get_device(&mut self, through: usize, of: usize) -> Answer {
        let g = self.groups[through];
        if g.leader.is_some() {
            return BUSY;
        }
        if of != through && self.groups[of].leader != Some(through) {
            return Err(libc::ENODEV);
        }
        match g.container {
            Some(container) if self.containers[container].backend => {
                self.devices.push(DeviceModel { of, through });
                OK
            }
            _ => INVALID,
        }
    }

    fn merge(&mut self, a: usize, b: usize) -> Answer {
        if a == b {
            return INVALID;
        }
        let joins = self.groups[b];
        if self.groups[a].leader.is_some()
            || joins.leader.is_some()
            || joins.container.is_some()
            || !self.members(b).is_empty()
        {
            return BUSY;
        }
        self.groups[b].leader = Some(a);
        OK
    }

    fn split(&mut self, a: usize, b: usize) -> Answer {
        if self.groups[b].leader != Some(a) {
            return INVALID;
        }
        self.leave(b)
    }

    fn leave(&mut self, b: usize) -> Answer {
        if self.groups[b].leader.is_none() {
            return INVALID;
        }
        if self.open_of(b) {
            return BUSY;
        }
        self.groups[b].leader = None;
        OK
    }

    fn map(&mut self, container: usize) -> Answer {
        let c = &mut self.containers[container];
        if !c.backend {
            return INVALID;
        }
        if c.mapped {
            return Err(libc::EEXIST);
        }
        c.mapped = true;
        OK
    }

    fn unmap(&mut self, container: usize) -> Answer {
        let c = &mut self.containers[container];
        if !c.backend {
            return INVALID;
        }
        Ok(if std::mem::take(&mut c.mapped) {
            PAGE
        } else {
            0
        })
    }

    fn status(&self, group: usize) -> u32 {
        let mut flags = VFIO_GROUP_FLAGS_VIABLE;
        if self.container(group).is_some() {
            flags |= VFIO_GROUP_FLAGS_CONTAINER_SET;
        }
        if self.groups[group].leader.is_some() {
            flags |= VFIO_GROUP_FLAGS_MERGED;
        }
        flags
    }

    /// Whether the group's devices reach the page.
    fn reaches(&self, group: usize) -> bool {
        self.container(group)
            .is_some_and(|container| self.containers[container].mapped)
    }
}

/// The real thing.
struct Run {
    groups: [EduGroup; GROUPS],
    held: [Option<Group>; GROUPS],
    containers: [Container; CONTAINERS],
    bufs: [DmaBuf; CONTAINERS],
    devices: Vec<Device>,
    model: Model,
    rng: Rng,
}

fn answer<T>(result: io::Result<T>, value: impl FnOnce(T) -> u64) -> Answer {
    match result {
        Ok(got) => Ok(value(got)),
        Err(e) => Err(e.raw_os_error().unwrap_or(-1)),
    }
}

impl Run {
    fn new(seed: u64) -> Result<Self> {
        Ok(Self {
            groups: edu_groups()?,
            held: [None, None, None],
            containers: [Container::open()?, Container::open()?],
            bufs: [DmaBuf::new(PAGE as usize)?, DmaBuf::new(PAGE as usize)?],
            devices: Vec::new(),
            model: Model::default(),
            rng: Rng::with_seed(seed),
        })
    }

    /// Takes a step; returns what it was, what the kernel said and what the model says.
    fn step(&mut self) -> (String, Answer, Answer) {
        let (a, b) = (self.rng.usize(..GROUPS), self.rng.usize(..GROUPS));
        let c = self.rng.usize(..CONTAINERS);
        let nothing = |()| 0;
        let Some(group) = &self.held[a] else {
            // Devices keep groups without descriptors open.
            if self.rng.bool() {
                return self.close_device();
            }
            let opened = Group::open(self.groups[a].number);
            let got = answer(opened, |group| {
                self.held[a] = Some(group);
                0
            });
            return (format!("open {a}"), got, self.model.open(a));
        };
        match self.rng.u8(..24) {
            0..=4 => match &self.held[b] {
                Some(other) => {
                    let got = answer(group.merge(other), nothing);
                    (format!("merge {a} {b}"), got, self.model.merge(a, b))
                }
                None => (String::from("nothing"), OK, OK),
            },
            5 | 6 => match &self.held[b] {
                Some(other) => {
                    let got = answer(group.split(other), nothing);
                    (format!("split {a} {b}"), got, self.model.split(a, b))
                }
                None => (String::from("nothing"), OK, OK),
            },
            7 => {
                let got = answer(group.leave(), nothing);
                (format!("leave {a}"), got, self.model.leave(a))
            }
            8..=10 => {
                let got = answer(group.set_container(&self.containers[c]), nothing);
                (format!("set {a} {c}"), got, self.model.set_container(a, c))
            }
            11 => {
                let got = answer(group.unset_container(), nothing);
                (format!("unset {a}"), got, self.model.unset_container(a))
            }
            12..=14 => {
                let got = self.containers[c].set_iommu(VFIO_TYPE1v2_IOMMU);
                let want = self.model.set_iommu(c);
                (format!("set_iommu {c}"), answer(got, nothing), want)
            }
            15 | 16 => {
                let devices = &self.groups[b].devices;
                let name = &devices[self.rng.usize(..devices.len())].pci.address;
                let opened = group.device(name);
                let want = self.model.get_device(a, b);
                let got = answer(opened, |device| {
                    self.devices.push(device);
                    0
                });
                (format!("device {a} {name}"), got, want)
            }
            17..=19 => self.close_device(),
            20 | 21 => {
                let got = self.containers[c].map_buf(&self.bufs[c], IOVA);
                (format!("map {c}"), answer(got, nothing), self.model.map(c))
            }
            22 => {
                let got = answer(self.containers[c].unmap(IOVA, PAGE), |bytes| bytes);
                (format!("unmap {c}"), got, self.model.unmap(c))
            }
            _ => {
                self.held[a] = None;
                self.model.groups[a].held = false;
                self.model.collect();
                (format!("close {a}"), OK, OK)
            }
        }
    }

    fn close_device(&mut self) -> (String, Answer, Answer) {
        if self.devices.is_empty() {
            return (String::from("nothing"), OK, OK);
        }
        let at = self.rng.usize(..self.devices.len());
        self.devices.swap_remove(at);
        self.model.devices.swap_remove(at);
        self.model.collect();
        (format!("close device {at}"), OK, OK)
    }

    fn compare(&self) -> Outcome {
        for (at, group) in self.held.iter().enumerate() {
            if let Some(group) = group {
                let status = group.status()?;
                same(&format!("status of {at}"), status, self.model.status(at))?;
            }
        }
        Ok(())
    }

    fn look(&self) -> Outcome {
        for (at, group) in self.groups.iter().enumerate() {
            for device in &group.devices {
                if !translation::is_shown(&device.pci) {
                    return Ok(());
                }
                // The domain of a group that nobody has is the kernel's.
                if self.model.container(at).is_none() {
                    continue;
                }
                let bytes = translation::reachable(&device.pci, IOVA, PAGE)?;
                let want = if self.model.reaches(at) { PAGE } else { 0 };
                same(
                    &format!("bytes that {} reaches", device.pci.address),
                    bytes,
                    want,
                )?;
            }
        }
        Ok(())
    }
}

fn random_steps() -> Outcome {
    let seed = number("VFIO_RS_SEED", 7)?;
    let steps = number("VFIO_RS_STEPS", if slowness() > 1 { 300 } else { 3000 })?;
    println!("# seed {seed}, {steps} steps");
    let mut run = Run::new(seed)?;
    let mut seen = BTreeSet::new();
    for step in 0..steps {
        let (what, got, want) = run.step();
        let at = || format!("step {step}: {what}, {:?}", run.model);
        ensure!(got == want, "{}: expected {want:?}, got {got:?}", at());
        run.compare().with_context(at)?;
        if step % LOOK == 0 {
            run.look().with_context(at)?;
        }
        let verb = what.split(' ').next().unwrap_or_default();
        seen.insert(format!("{verb} {:?}", got.map(|_| ())));
    }
    // What a run of this length has come across.
    for case in [
        "merge Ok(())",
        "split Ok(())",
        "leave Ok(())",
        "device Ok(())",
        &format!("merge Err({})", libc::EBUSY),
        &format!("unset Err({})", libc::EBUSY),
        &format!("open Err({})", libc::EBUSY),
    ] {
        ensure!(seen.contains(case), "never: {case}; seen: {seen:?}");
    }
    Ok(())
}

suite!(iommus: Vtd, debug: Answers; random_steps);
