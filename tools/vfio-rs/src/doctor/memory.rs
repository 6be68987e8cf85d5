// SPDX-License-Identifier: GPL-2.0
//! Checks of what a client needs: room to lock memory, mappings, huge pages.

use anyhow::Result;

use super::Check;
use crate::cli::{Client, DoctorArgs};
use crate::errors::Stop;
use crate::host::Host;
use crate::root::Root;
use crate::text::size;

/// What libvirt adds for the memory of devices and firmware.
const BESIDE_GUEST: u64 = 1 << 30;
/// Without it there is a limit: the bit of CAP_IPC_LOCK.
const IPC_LOCK: u64 = 1 << 14;

pub(super) fn all(host: &Host, args: &DoctorArgs) -> Result<Vec<Check>> {
    let wanted = args.mem.as_deref().map(parse_size).transpose()?;
    let mut checks = Vec::new();
    let need = wanted.map(|mem| match args.client {
        Some(Client::Dpdk | Client::Spdk) => mem,
        Some(Client::Qemu) | None => mem.saturating_add(BESIDE_GUEST),
    });
    checks.push(memlock(&host.root, need));
    if let Some(mem) = wanted {
        checks.push(available(&host.root, mem));
    }
    if matches!(args.client, Some(Client::Dpdk | Client::Spdk)) {
        checks.extend([huge_pages(&host.root, wanted), mappings(&host.root, wanted)]);
    }
    Ok(checks)
}

/// `16G` or `512M`.
fn parse_size(text: &str) -> Result<u64> {
    let bad = || Stop::Usage(format!("{text}: no size; as in 512M or 16G"));
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..]
        .to_ascii_uppercase()
        .trim_end_matches("IB")
    {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(bad().into()),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    Ok(number.checked_mul(1 << shift).ok_or_else(bad)?)
}

/// How much the process may lock; `None` is without limit.
pub(crate) fn locked_limit(root: &Root, process: &str) -> Option<Option<u64>> {
    let text = root.text(&format!("proc/{process}/limits"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))?;
    let soft = line.split_whitespace().next()?;
    match soft {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

fn may_lock_all(root: &Root) -> bool {
    let status = root.text("proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    bits.is_some_and(|bits| bits & IPC_LOCK != 0)
}

/// The lines that raise the limit of `user` to `bytes`.
#[must_use]
pub(crate) fn limit_lines(user: &str, bytes: u64) -> String {
    let kib = bytes.div_ceil(1024);
    format!(
        "echo \"{user} - memlock {kib}\" > /etc/security/limits.d/vfio-{user}.conf\n\
         # and log in again; for a service: LimitMEMLOCK={bytes}"
    )
}

fn memlock(root: &Root, need: Option<u64>) -> Check {
    const NAME: &str = "memlock";
    if may_lock_all(root) {
        return Check::pass(NAME, "this process may lock all memory (CAP_IPC_LOCK)");
    }
    let Some(limit) = locked_limit(root, "self") else {
        return Check::unknown(NAME, "no limits are to be seen");
    };
    let user = "$USER";
    match (limit, need) {
        (None, _) => Check::pass(NAME, "no limit"),
        (Some(limit), Some(need)) if limit < need => Check::fail(
            NAME,
            format!(
                "this process may lock {}, but {} are needed",
                size(limit),
                size(need)
            ),
            limit_lines(user, need).lines().next().unwrap_or_default(),
        ),
        (Some(limit), Some(need)) => Check::pass(
            NAME,
            format!("{} may be locked, {} are needed", size(limit), size(need)),
        ),
        (Some(limit), None) => {
            let text = format!(
                "{} may be locked; --mem says how much is needed",
                size(limit)
            );
            match limit < 64 << 20 {
                true => Check::warn(NAME, text, "vfio-rs doctor --mem 4G"),
                false => Check::pass(NAME, text),
            }
        }
    }
}

fn available(root: &Root, mem: u64) -> Check {
    const NAME: &str = "free";
    let text = root.text("proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    match kib.map(|kib| kib * 1024) {
        None => Check::unknown(NAME, "how much memory is free is not to be seen"),
        Some(free) if free < mem => Check::fail(
            NAME,
            format!(
                "{} are free; all memory that is mapped stays in memory",
                size(free)
            ),
            "give the client less",
        ),
        Some(free) => Check::pass(NAME, format!("{} are free", size(free))),
    }
}

fn huge_pages(root: &Root, wanted: Option<u64>) -> Check {
    const NAME: &str = "hugepages";
    let dir = "sys/kernel/mm/hugepages";
    let mut free = 0;
    for name in root.names(dir) {
        let kib = name
            .strip_prefix("hugepages-")
            .and_then(|rest| rest.strip_suffix("kB"));
        let kib: u64 = kib.and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let pages = root
            .number(&format!("{dir}/{name}/free_hugepages"))
            .unwrap_or(0);
        free += kib * 1024 * u64::try_from(pages).unwrap_or(0);
    }
    let need = wanted.unwrap_or(1 << 30);
    match free >= need {
        true => Check::pass(NAME, format!("{} are free", size(free))),
        false => Check::fail(
            NAME,
            format!("{} are free, {} are needed", size(free), size(need)),
            format!("sysctl vm.nr_hugepages={}", need.div_ceil(2 << 20)),
        ),
    }
}

/// Without huge pages each page can be a mapping.
fn mappings(root: &Root, wanted: Option<u64>) -> Check {
    const NAME: &str = "mappings";
    let limit = root.number("sys/module/vfio_iommu_type1/parameters/dma_entry_limit");
    let Some(limit) = limit.and_then(|limit| u64::try_from(limit).ok()) else {
        return Check::unknown(
            NAME,
            "how many a container may have is known when VFIO is loaded",
        );
    };
    let small = limit.saturating_mul(4096);
    match wanted.is_some_and(|mem| mem > small) {
        true => Check::warn(
            NAME,
            format!(
                "a container may have {limit}: {} in small pages, more in huge ones",
                size(small)
            ),
            "do not run it with --no-huge",
        ),
        false => Check::pass(NAME, format!("a container may have {limit}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_the_command_line() -> Result<()> {
        let all = ["16G", "512M", "4096", "2GiB", "1t"];
        let parsed = all.map(|text| parse_size(text).unwrap_or(0));
        assert_eq!(parsed, [16 << 30, 512 << 20, 4096, 2 << 30, 1 << 40]);
        for wrong in ["", "G", "1X", "-1", "99999999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn lines_to_paste() {
        let lines = limit_lines("alice", 4 << 30);
        let first = lines.lines().next().unwrap_or_default();
        let want = "echo \"alice - memlock 4194304\" > /etc/security/limits.d/vfio-alice.conf";
        assert_eq!(first, want);
    }
}
