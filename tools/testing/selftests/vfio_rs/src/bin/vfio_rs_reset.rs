// SPDX-License-Identifier: GPL-2.0
//! Resets of one function: by ioctl, by its own registers, under load; errors it reports; and what
//! the kernel's own drivers find after all that.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, yield_now};
use std::time::Instant;

use nix::errno::Errno;
use vfio_client::config::{self, COMMAND_MASTER, COMMAND_MEMORY};
use vfio_client::region::Region;
use vfio_client::uapi::*;
use vfio_client::{Device, Event, sys, sysfs};
use vfio_rs_selftests::qmp;
use vfio_rs_selftests::setup::{
    Bound, E1000E, GLANCE, IGB, Kind, NVME, Opened, PAGE, PATIENCE, VGA, has_pat, is_rust_stack,
    slowness,
};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite};

/// VLAN ether type of Intel's network adapters: an ordinary register, kept until a reset.
const VET: u64 = 0x38;
/// Capability: PCI Express, and its offset of Device Control with the bit that resets the function.
const CAP_EXPRESS: u8 = 0x10;
const DEVCTL: u64 = 8;
const DEVCTL_FLR: u16 = 0x8000;

fn open_with_memory(kind: Kind) -> Result<Opened> {
    let opened = kind.open()?;
    opened.device.config()?.update_command(0, COMMAND_MEMORY)?;
    Ok(opened)
}

fn by_its_own_register() -> Outcome {
    let opened = open_with_memory(IGB)?;
    let device = &opened.device;
    let (config, bar) = (device.config()?, device.region(0)?);
    let Some(cap) = config.find_cap(CAP_EXPRESS)? else {
        skip!("no PCI Express")
    };
    let mapping = device.mmap(&bar, 0, PAGE as usize)?;
    let bars: Vec<_> = (0..6)
        .map(|i| config.read32(0x10 + 4 * i))
        .collect::<Result<_, _>>()?;
    let control = config.read16(cap + DEVCTL)?;
    for _ in 0..3 {
        device.write32(&bar, VET, 0x1234)?;
        same("mapped", mapping.read32(VET as usize), 0x1234)?;
        config.write16(cap + DEVCTL, control | DEVCTL_FLR)?;
        same("control", config.read16(cap + DEVCTL)?, control)?;
        ensure!(device.read32(&bar, VET)? != 0x1234, "not reset");
        ensure!(mapping.read32(VET as usize) != 0x1234, "a stale map");
        let command = config.read16(config::COMMAND)?;
        same("memory", command & COMMAND_MEMORY, COMMAND_MEMORY)?;
        for (i, want) in (0..).zip(&bars) {
            same("BAR", config.read32(0x10 + 4 * i)?, *want)?;
        }
    }
    // With memory off it stays off.
    config.update_command(COMMAND_MEMORY, 0)?;
    config.write16(cap + DEVCTL, control | DEVCTL_FLR)?;
    errno("a read", device.read32(&bar, VET), Errno::EIO)
}

fn under_load() -> Outcome {
    const ROUNDS: u64 = 10;
    let opened = open_with_memory(IGB)?;
    let device = &opened.device;
    let bar = device.region(0)?;
    let map = || device.mmap(&bar, 0, PAGE as usize);
    let failed = AtomicBool::new(false);
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    // C does not wait for a read.
    let busy = |result: std::io::Result<()>| match result {
        Err(e) if e.raw_os_error() == Some(libc::EBUSY) && !is_rust_stack() => Ok(()),
        other => other,
    };
    let result = scope(|threads| {
        threads.spawn(|| {
            let Ok(mapping) = map() else { return };
            while !stop.load(Ordering::Relaxed) {
                let _ = mapping.read32(8);
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // Memory stays enabled, so no access may fail.
                if device.read32(&bar, 8).is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
            }
        });
        let fds = [
            16u32.to_ne_bytes(),
            [0; 4],
            1u32.to_ne_bytes(),
            opened.group.as_raw_fd().to_ne_bytes(),
        ]
        .concat();
        let mut outcome = Ok(());
        for _ in 0..ROUNDS {
            let before = reads.load(Ordering::Relaxed);
            let mut buf = sys::buffer(16);
            sys::bytes_mut(&mut buf).copy_from_slice(&fds);
            outcome = device.reset().and_then(|()| {
                busy(sys::with_buffer(device, DEVICE_PCI_HOT_RESET, &mut buf).map(drop))
            });
            if outcome.is_err() {
                break;
            }
            let end = Instant::now() + PATIENCE * slowness();
            while reads.load(Ordering::Relaxed) == before && Instant::now() < end {
                yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
        outcome
    });
    result?;
    ensure!(!failed.into_inner(), "a read failed");
    ensure!(reads.load(Ordering::Relaxed) >= ROUNDS, "the map died");
    same(
        "the status register by both ways",
        map()?.read32(8),
        device.read32(&bar, 8)?,
    )
}

/// VFIO_DEVICE_GET_INFO with room for `argsz` bytes.
fn info(device: &Device, argsz: u32) -> Result<Vec<u32>> {
    let mut buf = sys::buffer(128);
    sys::bytes_mut(&mut buf)[..4].copy_from_slice(&argsz.to_ne_bytes());
    sys::with_buffer(device, DEVICE_GET_INFO, &mut buf)?;
    let words = sys::bytes(&buf).chunks_exact(4);
    Ok(words
        .map(|w| u32::from_ne_bytes([w[0], w[1], w[2], w[3]]))
        .collect())
}

fn atomic_completions() -> Outcome {
    for kind in [IGB, E1000E, NVME] {
        let opened = kind.open()?;
        let config = opened.device.config()?;
        let Some(cap) = config.find_cap(CAP_EXPRESS)? else {
            skip!("no PCI Express")
        };
        let completes = config.read32(cap + 0x24)? & 0x380 != 0;
        let words = info(&opened.device, 128)?;
        // Without them there is no capability at all.
        let has_caps = words[1] & VFIO_DEVICE_FLAGS_CAPS != 0;
        ensure!(completes || !has_caps, "{} has capabilities", kind.name);
        same("argsz", words[0], 128)?;
        same("offset", words[4] != 0, has_caps)?;
    }
    Ok(())
}

/// Of the port above a device, for QEMU's network cards send no error messages. The kernel tells
/// all drivers below it.
fn errors_are_told() -> Outcome {
    for (kind, id) in [(IGB, "rp-igb"), (E1000E, "rp-e1000e")] {
        let opened = open_with_memory(kind)?;
        let device = &opened.device;
        let mut qmp = qmp::open()?;
        let event = Event::new()?;
        device.enable_irqs(VFIO_PCI_ERR_IRQ_INDEX, &[event.as_raw_fd()])?;
        same("early errors", event.wait(GLANCE)?, None)?;
        for _ in 0..2 {
            let said = qmp.human(&format!("pcie_aer_inject_error {id} COMP_TIME"))?;
            ensure!(said.contains("OK"), "QEMU says {said}");
            ensure!(
                event.wait(PATIENCE * slowness())?.is_some(),
                "nobody tells of an error of {id}"
            );
            // The kernel ends its recovery before it looks at the next error.
            std::thread::sleep(GLANCE);
        }
        same(
            "vendor",
            device.config()?.read16(config::VENDOR)?,
            kind.id.0,
        )?;
        device.read32(&device.region(0)?, 8)?;
    }
    Ok(())
}

fn host_drivers_work_afterwards() -> Outcome {
    for kind in [IGB, E1000E, NVME] {
        let opened = open_with_memory(kind)?;
        let pci = opened.bound.pci.clone();
        let config = opened.device.config()?;
        config.update_command(0, COMMAND_MASTER)?;
        for i in 0..6 {
            config.write32(0x10 + 4 * i, u32::MAX)?;
        }
        config.write8(0x3c, 0x5a)?;
        if let Some(cap) = config.find_cap(1)? {
            config.write16(cap + 4, 3)?;
        }
        drop(opened);
        pci.release()?;
        let raw = fs::read(pci.path().join("config"))?;
        same("bus master, unbound", u16::from(raw[4]) & COMMAND_MASTER, 0)?;
        kind.load_host_driver()?;
        pci.restore()?;
        same("driver", pci.driver().as_deref(), kind.driver)?;
        if kind == NVME {
            let end = Instant::now() + PATIENCE * slowness();
            let mut block = [0; PAGE as usize];
            let mut read = || fs::File::open("/dev/nvme0n1")?.read_exact(&mut block);
            while let Err(e) = read() {
                ensure!(Instant::now() < end, "the disk: {e}");
                std::thread::sleep(GLANCE / 10);
            }
        } else {
            ensure!(!pci.netdevs().is_empty(), "{} has no interface", kind.name);
        }
        let raw = fs::read(pci.path().join("config"))?;
        same(
            "memory, bound",
            u16::from(raw[4]) & COMMAND_MEMORY,
            COMMAND_MEMORY,
        )?;
        pci.unbind()?;
    }
    Ok(())
}

/// A device that can be reset, with a prefetchable BAR: a display behind a bridge.
fn display() -> Result<(Opened, Region)> {
    if !is_rust_stack() {
        skip!("C VFIO has no write-combining maps");
    }
    let displays = sysfs::find_all(VGA.id.0, VGA.id.1)?;
    let Some(pci) = displays
        .into_iter()
        .find(|pci| !pci.address.starts_with("0000:00:"))
    else {
        skip!("no display behind a bridge");
    };
    pci.bind_vfio()?;
    let opened = Bound::new(pci)?.open()?;
    ensure!(opened.device.can_reset()?, "it has no reset");
    opened.device.config()?.update_command(0, COMMAND_MEMORY)?;
    let Some(wc) = opened.device.region(0)?.write_combining else {
        ensure!(!has_pat()?, "no capability");
        skip!("no write-combining memory");
    };
    Ok((opened, *wc))
}

/// Resets under a writer, who is stopped for as long as one takes and goes on.
fn write_combining_writer() -> Outcome {
    let (opened, wc) = display()?;
    let map = opened.device.mmap(&wc, 0, 4 << 20)?;
    let base = map.addr();
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for at in (0..4 << 20).step_by(4096) {
                    // SAFETY: in the map, which stays until the threads are done.
                    unsafe { ((base + at) as *mut u32).write_volatile(7) };
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        let done = (0..5).try_for_each(|_| -> std::io::Result<()> {
            let seen = rounds.load(Ordering::Relaxed);
            opened.device.reset()?;
            while rounds.load(Ordering::Relaxed) == seen {
                yield_now();
            }
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        done
    })
    .context("reset")
}

suite!(
    iommus: Vtd, debug: Answers;
    by_its_own_register,
    under_load,
    atomic_completions,
    errors_are_told,
    host_drivers_work_afterwards,
    write_combining_writer,
);
