// SPDX-License-Identifier: GPL-2.0
//! `vfio-rs list`, and `lsvfio`: a line for each device, by group.

use anstyle::Style;
use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::ListArgs;
use crate::errors::Stop;
use crate::host::Host;
use crate::machine::Device;
use crate::text::{BAD, BOLD, Column, FAINT, GOOD, Table, WARN};
use crate::users::Process;
use crate::uses::Use;
use crate::verdict::Mark;

/// The columns that can be asked for, and whether their text is at the right.
const COLUMNS: [(&str, &str, bool, Option<usize>); 13] = [
    ("group", "GROUP", true, None),
    ("address", "ADDRESS", false, None),
    ("class", "CLASS", false, None),
    ("name", "NAME", false, Some(16)),
    ("driver", "DRIVER", false, Some(8)),
    ("vfio", "VFIO", false, None),
    ("use", "USED FOR", false, Some(19)),
    ("id", "ID", false, None),
    ("verdict", "VERDICT", false, Some(10)),
    ("override", "OVERRIDE", false, None),
    ("numa", "NUMA", true, None),
    ("user", "USER", false, Some(8)),
    ("full", "ADDRESS", false, None),
];
const DEFAULT: &str = "group,address,class,name,driver,vfio,use";

/// What is printed.
///
/// # Errors
/// If a filter means no device, or there is no such column.
pub fn run(host: &Host, args: &ListArgs, width: usize) -> Result<String> {
    let mut devices = host.all(&args.filters)?;
    if !args.all && args.filters.is_empty() {
        devices.retain(|device| !device.is_bridge() && device.class_name() != "iommu");
    }
    devices.sort_by_key(|device| (device.group.unwrap_or(u32::MAX), device.address));
    if args.json {
        let all: Vec<_> = devices.iter().map(|device| json(host, device)).collect();
        return crate::json::document(&json!({ "devices": all }));
    }
    if args.groups {
        return Ok(groups(host, &devices, width));
    }
    let wanted = args.output.as_deref().unwrap_or(DEFAULT);
    let mut columns = Vec::new();
    for name in wanted.split(',') {
        let Some(column) = COLUMNS.iter().find(|column| column.0 == name) else {
            let names: Vec<_> = COLUMNS.iter().map(|column| column.0).collect();
            let text = format!("no column {name}; there are {}", names.join(", "));
            return Err(Stop::Usage(text).into());
        };
        columns.push(column);
    }
    let heads = columns.iter().map(|(_, title, right, shrinks_to)| Column {
        title,
        right: *right,
        shrinks_to: *shrinks_to,
    });
    let mut table = Table::new(heads.collect());
    let mut before = None;
    for device in devices {
        let is_first = before != Some(device.group);
        before = Some(device.group);
        let cells = columns
            .iter()
            .map(|(name, ..)| cell(host, device, name, is_first));
        table.add(cells.collect());
    }
    Ok(table.print(width))
}

/// Colour of a verdict.
pub(crate) fn style(mark: Mark) -> Style {
    match mark {
        Mark::Ready | Mark::Free => GOOD,
        Mark::Open => BOLD,
        Mark::No => BAD,
        Mark::Group => WARN,
        Mark::Host => Style::new(),
        Mark::Bridge => FAINT,
    }
}

/// A process in a few words.
pub(crate) fn user(process: &Process) -> String {
    format!("{} {} ({})", process.command, process.pid, process.user)
}

/// What the device is used for, or by whom.
pub(crate) fn used_for(host: &Host, device: &Device) -> String {
    let judgement = host.judgement(device);
    if judgement.mark == Mark::Open {
        let users: Vec<_> = host.users_of(device).map(user).collect();
        if !users.is_empty() {
            return users.join(", ");
        }
    }
    let uses: Vec<_> = host.uses.of(device.address).iter().map(Use::text).collect();
    match judgement.mark {
        Mark::No => match uses.is_empty() {
            true => judgement.text().to_owned(),
            false => format!("{}; {}", uses.join(", "), judgement.text()),
        },
        _ => uses.join(", "),
    }
}

fn cell(host: &Host, device: &Device, column: &str, is_first: bool) -> (String, Style) {
    let judgement = host.judgement(device);
    let text = match column {
        "group" if !is_first => String::new(),
        "group" => device
            .group
            .map_or("-".to_owned(), |group| group.to_string()),
        "address" => device.address.short(),
        "full" => device.address.to_string(),
        "class" => device.class_name().to_owned(),
        "name" => host.machine.name(device),
        "driver" => device.driver.clone().unwrap_or_else(|| "-".to_owned()),
        "vfio" => judgement.mark.word().to_owned(),
        "use" => used_for(host, device),
        "id" => device.id_text(),
        "verdict" => judgement.text().to_owned(),
        "override" => device.only.clone().unwrap_or_else(|| "-".to_owned()),
        "numa" => crate::show::numa(&host.root, device).map_or("-".to_owned(), |n| n.to_string()),
        _ => {
            let users: Vec<_> = host.users_of(device).map(user).collect();
            users.join(", ")
        }
    };
    let style = match column {
        "vfio" => style(judgement.mark),
        "driver" if device.has_vfio_driver => GOOD,
        _ if device.is_bridge() => FAINT,
        _ => Style::new(),
    };
    (text, style)
}

/// A line for each group of these devices.
fn groups(host: &Host, devices: &[&Device], width: usize) -> String {
    let mut table = Table::new(vec![
        Column::new("GROUP", true, None),
        Column::new("DEVICES", false, Some(7)),
        Column::new("VERDICT", false, None),
        Column::new("IN THE WAY", false, Some(10)),
    ]);
    let mut done = None;
    for device in devices {
        let Some(group) = device.group.filter(|group| done != Some(*group)) else {
            continue;
        };
        done = Some(group);
        let members: Vec<_> = host
            .machine
            .members(group)
            .filter(|d| !d.is_bridge())
            .collect();
        if members.is_empty() {
            continue;
        }
        let addresses: Vec<_> = members.iter().map(|d| d.address.short()).collect();
        let verdict = host.group_verdict(group);
        let is_in_the_way = |d: &&&Device| host.judgement(d).text() != "viable";
        let why = members
            .iter()
            .filter(is_in_the_way)
            .map(|d| match &d.driver {
                Some(driver) => format!("{} {driver}", d.address.short()),
                None => d.address.short(),
            });
        let mark = members.iter().map(|d| host.judgement(d).mark);
        let style = mark.map(style).next().unwrap_or_default();
        table.add(vec![
            (group.to_string(), Style::new()),
            (addresses.join(" "), Style::new()),
            (verdict.to_owned(), style),
            (why.collect::<Vec<_>>().join(", "), Style::new()),
        ]);
    }
    table.print(width)
}

/// A device for programs.
pub(crate) fn json(host: &Host, device: &Device) -> Value {
    let judgement = host.judgement(device);
    let uses: Vec<_> = host.uses.of(device.address).iter().map(Use::json).collect();
    let users = host.users_of(device).map(crate::who::process_json);
    json!({
        "address": device.address.to_string(),
        "group": device.group,
        "class": format!("{:06x}", device.class),
        "class_name": device.class_name(),
        "id": device.id_text(),
        "subsystem": format!("{:04x}:{:04x}", device.subsystem.0, device.subsystem.1),
        "vendor_name": host.machine.names.vendor(device.id.0),
        "device_name": host.machine.names.device(device.id.0, device.id.1),
        "driver": device.driver,
        "override": device.only,
        "bridge": device.is_bridge(),
        "vfio": judgement.mark.word(),
        "verdict": judgement.text(),
        "reason": judgement.number(),
        "uses": uses,
        "users": users.collect::<Vec<_>>(),
    })
}
