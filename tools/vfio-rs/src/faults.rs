// SPDX-License-Identifier: GPL-2.0
//! `vfio-rs faults`: DMA that an IOMMU has refused, and errors of PCI Express, from the kernel's
//! log, with who had the device and what was mapped nearest.
//!
//! The log is the only source: VT-d and virtio-iommu tell nobody else. It says nothing of who had
//! the device then, so what is added is of now.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::address::Address;
use crate::cli::FaultsArgs;
use crate::host::Host;
use crate::kernel::ContainerState;
use crate::klog::{self, Line};
use crate::list;
use crate::machine::Device;
use crate::text::{shown, size};

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Microseconds since the start of the machine.
    pub time: u64,
    /// The device, as far as the line says.
    pub device: Option<Address>,
    /// Where it wanted to read or write; none for errors of PCI Express.
    pub address: Option<u64>,
    /// `read`, `write`, or what the line says.
    pub what: String,
    /// The whole line.
    pub text: String,
}

impl Fault {
    /// Whether it is DMA that was refused.
    #[must_use]
    pub fn is_dma(&self) -> bool {
        self.address.is_some()
    }
}

/// Those among lines of the log.
#[must_use]
pub fn parse(lines: &[Line]) -> Vec<Fault> {
    lines.iter().filter_map(parse_one).collect()
}

fn parse_one(line: &Line) -> Option<Fault> {
    let text = line.text.as_str();
    let parsed = intel(text)
        .or_else(|| amd(text))
        .or_else(|| virtio(text))
        .or_else(|| express(text));
    let (device, address, what) = parsed?;
    Some(Fault {
        time: line.time,
        device,
        address,
        what,
        text: text.to_owned(),
    })
}

type Parsed = (Option<Address>, Option<u64>, String);

fn after<'a>(text: &'a str, head: &str) -> Option<&'a str> {
    text.split_once(head).map(|(_, rest)| rest)
}

fn hex(text: &str) -> Option<u64> {
    let digits = text.trim_start_matches("0x");
    let end = digits
        .find(|c: char| !c.is_ascii_hexdigit())
        .unwrap_or(digits.len());
    u64::from_str_radix(&digits[..end], 16).ok()
}

/// `DMAR: [DMA Write NO_PASID] Request device [00:02.0] fault addr 0x300000 [fault reason 5] ...`
fn intel(text: &str) -> Option<Parsed> {
    let rest = after(text, "DMAR: [DMA ")?;
    let what = rest.split([' ', ']']).next()?.to_lowercase();
    let device = after(rest, "Request device [")?.split(']').next()?;
    let address = hex(after(rest, "fault addr ")?)?;
    Some((
        device.trim_start_matches("0x").parse().ok(),
        Some(address),
        what,
    ))
}

/// `vfio-pci 0000:00:02.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0002 address=0x300000
/// flags=0x0020]`, or with `device=0000:00:02.0` in it.
fn amd(text: &str) -> Option<Parsed> {
    let rest = after(text, "IO_PAGE_FAULT")?;
    let address = hex(after(rest, "address=")?)?;
    let device = match after(rest, "device=") {
        Some(device) => device.split([' ', ']']).next()?.parse().ok(),
        None => text
            .split_whitespace()
            .find_map(|word| word.trim_end_matches(':').parse().ok()),
    };
    // Bit 5 of the flags: a write.
    let flags = after(rest, "flags=").and_then(hex).unwrap_or(0);
    let what = if flags & 0x20 != 0 { "write" } else { "read" };
    Some((device, Some(address), what.to_owned()))
}

/// `virtio_iommu virtio0: page fault from EP 16 at 0x300000 [W]`
fn virtio(text: &str) -> Option<Parsed> {
    let rest = after(text, "fault from EP ").filter(|_| text.contains("virtio"))?;
    let endpoint: u32 = rest.split(' ').next()?.parse().ok()?;
    let address = hex(after(rest, " at ")?)?;
    // The numbers of endpoints are requester ids.
    let device = Address {
        domain: endpoint >> 16,
        bus: u8::try_from(endpoint >> 8 & 0xff).ok()?,
        slot: u8::try_from(endpoint >> 3 & 0x1f).ok()?,
        function: u8::try_from(endpoint & 7).ok()?,
    };
    let flags = after(rest, "[").unwrap_or_default();
    let what = if flags.contains('W') { "write" } else { "read" };
    Some((Some(device), Some(address), what.to_owned()))
}

/// `nvme 0000:02:00.0: PCIe Bus Error: severity=Correctable, type=Physical Layer, ...`
fn express(text: &str) -> Option<Parsed> {
    let rest = after(text, "PCIe Bus Error: ")?;
    let device = text
        .split_whitespace()
        .find_map(|word| word.trim_end_matches(':').parse().ok());
    let severity = after(rest, "severity=")
        .and_then(|s| s.split(',').next())
        .unwrap_or("error");
    Some((device, None, severity.to_lowercase()))
}

/// Where `address` is, seen from what a container has mapped.
fn nearest(container: &ContainerState, address: u64) -> String {
    let name = format!("container {}", container.number);
    let inside = |(first, last, _): &&(u64, u64, String)| (*first..=*last).contains(&address);
    if let Some((first, last, _)) = container.ranges.iter().find(inside) {
        return format!("{address:#x} is in {first:#x}-{last:#x} of {name} by now");
    }
    let distance = |(first, last, _): &&(u64, u64, String)| match address > *last {
        true => address - *last,
        false => *first - address,
    };
    match container.ranges.iter().min_by_key(distance) {
        None => format!("nothing is mapped in {name}"),
        Some((first, last, _)) if address > *last => {
            let far = size(address - *last - 1);
            let far = if far == "0 B" {
                "right behind".to_owned()
            } else {
                format!("{far} past")
            };
            format!("{address:#x} is {far} {first:#x}-{last:#x} of {name}")
        }
        Some((first, last, _)) => {
            let far = size(*first - address);
            format!("{address:#x} is {far} before {first:#x}-{last:#x} of {name}")
        }
    }
}

/// The device of a fault, or the only one that its bus leads to: behind a bridge the IOMMU sees
/// that.
fn device<'a>(host: &'a Host, fault: &Fault) -> Option<&'a Device> {
    host.machine.at(fault.device?)
}

fn group(host: &Host, fault: &Fault) -> Option<u32> {
    device(host, fault)?.group
}

fn context(host: &Host, fault: &Fault) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(group) = group(host, fault) else {
        return lines;
    };
    let users: Vec<_> = fault
        .device
        .map(|device| host.users.of(device, Some(group)).map(list::user).collect())
        .unwrap_or_default();
    let users = match users.is_empty() {
        true => "nobody has it now".to_owned(),
        false => users.join(", "),
    };
    lines.push(format!("group {group}, {users}"));
    if let (Some(address), Some(container)) = (fault.address, host.kernel.container_of(group)) {
        lines.push(nearest(container, address));
    }
    lines
}

fn text(host: &Host, fault: &Fault) -> String {
    let seconds = fault.time / 1_000_000;
    let rest = fault.time % 1_000_000;
    let device = fault
        .device
        .map_or("a device".to_owned(), |device| device.to_string());
    let mut out = match fault.address {
        Some(address) => {
            format!(
                "[{seconds}.{rest:06}] {device}: {} at {address:#x} refused\n",
                fault.what
            )
        }
        None => format!("[{seconds}.{rest:06}] {}\n", shown(&fault.text)),
    };
    for line in context(host, fault) {
        let _ = writeln!(out, "    {line}");
    }
    out
}

fn json(host: &Host, fault: &Fault) -> Value {
    let group = group(host, fault);
    let container = group.and_then(|group| host.kernel.container_of(group));
    let near = container
        .zip(fault.address)
        .map(|(c, address)| nearest(c, address));
    let users = fault.device.map(|device| {
        let users = host.users.of(device, group).map(crate::who::process_json);
        users.collect::<Vec<_>>()
    });
    json!({
        "time": fault.time,
        "dma": fault.is_dma(),
        "device": fault.device.map(|device| device.to_string()),
        "address": fault.address.map(|address| format!("{address:#x}")),
        "what": fault.what,
        "group": group,
        "users": users,
        "container": container.map(|container| container.number),
        "nearest": near,
        "text": fault.text,
    })
}

/// What is printed of the faults that there are.
///
/// # Errors
/// None that can happen.
pub fn run(host: &Host, args: &FaultsArgs) -> Result<String> {
    let faults = parse(&host.root.log());
    if args.json {
        let all: Vec<_> = faults.iter().map(|fault| json(host, fault)).collect();
        return crate::json::document(&json!({ "faults": all }));
    }
    if faults.is_empty() {
        return Ok("The log has no faults.\n".to_owned());
    }
    Ok(faults.iter().map(|fault| text(host, fault)).collect())
}

/// Prints faults as they come, until the output is closed.
///
/// # Errors
/// If the log cannot be read.
pub fn follow(args: &FaultsArgs, out: &mut dyn std::io::Write) -> Result<()> {
    let path = std::path::Path::new("/").join(klog::PATH);
    let put = |line: &Line| {
        let Some(fault) = parse_one(line) else {
            return true;
        };
        let host = Host::read(crate::root::Root::real());
        let text = match args.json {
            true => json(&host, &fault).to_string() + "\n",
            false => text(&host, &fault),
        };
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_ok()
    };
    klog::follow(&path, put).context("/dev/kmsg")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<(String, Option<u64>, String)> {
        let line = Line {
            time: 1,
            text: text.to_owned(),
        };
        let fault = parse_one(&line)?;
        Some((fault.device?.short(), fault.address, fault.what))
    }

    #[test]
    fn lines_of_all_iommus() {
        let is =
            |device: &str, what: &str| Some((device.to_owned(), Some(0x30_0000), what.to_owned()));
        let vtd = "DMAR: [DMA Write NO_PASID] Request device [00:02.0] fault addr 0x300000 \
                   [fault reason 0x05] PTE Write access is not set";
        assert_eq!(fault(vtd), is("00:02.0", "write"));
        let amd = "vfio-pci 0000:00:02.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0002 \
                   address=0x300000 flags=0x0000]";
        assert_eq!(fault(amd), is("00:02.0", "read"));
        let amd = "AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:01:00.1 domain=0x0001 \
                   address=0x300000 flags=0x0020]";
        assert_eq!(fault(amd), is("01:00.1", "write"));
        let virtio = "virtio_iommu virtio0: page fault from EP 16 at 0x300000 [W]";
        assert_eq!(fault(virtio), is("00:02.0", "write"));
        assert_eq!(fault("DMAR: DRHD: handling fault status reg 2"), None);
    }

    #[test]
    fn errors_of_express() {
        let text = "nvme 0000:02:00.0: PCIe Bus Error: severity=Correctable, type=Physical Layer";
        let want = ("02:00.0".to_owned(), None, "correctable".to_owned());
        assert_eq!(fault(text), Some(want));
    }

    #[test]
    fn where_an_address_is() {
        let memory = |first, last| (first, last, "memory".to_owned());
        let mut container = ContainerState {
            number: 3,
            kind: "type1v2".to_owned(),
            left: None,
            ranges: vec![memory(0x10_0000, 0x1f_ffff), memory(0x80_0000, 0x80_0fff)],
            is_cut: false,
        };
        let near = |address| nearest(&container, address);
        assert_eq!(
            near(0x30_0000),
            "0x300000 is 1 MiB past 0x100000-0x1fffff of container 3"
        );
        assert_eq!(
            near(0x20_0000),
            "0x200000 is right behind 0x100000-0x1fffff of container 3"
        );
        assert_eq!(
            near(0x7f_f000),
            "0x7ff000 is 4 KiB before 0x800000-0x800fff of container 3"
        );
        assert_eq!(
            near(0x80_0004),
            "0x800004 is in 0x800000-0x800fff of container 3 by now"
        );
        container.ranges.clear();
        assert_eq!(nearest(&container, 1), "nothing is mapped in container 3");
    }
}
