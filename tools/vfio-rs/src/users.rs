// SPDX-License-Identifier: GPL-2.0
//! Which processes have groups, containers and devices open, from /proc.

use std::collections::BTreeSet;

use crate::address::Address;
use crate::machine::Machine;
use crate::root::Root;

/// A process that uses VFIO.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The name of its program.
    pub command: String,
    /// Its user.
    pub user: String,
    /// Groups that it has open.
    pub groups: BTreeSet<u32>,
    /// Devices that it has open.
    pub devices: BTreeSet<Address>,
    /// How many containers.
    pub containers: usize,
    /// Whether it has /dev/iommu open.
    pub iommufd: bool,
    /// Memory that counts as locked, in KiB: what type1 pins is among it.
    pub locked_kib: u64,
    /// Memory that is pinned otherwise, as by iommufd, in KiB.
    pub pinned_kib: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Users {
    /// By their numbers.
    pub processes: Vec<Process>,
    /// Some processes could not be looked into.
    pub is_partial: bool,
}

impl Users {
    /// Looks through all processes, if any device is with VFIO at all.
    #[must_use]
    pub fn read(root: &Root, machine: &Machine) -> Self {
        let mut users = Self::default();
        if !machine.devices.iter().any(|device| device.has_vfio_driver)
            && root.names("dev/vfio").len() < 2
        {
            return users;
        }
        for name in root.names("proc") {
            let Ok(pid) = name.parse() else {
                continue;
            };
            let files = root.names(&format!("proc/{pid}/fd"));
            // A kernel thread has none; so does one that is somebody else's, to us.
            if files.is_empty() {
                users.is_partial |= root.link(&format!("proc/{pid}/exe")).is_none()
                    && root
                        .text(&format!("proc/{pid}/cmdline"))
                        .is_some_and(|c| !c.is_empty());
                continue;
            }
            if let Some(process) = look(root, machine, pid, &files) {
                users.processes.push(process);
            }
        }
        users
    }

    /// Who has `device` open, or its group.
    pub fn of(&self, device: Address, group: Option<u32>) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(move |process| {
            process.devices.contains(&device)
                || group.is_some_and(|group| process.groups.contains(&group))
        })
    }

    /// The process with this number.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<&Process> {
        self.processes.iter().find(|process| process.pid == pid)
    }
}

fn look(root: &Root, machine: &Machine, pid: u32, files: &[String]) -> Option<Process> {
    let mut process = Process {
        pid,
        ..Process::default()
    };
    let mut uses_vfio = false;
    for file in files {
        let Some(target) = root.link(&format!("proc/{pid}/fd/{file}")) else {
            continue;
        };
        if target.starts_with("anon_inode:") && target.contains("vfio-device") {
            process.devices.extend(device_of(root, pid, file));
        } else if let Some(node) = target.strip_prefix("/dev/vfio/devices/") {
            process.devices.extend(by_node(root, machine, node));
        } else if target == "/dev/vfio/vfio" {
            process.containers += 1;
        } else if let Some(group) = target.strip_prefix("/dev/vfio/") {
            process
                .groups
                .extend(group.trim_start_matches("noiommu-").parse::<u32>());
        } else if target == "/dev/iommu" {
            process.iommufd = true;
            continue;
        } else {
            continue;
        }
        uses_vfio = true;
    }
    if !uses_vfio {
        return None;
    }
    process.command = root.text(&format!("proc/{pid}/comm")).unwrap_or_default();
    let status = root.text(&format!("proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    process.locked_kib = field("VmLck:").unwrap_or(0);
    process.pinned_kib = field("VmPin:").unwrap_or(0);
    let uid = field("Uid:").unwrap_or(0);
    process.user = user_name(root, u32::try_from(uid).unwrap_or(0));
    Some(process)
}

/// The device behind a descriptor: fdinfo has its folder in sysfs.
fn device_of(root: &Root, pid: u32, file: &str) -> Option<Address> {
    let info = root.text(&format!("proc/{pid}/fdinfo/{file}"))?;
    let path = info
        .lines()
        .find_map(|line| line.strip_prefix("vfio-device-syspath:"))?;
    Address::last_in(path.trim())
}

/// The device that has the node `vfioN`.
fn by_node(root: &Root, machine: &Machine, node: &str) -> Option<Address> {
    let has = |device: &&crate::machine::Device| {
        root.exists(&format!("{}/vfio-dev/{node}", device.folder()))
    };
    machine
        .devices
        .iter()
        .find(has)
        .map(|device| device.address)
}

/// Name of a user, or its number.
#[must_use]
pub fn user_name(root: &Root, uid: u32) -> String {
    let passwd = root.text("etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    let has = |line: &&str| line.split(':').nth(2) == Some(&number);
    let name = passwd
        .lines()
        .find(has)
        .and_then(|line| line.split(':').next());
    name.map_or(number.clone(), str::to_owned)
}

/// Number of a user.
#[must_use]
pub fn user_number(root: &Root, name: &str) -> Option<u32> {
    let passwd = root.text("etc/passwd").unwrap_or_default();
    let has = |line: &&str| line.split(':').next() == Some(name);
    let line = passwd.lines().find(has);
    line.and_then(|line| line.split(':').nth(2)?.parse().ok())
}
