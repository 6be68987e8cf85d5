// SPDX-License-Identifier: GPL-2.0
//! Resets that the user did not ask for, by an administrator through sysfs, under everything that
//! users do: they never meet a device that is off, and neither they nor the kernel come to harm.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::yield_now;

use nix::errno::Errno;
use vfio_client::config::{self, COMMAND_MEMORY};
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::*;
use vfio_client::{Device, Event};
use vfio_rs_selftests::race::{is_expected, race_while};
use vfio_rs_selftests::reset::{bridged, hot_reset, reset_bus_by_sysfs, reset_by_sysfs};
use vfio_rs_selftests::setup::{Bound, E1000E, IGB, Kind, Opened, PAGE, is_rust_stack, number};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, same, skip, suite};

/// A register of Intel's network adapters that is neither of the below: Device Status.
const STATUS: u64 = 8;
/// What is read where no device answers: on a real bus, and in QEMU.
const DEAD: [u32; 2] = [u32::MAX, 0];
/// Capability: PCI Express, and its offset of Device Control with the bit that resets the function.
const CAP_EXPRESS: u8 = 0x10;
const DEVCTL: u64 = 8;
const DEVCTL_FLR: u16 = 0x8000;

/// An open device with memory enabled; skips on C.
fn open(kind: Kind) -> Result<Opened> {
    if !is_rust_stack() {
        skip!("C lets users reach a device in a reset, and the kernel oops");
    }
    let opened = kind.open()?;
    opened.device.config()?.update_command(0, COMMAND_MEMORY)?;
    Ok(opened)
}

fn resets() -> Result<u64> {
    number("VFIO_RS_RESETS", 10)
}

/// Resets the device over and over while `bodies` run.
fn under_resets(rounds: u64, pci: &PciDevice, bodies: &[&(dyn Fn() -> bool + Sync)]) -> Outcome {
    let mut result = Ok(());
    let end = || result = (0..rounds).try_for_each(|_| reset_by_sysfs(pci));
    ensure!(race_while(end, bodies), "a user came to harm");
    result.context("reset")
}

fn nobody_meets_a_dead_device() -> Outcome {
    for kind in [E1000E, IGB] {
        let opened = open(kind)?;
        let device = &opened.device;
        let (bar, config) = (device.region(0)?, device.config()?);
        let map = device.mmap(&bar, 0, PAGE as usize)?;
        let seen = AtomicU64::new(0);
        let alive = |value: std::io::Result<u32>| {
            seen.fetch_add(1, Ordering::Relaxed);
            value.is_ok_and(|value| !DEAD.contains(&value))
        };
        let whole = || {
            let mut space = [0; PAGE as usize];
            let read = device.read(config.region(), 0, &mut space);
            read.is_ok() && space[..2] == kind.id.0.to_ne_bytes()
        };
        under_resets(
            resets()?,
            &opened.bound.pci,
            &[
                &|| alive(Ok(map.read32(STATUS as usize))),
                &|| alive(device.read32(&bar, STATUS)),
                &|| alive(config.read32(config::VENDOR)),
                &|| config.read8(config::VENDOR).ok() == Some(kind.id.0 as u8),
                &whole,
            ],
        )?;
        let seen = seen.load(Ordering::Relaxed);
        ensure!(seen > 3 * resets()?, "hardly anything was read");
        let command = config.read16(config::COMMAND)?;
        same("memory", command & COMMAND_MEMORY, COMMAND_MEMORY)?;
        ensure!(alive(Ok(map.read32(STATUS as usize))), "the map is dead");
    }
    Ok(())
}

fn resets_reset() -> Outcome {
    /// VLAN ether type: an ordinary register, kept until a reset.
    const VET: u64 = 0x38;
    let opened = open(IGB)?;
    let bar = opened.device.region(0)?;
    opened.device.write32(&bar, VET, 0x1234)?;
    reset_by_sysfs(&opened.bound.pci)?;
    ensure!(opened.device.read32(&bar, VET)? != 0x1234, "not reset");
    Ok(())
}

/// Switches interrupts of a kind on and off.
fn toggle(device: &Device, index: u32, events: &[Event]) -> bool {
    let fds: Vec<_> = events.iter().map(AsRawFd::as_raw_fd).collect();
    device.enable_irqs(index, &fds).is_ok_and(|n| n == 0) && device.disable_irqs(index).is_ok()
}

fn interrupts_come_and_go() -> Outcome {
    for (kind, index, count) in [
        (E1000E, VFIO_PCI_MSI_IRQ_INDEX, 1),
        (IGB, VFIO_PCI_MSIX_IRQ_INDEX, 3),
        (E1000E, VFIO_PCI_INTX_IRQ_INDEX, 1),
    ] {
        let opened = open(kind)?;
        let events = vfio_rs_selftests::irq::events(count)?;
        let device = &opened.device;
        // The kernel's loop over the vectors is short.
        let rounds = 3 * resets()?;
        under_resets(
            rounds,
            &opened.bound.pci,
            &[&|| toggle(device, index, &events)],
        )?;
        ensure!(toggle(device, index, &events), "interrupts are gone");
    }
    Ok(())
}

fn against_its_users_own_resets() -> Outcome {
    let opened = open(IGB)?;
    let (device, group) = (&opened.device, &opened.group);
    let config = device.config()?;
    let express = config.find_cap(CAP_EXPRESS)?.context("no PCI Express")?;
    let control = config.read16(express + DEVCTL)? & !DEVCTL_FLR;
    // Who finds the device locked is told so.
    let locked = [Errno::EAGAIN];
    under_resets(
        resets()?,
        &opened.bound.pci,
        &[
            &|| is_expected(device.reset(), &locked),
            &|| is_expected(hot_reset(device, &[group]), &locked),
            &|| {
                config
                    .write16(express + DEVCTL, control | DEVCTL_FLR)
                    .is_ok()
            },
            &|| config.read8(config::VENDOR).ok() == Some(IGB.id.0 as u8),
            &|| config.update_command(0, COMMAND_MEMORY).is_ok(),
        ],
    )?;
    device.reset().context("reset")?;
    hot_reset(device, &[group]).context("hot reset")?;
    same("vendor", config.read16(config::VENDOR)?, IGB.id.0)
}

fn open_and_close() -> Outcome {
    let opened = open(E1000E)?;
    let Opened {
        device,
        group,
        bound,
        ..
    } = &opened;
    let again = || is_expected(group.device(&bound.pci.address), &[Errno::EAGAIN]);
    under_resets(resets()?, &bound.pci, &[&again])?;
    same(
        "vendor",
        device.config()?.read16(config::VENDOR)?,
        E1000E.id.0,
    )
}

fn first_open_and_last_close() -> Outcome {
    if !is_rust_stack() {
        skip!("not the fault of C");
    }
    let bound = E1000E.bind()?;
    let (_container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let once = || match group.device(&bound.pci.address) {
        Ok(device) => device
            .config()
            .and_then(|config| config.read16(config::VENDOR))
            .is_ok_and(|vendor| vendor == E1000E.id.0),
        Err(e) => e.raw_os_error() == Some(libc::EAGAIN),
    };
    under_resets(resets()?, &bound.pci, &[&once])?;
    ensure!(once(), "it cannot be opened any more");
    Ok(())
}

/// One reset prepares both devices before it is done with the first.
fn of_a_bus() -> Outcome {
    if !is_rust_stack() {
        skip!("C lets users reach a device in a reset");
    }
    let members = bridged()?;
    for member in &members {
        member.bind_vfio()?;
    }
    let opened = Bound::new(members[0].clone())?.open()?;
    let other = opened.group.device(&members[1].address)?;
    let mut devices = Vec::new();
    for device in [&opened.device, &other] {
        device.config()?.update_command(0, COMMAND_MEMORY)?;
        let bar = device.region(0)?;
        let map = device.mmap(&bar, 0, PAGE as usize)?;
        devices.push((device, bar, map));
    }
    // Edu's first register tells what it is.
    let id = devices[0].2.read32(0);
    let [(one, one_bar, one_map), (two, two_bar, two_map)] = &devices[..] else {
        unreachable!("there are two");
    };
    let (rounds, mut result) = (resets()?, Ok(()));
    // The bus is locked by trying only, which the hot resets do as well.
    let reset = || loop {
        match reset_bus_by_sysfs(&members[0]) {
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => yield_now(),
            other => break other,
        }
    };
    let end = || result = (0..rounds).try_for_each(|_| reset());
    let is_id = |value: std::io::Result<u32>| value.is_ok_and(|value| value == id);
    let bodies: [&(dyn Fn() -> bool + Sync); 5] = [
        &|| one_map.read32(0) == id && two_map.read32(0) == id,
        &|| is_id(one.read32(one_bar, 0)),
        &|| is_id(two.read32(two_bar, 0)),
        &|| is_expected(hot_reset(one, &[&opened.group]), &[Errno::EAGAIN]),
        &|| is_expected(hot_reset(two, &[&opened.group]), &[Errno::EAGAIN]),
    ];
    ensure!(race_while(end, &bodies), "a user came to harm");
    result.context("reset")?;
    hot_reset(one, &[&opened.group]).context("hot reset")
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    nobody_meets_a_dead_device,
    resets_reset,
    interrupts_come_and_go,
    against_its_users_own_resets,
    open_and_close,
    first_open_and_last_close,
    of_a_bus,
);
