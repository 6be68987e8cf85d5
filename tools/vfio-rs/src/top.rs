// SPDX-License-Identifier: GPL-2.0
//! `vfio-rs top`: what the devices of users do: interrupts by vector, faults, memory.

use std::collections::BTreeMap;
use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use anstyle::Style;
use anyhow::Result;
use serde_json::json;

use crate::address::Address;
use crate::cli::TopArgs;
use crate::faults;
use crate::host::Host;
use crate::kernel::ContainerState;
use crate::root::Root;
use crate::text::{Column, Table, size};

/// Interrupts of a device that went to its user, by vector, as `msix[0]`.
type Counts = BTreeMap<(Address, String), u64>;

/// From /proc/interrupts: `IR-PCI-MSIX-0000:01:00.0 0-edge vfio-msix[0](0000:01:00.0)`.
fn interrupts(root: &Root) -> Counts {
    let text = root.text("proc/interrupts").unwrap_or_default();
    let parse = |line: &str| {
        let name = line
            .split_whitespace()
            .find(|word| word.starts_with("vfio-"))?;
        let (vector, rest) = name.strip_prefix("vfio-")?.split_once('(')?;
        let address = rest.trim_end_matches(')').parse().ok()?;
        let counts = line
            .split_whitespace()
            .skip(1)
            .map_while(|word| word.parse::<u64>().ok());
        Some(((address, vector.to_owned()), counts.sum::<u64>()))
    };
    let mut all = Counts::new();
    for (key, count) in text.lines().filter_map(parse) {
        *all.entry(key).or_default() += count;
    }
    all
}

/// One look, as text or JSON; `before` is an earlier look, some time ago.
fn look(
    host: &Host,
    before: Option<&(Counts, Duration)>,
    as_json: bool,
    width: usize,
) -> Result<String> {
    let counts = interrupts(&host.root);
    let faults = faults::parse(&host.root.log());
    let mut table = Table::new(vec![
        Column::new("DEVICE", false, None),
        Column::new("USER", false, Some(8)),
        Column::new("VECTOR", false, None),
        Column::new("COUNT", true, None),
        Column::new("PER S", true, None),
        Column::new("FAULTS", true, None),
        Column::new("MAPPED", true, None),
        Column::new("PINNED", true, None),
    ]);
    let mut all = Vec::new();
    for device in host.machine.devices.iter().filter(|d| d.has_vfio_driver) {
        let users: Vec<_> = host.users_of(device).collect();
        let names: Vec<_> = users
            .iter()
            .map(|p| format!("{} {}", p.command, p.pid))
            .collect();
        let refused = faults
            .iter()
            .filter(|f| f.device == Some(device.address) && f.is_dma())
            .count();
        let container = device
            .group
            .and_then(|group| host.kernel.container_of(group));
        let mapped = container.map(ContainerState::bytes);
        let pinned: u64 = users
            .iter()
            .map(|p| (p.locked_kib + p.pinned_kib) * 1024)
            .sum();
        let mine = counts
            .iter()
            .filter(|((address, _), _)| *address == device.address);
        let vectors: Vec<_> = mine
            .map(|((address, vector), count)| {
                let rate = before.map(|(old, time)| {
                    let was = old.get(&(*address, vector.clone())).copied().unwrap_or(0);
                    count.saturating_sub(was) as f64 / time.as_secs_f64().max(0.001)
                });
                (vector.clone(), *count, rate)
            })
            .collect();
        if as_json {
            let vectors: Vec<_> = vectors
                .iter()
                .map(
                    |(vector, count, rate)| json!({ "name": vector, "count": count, "rate": rate }),
                )
                .collect();
            all.push(json!({
                "address": device.address.to_string(),
                "users": users.iter().map(|p| p.pid).collect::<Vec<_>>(),
                "vectors": vectors,
                "faults": refused,
                "mapped": mapped,
                "pinned": pinned,
            }));
            continue;
        }
        let plain = |text: String| (text, Style::new());
        let rows = match vectors.is_empty() {
            true => vec![("-".to_owned(), 0, None)],
            false => vectors,
        };
        for (at, (vector, count, rate)) in rows.into_iter().enumerate() {
            let first = |text: String| plain(if at == 0 { text } else { String::new() });
            table.add(vec![
                first(device.address.short()),
                first(names.join(", ")),
                plain(vector),
                plain(count.to_string()),
                plain(rate.map_or("-".to_owned(), |rate| format!("{rate:.0}"))),
                first(refused.to_string()),
                first(mapped.map_or("?".to_owned(), size)),
                first(size(pinned)),
            ]);
        }
    }
    match as_json {
        true => crate::json::document(&json!({ "devices": all })),
        false => Ok(table.print(width)),
    }
}

/// Shows it once, or again and again until it is interrupted.
///
/// # Errors
/// If it cannot be printed.
pub fn run(root: Root, args: &TopArgs, out: &mut dyn Write, width: usize) -> Result<()> {
    let mut host = Host::read(root);
    if args.once || !host.root.is_real() {
        out.write_all(look(&host, None, args.json, width)?.as_bytes())?;
        return Ok(());
    }
    let pause = Duration::from_secs(args.seconds.max(1));
    let mut before = None;
    loop {
        let text = look(&host, before.as_ref(), args.json, width)?;
        if !args.json {
            // To the upper left corner, and nothing below.
            out.write_all(b"\x1b[H\x1b[J")?;
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
        before = Some((interrupts(&host.root), pause));
        sleep(pause);
        host = host.again();
    }
}
