// SPDX-License-Identifier: GPL-2.0
//! Whether a device can be handed to a user, and what is in the way: by the module's own rules, of
//! which this is the same file, applied to what sysfs shows. Where the module itself says something
//! (to root), that counts.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::kernel::KernelState;
use crate::machine::{Device, Machine, VFIO_PCI};
use crate::root::Root;
use crate::users::Users;

#[path = "../../../drivers/iommu_group/viability.rs"]
#[allow(unreachable_pub)] // It is the module's there.
mod viability;

pub(crate) use self::viability::Verdict;
use self::viability::{Circumstances, DeviceFacts, Holder, OwnedBy, Rules, first};

/// Drivers that declare that they leave DMA to others, beside those of VFIO. Only the kernel knows
/// which do; these are all of Linux 7.3 that are for PCI.
const MANAGED: [&str; 3] = [VFIO_PCI, "pci-stub", "pcieport"];

/// A verdict in one word, for a column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A user has it open.
    Open,
    /// A user can open it.
    Ready,
    /// It has no driver, and can be bound.
    Free,
    /// The host's driver has it.
    Host,
    /// It is free, but another device of its group is in the way.
    Group,
    /// It cannot be used.
    No,
    /// It is a bridge, and no matter.
    Bridge,
}

impl Mark {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ready => "ready",
            Self::Free => "free",
            Self::Host => "host",
            Self::Group => "group",
            Self::No => "no",
            Self::Bridge => "-",
        }
    }
}

/// What is to be said of a device.
#[derive(Debug, Clone, Copy)]
pub struct Judgement {
    pub(crate) verdict: Verdict,
    /// In one word.
    pub mark: Mark,
}

impl Judgement {
    /// In the words of the module.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.verdict.text()
    }

    /// The number of `enum vfio_viability_reason`.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.verdict.number()
    }
}

/// Whether interrupts are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remapping {
    /// They are.
    On,
    /// They are not.
    Off,
    /// No telling on this kind of machine.
    Unknown,
}

/// By the names of the interrupt chips, which is what the kernel does, not what it was asked to do.
#[must_use]
pub fn remapping(root: &Root) -> Remapping {
    let text = root.text("proc/interrupts").unwrap_or_default();
    let mut chips = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.find(|word| !word.bytes().all(|b| b.is_ascii_digit()))
    });
    // The fence is before the APICs: PCI devices come through IR-PCI-MSI and legacy ones through
    // IR-IO-APIC, which there is always.
    let mut x86 = false;
    let remapped = chips.any(|chip| {
        x86 |= chip == "IO-APIC" || chip == "PCI-MSI" || chip.starts_with("PCI-MSI");
        chip.starts_with("IR-")
    });
    match (remapped, x86) {
        (true, _) => Remapping::On,
        (false, true) => Remapping::Off,
        (false, false) => Remapping::Unknown,
    }
}

/// Whether a parameter of a module is on.
#[must_use]
pub fn parameter(root: &Root, module: &str, name: &str) -> Option<bool> {
    let text = root.text(&format!("sys/module/{module}/parameters/{name}"))?;
    Some(matches!(text.as_str(), "Y" | "1" | "y"))
}

/// The reserved regions of a group: first and last address, and their type.
#[must_use]
pub fn reserved(root: &Root, group: u32) -> Vec<(String, String, String)> {
    let text = root.text(&format!("sys/kernel/iommu_groups/{group}/reserved_regions"));
    let text = text.unwrap_or_default();
    let parse = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some((
            words.next()?,
            words.next()?,
            words.collect::<Vec<_>>().join(" "),
        ))
    };
    text.lines().filter_map(parse).collect()
}

/// The judgement on each device.
#[derive(Debug)]
pub struct Judgements {
    by_device: BTreeMap<Address, Judgement>,
    groups: BTreeMap<u32, &'static str>,
}

impl Judgements {
    /// Applies the rules.
    #[must_use]
    pub fn new(root: &Root, machine: &Machine, users: &Users, kernel: &KernelState) -> Self {
        let isolated = remapping(root) != Remapping::Off;
        let unsafe_interrupts =
            parameter(root, "vfio_iommu_type1", "allow_unsafe_interrupts").unwrap_or(false);
        let mut all = Self {
            by_device: BTreeMap::new(),
            groups: BTreeMap::new(),
        };
        for (group, members) in machine.groups() {
            let name = root.text(&format!("sys/kernel/iommu_groups/{group}/name"));
            let direct = reserved(root, group)
                .iter()
                .any(|(_, _, kind)| kind == "direct");
            let used = members
                .iter()
                .any(|d| users.of(d.address, Some(group)).next().is_some());
            let state = kernel.group(group);
            let owner = match state {
                Some(state) if state.owned_elsewhere => OwnedBy::Other,
                _ if used => OwnedBy::Us,
                _ => OwnedBy::Nobody,
            };
            let circumstances = Circumstances {
                has_iommu: name.as_deref() != Some("vfio-noiommu"),
                owner,
                unsafe_interrupts,
                was_busy: false,
            };
            let facts = |device: &&Device| DeviceFacts {
                holder: holder(device),
                wants_direct: direct && !device.is_bridge(),
                isolated_msi: isolated,
            };
            let rules = Rules::new(circumstances, members.iter().map(facts));
            let verdicts: Vec<_> = members
                .iter()
                .map(|device| said(kernel, device).unwrap_or_else(|| rules.verdict(facts(device))))
                .collect();
            let whole = first(verdicts.iter().copied());
            all.groups.insert(group, whole.text());
            for (device, verdict) in members.iter().zip(verdicts) {
                let open = users.of(device.address, None).next().is_some()
                    || used && device.has_vfio_driver && machine.companions(device).len() == 1;
                let mark = mark(device, verdict, whole, open);
                all.by_device
                    .insert(device.address, Judgement { verdict, mark });
            }
        }
        for device in machine
            .devices
            .iter()
            .filter(|device| device.group.is_none())
        {
            let verdict = Verdict::NoIommu;
            let mark = mark(device, verdict, verdict, false);
            all.by_device
                .insert(device.address, Judgement { verdict, mark });
        }
        all
    }

    /// The one on `device`.
    #[must_use]
    pub fn of(&self, device: &Device) -> Judgement {
        let unknown = Judgement {
            verdict: Verdict::NoIommu,
            mark: Mark::No,
        };
        self.by_device
            .get(&device.address)
            .copied()
            .unwrap_or(unknown)
    }

    /// What is in the way of a group, in words.
    #[must_use]
    pub fn group(&self, group: u32) -> &'static str {
        self.groups.get(&group).copied().unwrap_or_default()
    }
}

/// What the module itself says.
fn said(kernel: &KernelState, device: &Device) -> Option<Verdict> {
    const ALL: [Verdict; 7] = [
        Verdict::Viable,
        Verdict::Driver,
        Verdict::Owned,
        Verdict::ResvDirect,
        Verdict::NoIsolatedMsi,
        Verdict::Domain,
        Verdict::NoIommu,
    ];
    let words = kernel.verdict(device.address)?;
    ALL.into_iter().find(|verdict| verdict.text() == words)
}

fn holder(device: &Device) -> Holder {
    match &device.driver {
        None => Holder::Nobody,
        Some(_) if device.has_vfio_driver => Holder::Safe,
        Some(name) if MANAGED.contains(&name.as_str()) => Holder::Safe,
        Some(_) => Holder::Kernel,
    }
}

fn mark(device: &Device, verdict: Verdict, whole: Verdict, open: bool) -> Mark {
    if device.is_bridge() {
        return Mark::Bridge;
    }
    match verdict {
        Verdict::NoIommu | Verdict::ResvDirect | Verdict::NoIsolatedMsi | Verdict::Domain => {
            Mark::No
        }
        _ if open => Mark::Open,
        Verdict::Driver => Mark::Host,
        Verdict::Owned => Mark::Open,
        Verdict::Viable if whole != Verdict::Viable => Mark::Group,
        Verdict::Viable if device.has_vfio_driver => Mark::Ready,
        Verdict::Viable => Mark::Free,
    }
}
