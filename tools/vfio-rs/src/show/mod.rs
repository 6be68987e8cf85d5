// SPDX-License-Identifier: GPL-2.0
//! `vfio-rs show`: everything about one device.

pub(crate) mod bars;

use anyhow::Result;
use serde_json::{Value, json};

use crate::config::Config;
use crate::host::Host;
use crate::list;
use crate::machine::Device;
use crate::root::Root;
use crate::text::{BOLD, FAINT, shown, size, styled, wrap};
use crate::users::user_name;
use crate::verdict::{Remapping, remapping, reserved};

/// The node of memory that the device is near to.
#[must_use]
pub fn numa(root: &Root, device: &Device) -> Option<i64> {
    let node = root.number(&format!("{}/numa_node", device.folder()))?;
    (node >= 0).then_some(node)
}

/// A device node, who owns it, and its permissions.
#[derive(Debug)]
pub(crate) struct DeviceNode {
    pub(crate) path: String,
    pub(crate) user: String,
    pub(crate) uid: u32,
    pub(crate) mode: u32,
}

/// The nodes by which `device` is opened, as far as they are there.
pub(crate) fn nodes(root: &Root, device: &Device) -> Vec<DeviceNode> {
    let mut paths = Vec::new();
    if let Some(group) = device.group {
        paths.push(format!("dev/vfio/{group}"));
        paths.push(format!("dev/vfio/noiommu-{group}"));
    }
    let names = root.names(&format!("{}/vfio-dev", device.folder()));
    paths.extend(names.iter().map(|name| format!("dev/vfio/devices/{name}")));
    let node = |path: String| {
        let owner = root.owner(&path)?;
        Some(DeviceNode {
            path: format!("/{path}"),
            user: user_name(root, owner.uid),
            uid: owner.uid,
            mode: owner.mode,
        })
    };
    paths.into_iter().filter_map(node).collect()
}

/// Virtual functions: how many there are and may be, and their physical one.
#[derive(Debug, Default)]
pub(crate) struct Sriov {
    pub(crate) functions: Vec<String>,
    pub(crate) most: i64,
    pub(crate) physical: Option<String>,
}

pub(crate) fn sriov(root: &Root, device: &Device) -> Sriov {
    let dir = device.folder();
    let name = |at| root.link_name(&format!("{dir}/virtfn{at}"));
    Sriov {
        functions: (0..).map_while(name).collect(),
        most: root.number(&format!("{dir}/sriov_totalvfs")).unwrap_or(0),
        physical: root.link_name(&format!("{dir}/physfn")),
    }
}

/// Speed and width of the link, and what they could be.
fn link(root: &Root, device: &Device) -> Option<(String, String)> {
    let read = |name: &str| root.text(&format!("{}/{name}", device.folder()));
    let pair = |speed: &str, width: &str| {
        let (speed, width) = (read(speed)?, read(width)?);
        let is_known = !speed.starts_with("Unknown") && width != "0" && width != "255";
        is_known.then(|| format!("{} x{width}", speed.trim_end_matches(" PCIe")))
    };
    Some((
        pair("current_link_speed", "current_link_width")?,
        pair("max_link_speed", "max_link_width")?,
    ))
}

fn power(root: &Root, device: &Device) -> Vec<(&'static str, String)> {
    let read = |name: &str| root.text(&format!("{}/{name}", device.folder()));
    let pairs = [
        ("state", read("power_state")),
        ("runtime", read("power/runtime_status")),
        ("d3cold_allowed", read("d3cold_allowed")),
    ];
    pairs
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

fn isolation(root: &Root) -> &'static str {
    match remapping(root) {
        Remapping::On => "isolated (interrupt remapping is on)",
        Remapping::Off => "not isolated (no interrupt remapping)",
        Remapping::Unknown => "isolation unknown on this kind of machine",
    }
}

/// What is printed about each of the devices.
///
/// # Errors
/// If a word means none.
pub fn run(host: &Host, words: &[String], as_json: bool, width: usize) -> Result<String> {
    let devices = host.all(words)?;
    if as_json {
        let all: Vec<_> = devices.iter().map(|device| json(host, device)).collect();
        return crate::json::document(&json!({ "devices": all }));
    }
    let texts: Vec<_> = devices
        .iter()
        .map(|device| text(host, device, width))
        .collect();
    Ok(texts.join("\n"))
}

/// Lines with a heading before them.
struct Sheet {
    out: String,
    width: usize,
}

impl Sheet {
    fn put(&mut self, head: &str, text: &str) {
        const INDENT: usize = 14;
        let body = wrap(&shown(text), &" ".repeat(INDENT), self.width);
        let head = format!("{head:<INDENT$}");
        let body = body.strip_prefix(&" ".repeat(INDENT)).unwrap_or(&body);
        self.out += &format!("{}{body}", styled(&head, FAINT));
    }

    fn list(&mut self, head: &str, lines: Vec<String>) {
        for (at, line) in lines.iter().enumerate() {
            self.put(if at == 0 { head } else { "" }, line);
        }
    }
}

fn text(host: &Host, device: &Device, width: usize) -> String {
    let root = &host.root;
    let title = format!(
        "{} {} {}",
        device.address,
        device.class_name(),
        host.machine.name(device)
    );
    let mut sheet = Sheet {
        out: styled(wrap(&shown(&title), "", width).trim_end(), BOLD) + "\n",
        width,
    };
    let ids = format!("{:04x}:{:04x}", device.subsystem.0, device.subsystem.1);
    sheet.put("numbers", &format!("{}, subsystem {ids}", device.id_text()));
    let driver = device.driver.as_deref().unwrap_or("none");
    match &device.only {
        Some(only) => sheet.put("driver", &format!("{driver} (driver_override: {only})")),
        None => sheet.put("driver", driver),
    }
    group(host, device, &mut sheet);
    let uses = host
        .uses
        .of(device.address)
        .iter()
        .map(|used| format!("{}: {}", used.kind, used.text()));
    sheet.list("used for", uses.collect());
    let users = host.users_of(device).map(list::user);
    sheet.list("open by", users.collect());
    let nodes = nodes(root, device).into_iter();
    sheet.list(
        "nodes",
        nodes
            .map(|n| format!("{} {} {:03o}", n.path, n.user, n.mode))
            .collect(),
    );
    let methods = root.text(&format!("{}/reset_method", device.folder()));
    sheet.put(
        "reset",
        match methods.as_deref() {
            Some("") | None => "none: the next user finds it as the last one left it",
            Some(methods) => methods,
        },
    );
    let power = power(root, device);
    let power = power.iter().map(|(name, value)| format!("{name} {value}"));
    sheet.put("power", &power.collect::<Vec<_>>().join(", "));
    if let Some(node) = numa(root, device) {
        sheet.put("numa", &format!("node {node}"));
    }
    if let Some((now, most)) = link(root, device) {
        match now == most {
            true => sheet.put("link", &now),
            false => sheet.put("link", &format!("{now} (could be {most})")),
        }
    }
    let config = Config::read(root, device);
    let vectors = match config.vectors() {
        Some(v) => format!(
            "INTx {}, MSI {}, MSI-X {}",
            u32::from(v.intx),
            v.msi,
            v.msix
        ),
        None => "number of vectors known to root only".to_owned(),
    };
    sheet.put("interrupts", &format!("{vectors}; {}", isolation(root)));
    let sriov = sriov(root, device);
    if sriov.most > 0 {
        let text = format!(
            "{} of {} virtual functions",
            sriov.functions.len(),
            sriov.most
        );
        sheet.put("sr-iov", &text);
    }
    if let Some(physical) = sriov.physical {
        sheet.put("sr-iov", &format!("a virtual function of {physical}"));
    }
    let bars = bars::read(root, device);
    sheet.list("memory", bars.iter().map(bars::Bar::text).collect());
    sheet.out
}

fn group(host: &Host, device: &Device, sheet: &mut Sheet) {
    let judgement = host.judgement(device);
    let Some(group) = device.group else {
        sheet.put("group", &format!("none: {}", judgement.text()));
        return;
    };
    sheet.put("group", &format!("{group}: {}", host.group_verdict(group)));
    let members = host.machine.members(group).map(|member| {
        let driver = member
            .driver
            .as_deref()
            .map_or("no driver".to_owned(), |d| format!("driver {d}"));
        let text = host.judgement(member).text();
        format!("{}, {driver}: {text}", member.address)
    });
    sheet.list("", members.collect());
    let regions = reserved(&host.root, group);
    let regions = regions.iter().map(|(first, last, kind)| {
        let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0);
        format!("{:#x}-{:#x} {kind}", hex(first), hex(last))
    });
    sheet.list("reserved", regions.collect());
}

/// Everything for programs.
fn json(host: &Host, device: &Device) -> Value {
    let root = &host.root;
    let config = Config::read(root, device);
    let mut value = list::json(host, device);
    let members = device.group.map(|group| {
        let members = host.machine.members(group).map(|member| {
            let judgement = host.judgement(member);
            json!({
                "address": member.address.to_string(),
                "driver": member.driver,
                "bridge": member.is_bridge(),
                "verdict": judgement.text(),
                "reason": judgement.number(),
            })
        });
        members.collect::<Vec<_>>()
    });
    let regions = device.group.map(|group| {
        let all = reserved(root, group).into_iter();
        all.map(|(first, last, kind)| json!({ "first": first, "last": last, "type": kind }))
            .collect::<Vec<_>>()
    });
    let methods = root
        .text(&format!("{}/reset_method", device.folder()))
        .unwrap_or_default();
    let nodes = nodes(root, device).into_iter().map(|node| {
        json!({ "path": node.path, "user": node.user, "uid": node.uid, "mode": format!("{:03o}", node.mode) })
    });
    let sriov = sriov(root, device);
    let vectors = config
        .vectors()
        .map(|v| json!({ "intx": v.intx, "msi": v.msi, "msix": v.msix }));
    let (now, most) = link(root, device).unzip();
    value["group_verdict"] = json!(device.group.map(|group| host.group_verdict(group)));
    value["members"] = json!(members);
    value["reserved"] = json!(regions);
    value["reset_methods"] = json!(methods.split_whitespace().collect::<Vec<_>>());
    let power = power(root, device);
    value["power"] = Value::Object(
        power
            .into_iter()
            .map(|(n, v)| (n.to_owned(), json!(v)))
            .collect(),
    );
    value["numa"] = json!(numa(root, device));
    value["link"] = json!({ "now": now, "most": most });
    value["vectors"] = json!(vectors);
    value["interrupts_isolated"] = match remapping(root) {
        Remapping::On => json!(true),
        Remapping::Off => json!(false),
        Remapping::Unknown => Value::Null,
    };
    value["serial"] = json!(config.serial());
    value["virtual_functions"] = json!(sriov.functions);
    value["virtual_functions_most"] = json!(sriov.most);
    value["physical_function"] = json!(sriov.physical);
    value["nodes"] = json!(nodes.collect::<Vec<_>>());
    value["bars"] = json!(
        bars::read(root, device)
            .iter()
            .map(bars::Bar::json)
            .collect::<Vec<_>>()
    );
    value
}

/// Bytes for people; used by the table of BARs.
pub(crate) fn bytes(count: u64) -> String {
    size(count)
}
