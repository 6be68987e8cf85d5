// SPDX-License-Identifier: GPL-2.0
//! `vfio-rs who`: which process has which group, container and device, and what it has mapped.

use anstyle::Style;
use anyhow::Result;
use serde_json::{Value, json};

use crate::address::Address;
use crate::host::Host;
use crate::kernel::ContainerState;
use crate::text::{Column, Table, size};
use crate::users::Process;

/// A process for programs.
pub(crate) fn process_json(process: &Process) -> Value {
    let devices: Vec<_> = process.devices.iter().map(Address::to_string).collect();
    json!({
        "pid": process.pid,
        "command": process.command,
        "user": process.user,
        "groups": process.groups,
        "devices": devices,
        "containers": process.containers,
        "iommufd": process.iommufd,
        "locked": process.locked_kib * 1024,
        "pinned": process.pinned_kib * 1024,
    })
}

fn container_json(container: &ContainerState) -> Value {
    json!({
        "number": container.number,
        "kind": container.kind,
        "mapped": container.bytes(),
        "mappings": container.ranges.len(),
        "more": container.is_cut,
        "left": container.left,
    })
}

/// The containers in which the groups of a process are.
fn containers<'a>(host: &'a Host, process: &Process) -> Vec<&'a ContainerState> {
    let mut found: Vec<_> = process
        .groups
        .iter()
        .filter_map(|group| host.kernel.container_of(*group))
        .collect();
    found.sort_by_key(|container| container.number);
    found.dedup_by_key(|container| container.number);
    found
}

/// What is printed, and whether some processes could not be looked into.
///
/// # Errors
/// None that can happen.
pub fn run(host: &Host, json: bool, width: usize) -> Result<String> {
    if json {
        let all = host.users.processes.iter().map(|process| {
            let mut value = process_json(process);
            let containers: Vec<_> = containers(host, process)
                .into_iter()
                .map(container_json)
                .collect();
            value["mappings"] = json!(containers);
            value
        });
        let all: Vec<_> = all.collect();
        let partial = host.users.is_partial;
        return crate::json::document(&json!({ "processes": all, "partial": partial }));
    }
    if host.users.processes.is_empty() {
        return Ok("Nobody uses VFIO.\n".to_owned());
    }
    let mut table = Table::new(vec![
        Column::new("PID", true, None),
        Column::new("COMMAND", false, Some(8)),
        Column::new("USER", false, Some(6)),
        Column::new("GROUPS", false, Some(6)),
        Column::new("DEVICES", false, Some(8)),
        Column::new("MAPPED", true, None),
        Column::new("PINNED", true, None),
        Column::new("LEFT", true, None),
    ]);
    for process in &host.users.processes {
        let groups: Vec<_> = process.groups.iter().map(u32::to_string).collect();
        let devices: Vec<_> = process.devices.iter().map(Address::short).collect();
        let containers = containers(host, process);
        let mapped: u64 = containers.iter().map(|c| c.bytes()).sum();
        let mapped = match (containers.is_empty(), containers.iter().any(|c| c.is_cut)) {
            (true, _) => "?".to_owned(),
            (false, true) => format!(">{}", size(mapped)),
            (false, false) => size(mapped),
        };
        let left = containers.iter().filter_map(|c| c.left).min();
        let pinned = (process.locked_kib + process.pinned_kib) * 1024;
        let plain = |text: String| (text, Style::new());
        table.add(vec![
            plain(process.pid.to_string()),
            plain(process.command.clone()),
            plain(process.user.clone()),
            plain(match (groups.is_empty(), process.iommufd) {
                (true, true) => "iommufd".to_owned(),
                _ => groups.join(","),
            }),
            plain(devices.join(" ")),
            plain(mapped),
            plain(size(pinned)),
            plain(left.map_or("?".to_owned(), |left| left.to_string())),
        ]);
    }
    Ok(table.print(width))
}
