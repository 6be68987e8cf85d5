// SPDX-License-Identifier: GPL-2.0
//! Checks of the machine.

use super::{Check, Level};
use crate::faults;
use crate::host::Host;
use crate::machine::Stack;
use crate::root::Root;
use crate::verdict::{Remapping, parameter, remapping};

const BOOT: &str = "read Documentation/howto/boot.rst";

pub(super) fn all(host: &Host) -> Vec<Check> {
    let root = &host.root;
    let mut checks = vec![
        stack(host),
        signature(root, host.machine.stack),
        iommu(host),
        translation(host),
        interrupts(root),
        no_iommu(root),
        container_node(root, host.machine.stack),
        kvm(root),
    ];
    checks.extend(log(root));
    checks
}

/// Whether there is a VFIO, and which.
fn stack(host: &Host) -> Check {
    const NAME: &str = "vfio";
    let root = &host.root;
    match host.machine.stack {
        Stack::Ours => {
            let version = root.text("sys/module/vfio_rs/version").unwrap_or_default();
            Check::pass(
                NAME,
                format!("this project's modules are loaded {version}").trim_end(),
            )
        }
        Stack::Linux => Check::pass(NAME, "the modules that come with Linux are loaded"),
        Stack::None => {
            let release = root.text("proc/sys/kernel/osrelease").unwrap_or_default();
            let list = |file: &str| root.text(&format!("lib/modules/{release}/{file}"));
            let lists =
                ["modules.dep", "modules.builtin"].map(|file| list(file).unwrap_or_default());
            match lists.iter().any(|list| list.contains("/vfio-pci.ko")) {
                true => Check::warn(NAME, "no VFIO is loaded yet", "modprobe vfio-pci"),
                false if lists.iter().all(String::is_empty) => Check::unknown(
                    NAME,
                    "no VFIO is loaded; the kernel's modules are not to be seen",
                ),
                false => Check::fail(
                    NAME,
                    format!("the kernel {release} has no VFIO"),
                    "read Documentation/building.rst",
                ),
            }
        }
    }
}

/// Whether a module that is not signed is kept out.
fn signature(root: &Root, stack: Stack) -> Check {
    const NAME: &str = "signature";
    let lockdown = root
        .text("sys/kernel/security/lockdown")
        .unwrap_or_default();
    let mode = lockdown
        .split('[')
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    let taint = root.text("sys/module/vfio_rs/taint").unwrap_or_default();
    match (mode, stack) {
        (_, Stack::Ours) if taint.contains('E') => {
            Check::pass(NAME, "the modules are not signed, and loaded all the same")
        }
        (Some(mode), Stack::None) if mode != "none" => Check::warn(
            NAME,
            format!("the kernel is locked down ({mode}): it loads signed modules only"),
            "install vfio-rs-dkms, which signs, and enroll its key: mokutil --import",
        ),
        (Some(mode), _) => Check::pass(NAME, format!("lockdown: {mode}")),
        (None, _) => Check::pass(NAME, "the kernel does not ask for signatures"),
    }
}

/// Whether an IOMMU is in use: there are groups.
fn iommu(host: &Host) -> Check {
    const NAME: &str = "iommu";
    let root = &host.root;
    let groups = host.machine.groups().len();
    let units = root.names("sys/class/iommu");
    if groups > 0 {
        let units = match units.is_empty() {
            true => String::new(),
            false => format!(" by {}", units.join(", ")),
        };
        return Check::pass(NAME, format!("{groups} groups{units}"));
    }
    let table = |name: &str| root.exists(&format!("sys/firmware/acpi/tables/{name}"));
    let why = match (
        table("DMAR"),
        table("IVRS"),
        table("VIOT"),
        units.is_empty(),
    ) {
        (.., false) => "there is an IOMMU, but no device behind it: it is switched off",
        (true, ..) => "the firmware offers VT-d, but the kernel does not use it",
        (_, true, ..) => "the firmware offers AMD-Vi, but the kernel does not use it",
        (_, _, true, _) => "the firmware offers a virtual IOMMU, but the kernel does not use it",
        _ => "no device has an IOMMU: none in the machine, or it is off in the firmware",
    };
    Check::fail(NAME, why, BOOT)
}

/// What the IOMMU does for the host's own devices: no matter for assigned ones.
fn translation(host: &Host) -> Check {
    const NAME: &str = "translation";
    let groups = host.machine.groups();
    let kind = |group: &u32| {
        host.root
            .text(&format!("sys/kernel/iommu_groups/{group}/type"))
    };
    let kinds: Vec<_> = groups.keys().filter_map(kind).collect();
    if kinds.is_empty() {
        return Check::unknown(
            NAME,
            "the kernel does not say how the host's DMA is translated",
        );
    }
    match kinds.iter().filter(|kind| *kind == "identity").count() {
        0 => Check::pass(NAME, "the host's own DMA is translated, too"),
        some => Check::pass(
            NAME,
            format!("the host's own DMA is not translated in {some} groups; assigned devices' is"),
        ),
    }
}

fn interrupts(root: &Root) -> Check {
    const NAME: &str = "interrupts";
    let allowed = parameter(root, "vfio_iommu_type1", "allow_unsafe_interrupts");
    match (remapping(root), allowed) {
        (Remapping::On, Some(true)) => Check::warn(
            NAME,
            "remapped; allow_unsafe_interrupts is on and not needed",
            "echo N > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
        ),
        (Remapping::On, _) => Check::pass(NAME, "remapped: no device can raise another's"),
        (Remapping::Off, Some(true)) => Check::warn(
            NAME,
            "not remapped: a user's device can raise any, which allow_unsafe_interrupts accepts",
            "switch interrupt remapping on in the firmware",
        ),
        (Remapping::Off, _) => Check::fail(
            NAME,
            "not remapped: groups are refused, as a user's device could raise any",
            "switch interrupt remapping on in the firmware; `vfio-rs explain remapping`",
        ),
        (Remapping::Unknown, _) => Check::unknown(
            NAME,
            "whether they are isolated cannot be told on this machine",
        ),
    }
}

fn no_iommu(root: &Root) -> Check {
    const NAME: &str = "no-iommu";
    match parameter(root, "vfio", "enable_unsafe_noiommu_mode") {
        Some(true) => Check::warn(
            NAME,
            "devices without an IOMMU may be used: their DMA goes anywhere",
            "echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
        ),
        _ => Check::pass(NAME, "devices without an IOMMU are kept from users"),
    }
}

fn container_node(root: &Root, stack: Stack) -> Check {
    const NAME: &str = "node";
    match root.owner("dev/vfio/vfio") {
        Some(owner) if owner.mode & 0o006 == 0o006 => {
            Check::pass(NAME, "/dev/vfio/vfio is open to all, as it should be")
        }
        Some(owner) => Check::warn(
            NAME,
            format!(
                "/dev/vfio/vfio has mode {:03o}: others than its owner cannot use it",
                owner.mode
            ),
            "chmod 666 /dev/vfio/vfio",
        ),
        None if stack == Stack::None => {
            Check::unknown(NAME, "no /dev/vfio/vfio before VFIO is loaded")
        }
        None => Check::fail(NAME, "there is no /dev/vfio/vfio", "modprobe vfio"),
    }
}

fn kvm(root: &Root) -> Check {
    match root.owner("dev/kvm").is_some() {
        true => Check::pass("kvm", "there is /dev/kvm, for guests"),
        false => Check::warn(
            "kvm",
            "no /dev/kvm: guests are emulated; DPDK and SPDK do without",
            "modprobe kvm_intel or kvm_amd; is virtualization on in the firmware?",
        ),
    }
}

/// What the log has of late.
fn log(root: &Root) -> Vec<Check> {
    let lines = root.log();
    if lines.is_empty() {
        return vec![Check::unknown(
            "log",
            "the kernel's log cannot be read; root can",
        )];
    }
    let last = |fits: &dyn Fn(&str) -> bool| lines.iter().rev().find(|line| fits(&line.text));
    let refused = last(&|text| text.contains("refused to a container"));
    let denied = last(&|text| {
        (text.contains("apparmor=\"DENIED\"") || text.contains("avc:  denied"))
            && text.contains("vfio")
    });
    let faults = faults::parse(&lines);
    let fault = faults.iter().rev().find(|fault| fault.is_dma());
    let aer = faults.iter().rev().find(|fault| !fault.is_dma());
    let found = |name, line: Option<String>, none: &str, run: &str| match line {
        Some(text) => Check::warn(name, text, run),
        None => Check::new(name, Level::Pass, none),
    };
    vec![
        found(
            "refusals",
            refused.map(|line| format!("the last group that was refused: {}", line.text)),
            "the log has no group that was refused",
            "dmesg | grep vfio_rs",
        ),
        found(
            "faults",
            fault.map(|fault| format!("the last of {}: {}", faults.len(), fault.text)),
            "the log has no DMA that was refused",
            "vfio-rs faults",
        ),
        found(
            "errors",
            aer.map(|fault| fault.text.clone()),
            "the log has no errors of PCI Express",
            "vfio-rs faults",
        ),
        found(
            "security",
            denied.map(|line| line.text.clone()),
            "the log has nothing of VFIO that AppArmor or SELinux refused",
            "a rule for the client: aa-logprof, or audit2allow",
        ),
    ]
}
