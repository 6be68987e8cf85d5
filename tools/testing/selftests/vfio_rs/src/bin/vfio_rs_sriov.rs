// SPDX-License-Identifier: GPL-2.0
//! Virtual functions made through vfio-pci: who drives them, how they go, what they look like.

use std::fs;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use vfio_client::Event;
use vfio_client::config::{BAR0, COMMAND, COMMAND_MASTER, COMMAND_MEMORY, DEVICE, VENDOR};
use vfio_client::sysfs::{PciDevice, VFIO_PCI};
use vfio_client::uapi::*;
use vfio_rs_selftests::irq::by_hand;
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::process::{self, Child};
use vfio_rs_selftests::setup::{
    Bound, GLANCE, IGB, PATIENCE, is_rust_stack, read_trimmed, slowness,
};
use vfio_rs_selftests::sriov::{Joined, Vfs, allow, set_count};
use vfio_rs_selftests::{Outcome, Result, ensure, errno, same, skip, suite};

const TOKEN: &str = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";
const MSIX: u32 = VFIO_PCI_MSIX_IRQ_INDEX;
/// igb's virtual functions.
const VF_ID: (u16, u16) = (0x8086, 0x10ca);

fn not_without_the_parameter() -> Outcome {
    let pf = IGB.bind()?.pci;
    errno("one", set_count(&pf, "1"), Errno::ENOENT)?;
    let allowed = allow()?;
    set_count(&pf, "1")?;
    drop(allowed);
    // Not even taken back.
    let refused = set_count(&pf, "0");
    let allowed = allow()?;
    set_count(&pf, "0")?;
    errno("none", refused, Errno::ENOENT)?;
    drop(allowed);
    Ok(())
}

fn counts() -> Outcome {
    let made = Vfs::new(2)?;
    let pf = &made.pf.pci;
    errno("other than two", set_count(pf, "3"), Errno::EBUSY)?;
    errno("too many", set_count(pf, "9"), Errno::ERANGE)?;
    errno("no number", set_count(pf, "x"), Errno::EINVAL)?;
    set_count(pf, "2")?;
    let shown = read_trimmed(&format!("{}/sriov_numvfs", pf.path().display()))?;
    same("sriov_numvfs", shown.as_str(), "2")?;
    set_count(pf, "0")?;
    same("functions after", pf.virtual_functions().len(), 0)?;
    ensure!(
        !made.vfs[0].path().exists(),
        "{} stays",
        made.vfs[0].address
    );
    // As often as one likes, up to the device's limit.
    let most = if slowness() > 1 { 3 } else { 7 };
    set_count(pf, &most.to_string())?;
    same("functions", pf.virtual_functions().len(), most)
}

fn same_driver_and_own_group() -> Outcome {
    let mut log = Kmsg::now()?;
    let made = Vfs::new(3)?;
    let lines = log.lines()?;
    let mut groups = vec![made.pf.group];
    for vf in &made.vfs {
        same("id", vf.id(), Some(VF_ID))?;
        same("driver", vf.driver().as_deref(), Some(VFIO_PCI))?;
        let path = format!("{}/driver_override", vf.path().display());
        same("override", read_trimmed(&path)?.as_str(), VFIO_PCI)?;
        let text = format!(
            "vfio-pci {}: Captured SR-IOV VF {} driver_override",
            made.pf.pci.address, vf.address
        );
        ensure!(lines.contains(&text), "no log line '{text}': {lines:#?}");
        let group = vf.group();
        ensure!(group.is_some(), "{} has no group", vf.address);
        groups.extend(group);
    }
    let count = groups.len();
    groups.sort_unstable();
    groups.dedup();
    same("groups", groups.len(), count)
}

fn other_driver_is_noted() -> Outcome {
    let made = Vfs::new(1)?;
    let vf = &made.vfs[0];
    vf.release()?;
    if vfio_rs_selftests::modules::modprobe(&["pci-stub"]).is_err() {
        skip!("no pci-stub");
    }
    let mut log = Kmsg::now()?;
    vf.bind_to("pci-stub")?;
    log.expect(&format!(
        "vfio-pci {}: VF {} bound to driver pci-stub while PF bound to driver vfio-pci",
        made.pf.pci.address, vf.address
    ))
}

/// Runs `f` in a process that holds none of `fds`, as it blocks until they are closed.
fn aside(fds: &[i32], f: impl FnOnce() -> std::io::Result<()>) -> Result<Child> {
    process::spawn(|| {
        for fd in fds {
            // SAFETY: the child's copies, which it never uses.
            unsafe { libc::close(*fd) };
        }
        f().is_err().into()
    })
}

/// `take_away` must ask the user of a virtual function, wait for them, and do what it says.
fn waits_for_users(take_away: impl Fn(&PciDevice) -> std::io::Result<()>) -> Outcome {
    let made = Vfs::new(2)?;
    let joined = made.join(&made.vfs[1])?;
    let pf = Joined::new(&made.pf.pci)?;
    let pf_device = pf.open_with(TOKEN)?;
    let device = joined.open_with(TOKEN)?;
    let request = Event::new()?;
    device.enable_irqs(VFIO_PCI_REQ_IRQ_INDEX, &[request.as_raw_fd()])?;
    let fds = [
        device.as_raw_fd(),
        joined.group.as_raw_fd(),
        joined.container.as_raw_fd(),
        pf_device.as_raw_fd(),
        pf.group.as_raw_fd(),
        pf.container.as_raw_fd(),
    ];
    let mut child = aside(&fds, || take_away(&made.pf.pci))?;
    ensure!(
        request.wait(PATIENCE * slowness())?.is_some(),
        "the user is not asked to let go"
    );
    std::thread::sleep(GLANCE);
    ensure!(child.try_wait()?.is_none(), "a function in use went");
    drop(device);
    drop(pf_device);
    child.ended_well("status")?;
    same("functions after", made.pf.pci.virtual_functions().len(), 0)
}

fn removal_waits_for_users() -> Outcome {
    waits_for_users(|pf| set_count(pf, "0"))
}

fn unbinding_the_physical_function_removes_them() -> Outcome {
    if slowness() > 1 {
        // In sriov_disable(), that it is called without pci_rescan_remove_lock, which a driver
        // cannot take: its removal may be called with it.
        skip!("lockdep complains about the PCI core, with every driver");
    }
    waits_for_users(PciDevice::unbind)
}

/// The groups of two that joined each other go with them, the leader's first.
fn they_join_each_other_and_go() -> Outcome {
    if !is_rust_stack() {
        skip!("groups cannot join others");
    }
    let made = Vfs::new(2)?;
    let pf = Joined::new(&made.pf.pci)?;
    let pf_device = pf.open_with(TOKEN)?;
    let leader = made.join(&made.vfs[0])?;
    let other = Bound::new(made.vfs[1].clone())?.open_group()?;
    leader.group.merge(&other)?;
    let name = format!("{} vf_token={TOKEN}", made.vfs[1].address);
    let device = leader.group.device(&name)?;
    let request = Event::new()?;
    device.enable_irqs(VFIO_PCI_REQ_IRQ_INDEX, &[request.as_raw_fd()])?;
    let fds = [
        device.as_raw_fd(),
        other.as_raw_fd(),
        leader.group.as_raw_fd(),
        leader.container.as_raw_fd(),
        pf_device.as_raw_fd(),
        pf.group.as_raw_fd(),
        pf.container.as_raw_fd(),
    ];
    let mut child = aside(&fds, || set_count(&made.pf.pci, "0"))?;
    let asked = request.wait(PATIENCE * slowness())?;
    ensure!(asked.is_some(), "the user is not asked to let go");
    drop(device);
    child.ended_well("status")?;
    for (what, group) in [("the leader", &leader.group), ("the other", &other)] {
        errno(what, group.status(), Errno::ENODEV)?;
    }
    same("functions after", made.pf.pci.virtual_functions().len(), 0)
}

fn physical_function_with_others_is_refused() -> Outcome {
    let pf = IGB.find()?;
    IGB.load_host_driver()?;
    pf.restore()?;
    let Some("igb") = pf.driver().as_deref() else {
        skip!("igb does not take it")
    };
    set_count(&pf, "1")?;
    let vfs = pf.virtual_functions();
    let result = (|| {
        let vf = vfs.first().cloned().unwrap_or_else(|| PciDevice::at("-"));
        vf.bind_vfio()?;
        let joined = Joined::new(&vf)?;
        // Nobody knows a token.
        errno("with a token", joined.open_with(TOKEN), Errno::EINVAL)?;
        let device = joined.open("")?;
        same("id", device.config()?.read16(DEVICE)?, VF_ID.1)?;
        drop(device);
        drop(joined);
        vf.release()?;
        Ok(())
    })();
    set_count(&pf, "0")?;
    result
}

fn config_space() -> Outcome {
    let made = Vfs::new(1)?;
    let pf = Joined::new(&made.pf.pci)?;
    let _pf_device = pf.open_with(TOKEN)?;
    let joined = made.join(&made.vfs[0])?;
    let device = joined.open_with(TOKEN)?;
    let config = device.config()?;
    // In the function itself these read as all ones.
    same("vendor", config.read16(VENDOR)?, VF_ID.0)?;
    same("device", config.read16(DEVICE)?, VF_ID.1)?;
    same("both", config.read32(VENDOR)?, 0x10ca_8086)?;
    same("pin", config.read8(0x3d)?, 0)?;
    same("INTx", device.irq_info(VFIO_PCI_INTX_IRQ_INDEX)?.count, 0)?;
    same("MSI-X", device.irq_info(MSIX)?.count, 3)?;
    // Its memory is always on: it has no such bit, but shows one.
    config.update_command(COMMAND_MEMORY, 0)?;
    same("memory", config.read16(COMMAND)? & COMMAND_MEMORY, 0)?;
    config.update_command(0, COMMAND_MEMORY | COMMAND_MASTER)?;
    let wanted = COMMAND_MEMORY | COMMAND_MASTER;
    same("command", config.read16(COMMAND)? & wanted, wanted)?;
    // What the BARs are comes from the physical function.
    let resources = fs::read_to_string(made.vfs[0].path().join("resource"))?;
    for (bar, line) in resources.lines().take(6).enumerate() {
        let ends: Vec<_> = line
            .split_whitespace()
            .filter_map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok())
            .collect();
        let (start, end, flags) = (ends[0], ends[1], ends[2]);
        let size = if start == 0 { 0 } else { end - start + 1 };
        let region = device.region(bar as u32)?;
        same(&format!("size of BAR {bar}"), region.size, size)?;
        if size == 0 {
            continue;
        }
        let at = BAR0 + 4 * bar as u64;
        let kind = flags as u32 & 0xf;
        // The function's own register holds no address.
        same("at first", config.read32(at)?, kind)?;
        config.write32(at, u32::MAX)?;
        same("mask", config.read32(at)?, !(size as u32 - 1) | kind)?;
        config.write32(at, start as u32)?;
        same("address", config.read32(at)?, start as u32 | kind)?;
    }
    Ok(())
}

fn msix_by_hand() -> Outcome {
    let made = Vfs::new(2)?;
    let pf = Joined::new(&made.pf.pci)?;
    let _pf_device = pf.open_with(TOKEN)?;
    for vf in &made.vfs {
        let device = made.join(vf)?.open_with(TOKEN)?;
        by_hand(&device, MSIX, 3)?;
    }
    Ok(())
}

fn reset() -> Outcome {
    let made = Vfs::new(1)?;
    let joined = made.join(&made.vfs[0])?;
    let pf = Joined::new(&made.pf.pci)?;
    let _pf_device = pf.open_with(TOKEN)?;
    let device = joined.open_with(TOKEN)?;
    ensure!(device.can_reset()?, "no reset of its own");
    device.config()?.update_command(0, COMMAND_MASTER)?;
    device.reset()?;
    same("vendor", device.config()?.read16(VENDOR)?, VF_ID.0)
}

fn physical_function_stays_awake() -> Outcome {
    let made = Vfs::new(1)?;
    let pf = Joined::new(&made.pf.pci)?;
    let device = pf.open_with(TOKEN)?;
    let config = device.config()?;
    let Some(pm) = config.find_cap(1)? else {
        skip!("no power management capability");
    };
    let control = pm + 4;
    config.write16(control, 3)?;
    let bar = device.region(VFIO_PCI_BAR0_REGION_INDEX)?;
    // It would not answer asleep.
    config.update_command(0, COMMAND_MEMORY)?;
    device.read32(&bar, 8)?;
    set_count(&made.pf.pci, "0")?;
    config.write16(control, 0)?;
    config.write16(control, 3)?;
    ensure!(device.read32(&bar, 8).is_err(), "it is not asleep");
    config.write16(control, 0)?;
    Ok(())
}

fn wakes_the_physical_function() -> Outcome {
    let bound = IGB.bind()?;
    let _allowed = allow()?;
    let pf = Joined::new(&bound.pci)?;
    let device = pf.open("")?;
    let config = device.config()?;
    config.update_command(0, COMMAND_MEMORY)?;
    let Some(pm) = config.find_cap(1)? else {
        skip!("no power management capability");
    };
    config.write16(pm + 4, 3)?;
    let bar = device.region(VFIO_PCI_BAR0_REGION_INDEX)?;
    ensure!(device.read32(&bar, 8).is_err(), "it is not asleep");
    set_count(&bound.pci, "1")?;
    let awake = device.read32(&bar, 8);
    set_count(&bound.pci, "0")?;
    awake?;
    Ok(())
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    not_without_the_parameter,
    counts,
    same_driver_and_own_group,
    other_driver_is_noted,
    removal_waits_for_users,
    unbinding_the_physical_function_removes_them,
    they_join_each_other_and_go,
    physical_function_with_others_is_refused,
    config_space,
    msix_by_hand,
    reset,
    physical_function_stays_awake,
    wakes_the_physical_function,
);
