// SPDX-License-Identifier: GPL-2.0
//! The VGA region: the legacy ranges of a display, and the kernel's arbiter of who has them.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::thread;

use anyhow::Context;
use nix::errno::Errno;
use vfio_client::config::{COMMAND, COMMAND_MEMORY};
use vfio_client::region::Region;
use vfio_client::sysfs;
use vfio_client::uapi::*;
use vfio_client::{Device, DmaBuf};
use vfio_rs_selftests::modules::{VfioPci, parameter};
use vfio_rs_selftests::setup::{Bound, EDU, GLANCE, Opened, PAGE, VGA};
use vfio_rs_selftests::{Outcome, Result, ensure, errno, joined, same, skip, suite};

/// The ranges: first address and bytes.
const RANGES: [(u64, u64); 3] = [(0x3b0, 0xc), (0x3c0, 0x20), (0xa0000, 0x20000)];

/// Ports: index and data of the sequencer and of the graphics controller.
const SEQUENCER: u64 = 0x3c4;
const GRAPHICS: u64 = 0x3ce;

/// An open display with its VGA region; skips if the kernel gives none.
fn open() -> Result<(Opened, Region)> {
    if parameter("vfio_pci", "disable_vga")? != "N" {
        skip!("disable_vga is set");
    }
    let opened = VGA.open()?;
    let region = opened.device.region(VFIO_PCI_VGA_REGION_INDEX)?;
    Ok((opened, region))
}

fn what_it_tells() -> Outcome {
    let (opened, region) = open()?;
    same("size", region.size, 0xc0000)?;
    same(
        "flags",
        region.flags,
        VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
    )?;
    same("capabilities", region.cap_ids.len(), 0)?;
    let device = &opened.device;
    errno(
        "map",
        device.mmap(&region, 0xa0000, PAGE as usize),
        Errno::EINVAL,
    )?;
    errno(
        "ioeventfd",
        device.ioeventfd(&region, 0xa0000, VFIO_DEVICE_IOEVENTFD_8, 0, -1),
        Errno::EINVAL,
    )
}

fn not_a_display() -> Outcome {
    let edu = EDU.open()?;
    errno(
        "region info",
        edu.device.region(VFIO_PCI_VGA_REGION_INDEX),
        Errno::EINVAL,
    )?;
    let there = Region {
        index: VFIO_PCI_VGA_REGION_INDEX,
        offset: u64::from(VFIO_PCI_VGA_REGION_INDEX) << 40,
        ..edu.device.region(0)?
    };
    let mut buf = [0; 4];
    for (at, _) in RANGES {
        errno("read", edu.device.read(&there, at, &mut buf), Errno::EINVAL)?;
        errno("write", edu.device.write(&there, at, &buf), Errno::EINVAL)?;
    }
    Ok(())
}

fn bounds() -> Outcome {
    let (opened, region) = open()?;
    let device = &opened.device;
    let mut buf = vec![0; 0x400];
    for (start, len) in RANGES {
        let end = start + len;
        for at in [start, start + 1, start + 3, end - 5, end - 1] {
            let what = format!("read at {at:#x}");
            let left = (end - at).min(buf.len() as u64);
            same(&what, device.read(&region, at, &mut buf)? as u64, left)?;
        }
        for at in [start - 1, end] {
            let what = format!("at {at:#x}");
            errno(&what, device.read(&region, at, &mut buf), Errno::EINVAL)?;
            errno(&what, device.write(&region, at, &buf), Errno::EINVAL)?;
            same(&what, device.read(&region, at, &mut [])?, 0)?;
        }
    }
    for at in [0, 0x3bf, 0x10_0000, 1 << 32 | 0xa0000, 1 << 39] {
        let what = format!("read at {at:#x}");
        errno(&what, device.read(&region, at, &mut buf), Errno::EINVAL)?;
    }
    Ok(())
}

/// Writes a register behind an index, and reads it.
fn register(device: &Device, region: &Region, port: u64, index: u8, value: u8) -> Outcome {
    device.write(region, port, &[index, value])?;
    let mut both = [0; 2];
    device.read(region, port, &mut both)?;
    same(
        &format!("register {index} at {port:#x}"),
        both,
        [index, value],
    )
}

/// One address after the other, as in the first 128 KiB of the display's own memory.
fn linear(device: &Device, region: &Region) -> Outcome {
    register(device, region, SEQUENCER, 2, 0x0f)?;
    register(device, region, SEQUENCER, 4, 0x0e)?;
    register(device, region, GRAPHICS, 6, 0x01)
}

fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (seed + i * 7 + i / 256) as u8).collect()
}

fn memory_is_the_displays() -> Outcome {
    let (opened, region) = open()?;
    let device = &opened.device;
    linear(device, &region)?;
    device.config()?.update_command(0, COMMAND_MEMORY)?;
    let frame = device.region(0)?;
    for (at, len) in [
        (0, 4096),
        (4097, 1),
        (8190, 2),
        (8193, 3),
        (0x1_0001, 777),
        (0x1_fff0, 16),
    ] {
        let what = format!("{len} bytes at {at:#x}");
        let data = bytes(at, len);
        let legacy = 0xa0000 + at as u64;
        same(&what, device.write(&region, legacy, &data)?, len)?;
        let mut got = vec![0; len];
        same(&what, device.read(&frame, at as u64, &mut got)?, len)?;
        ensure!(got == data, "{what}: the display's memory has other bytes");
        let other = bytes(at + 1, len);
        same(&what, device.write(&frame, at as u64, &other)?, len)?;
        same(&what, device.read(&region, legacy, &mut got)?, len)?;
        ensure!(got == other, "{what}: the range has other bytes");
    }
    // Beyond the end nothing is written.
    let long = bytes(3, 64);
    same("over the end", device.write(&region, 0xbfff0, &long)?, 16)
}

fn memory_disabled() -> Outcome {
    let (opened, region) = open()?;
    let config = opened.device.config()?;
    // The legacy ranges have no part in what the command register switches.
    config.update_command(COMMAND_MEMORY, 0)?;
    same("memory bit", config.read16(COMMAND)? & COMMAND_MEMORY, 0)?;
    let mut buf = [0; 4];
    same("read", opened.device.read(&region, 0xa0000, &mut buf)?, 4)
}

fn bad_user_memory() -> Outcome {
    let (opened, region) = open()?;
    linear(&opened.device, &region)?;
    let buf = DmaBuf::new(2 * PAGE as usize)?;
    buf.protect_none(PAGE as usize)?;
    let fd = opened.device.as_raw_fd();
    let offset = (region.offset + 0xa0000) as i64;
    for len in [0x10, 0x200] {
        // Half of it is there.
        let at = (buf.addr() + PAGE - len / 2) as *mut libc::c_void;
        // SAFETY: the kernel refuses what is not there, and nobody else uses the rest.
        let (read, write) = unsafe {
            (
                Errno::result(libc::pread(fd, at, len as usize, offset)),
                Errno::result(libc::pwrite(fd, at, len as usize, offset)),
            )
        };
        same(&format!("read {len:#x} bytes"), read, Err(Errno::EFAULT))?;
        same(&format!("write {len:#x} bytes"), write, Err(Errno::EFAULT))?;
    }
    Ok(())
}

/// The arbiter's device; a holder of locks until dropped.
struct Arbiter(File);

impl Arbiter {
    /// For the display at `address`.
    fn new(address: &str) -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/vga_arbiter")
            .context("open /dev/vga_arbiter")?;
        file.write_all(format!("target PCI:{address}").as_bytes())?;
        Ok(Self(file))
    }

    fn say(&mut self, command: &str) -> Outcome {
        self.0
            .write_all(command.as_bytes())
            .context(command.to_owned())
    }

    /// What it tells of `word`, such as "decodes".
    fn tell(&mut self, word: &str) -> Result<String> {
        let mut buf = [0; 1024];
        let len = self.0.read(&mut buf)?;
        let line = String::from_utf8_lossy(&buf[..len]).into_owned();
        let value = line
            .trim()
            .split(',')
            .find_map(|part| part.strip_prefix(&format!("{word}=")));
        Ok(value
            .with_context(|| format!("no {word} in '{line}'"))?
            .to_owned())
    }
}

/// The display behind a bridge; skips if there is none.
fn second_display() -> Result<Bound> {
    let first = VGA.find()?;
    let other = sysfs::find_all(VGA.id.0, VGA.id.1)?
        .into_iter()
        .find(|d| *d != first);
    match other {
        Some(pci) => {
            pci.bind_vfio()?;
            Bound::new(pci)
        }
        None => skip!("one display only"),
    }
}

fn waits_for_the_arbiter() -> Outcome {
    let other = second_display()?;
    let (opened, region) = open()?;
    let mut holder = Arbiter::new(&other.pci.address)?;
    holder.say("lock io+mem")?;
    let (device, region) = (&opened.device, &region);
    thread::scope(|scope| {
        let reader = scope.spawn(move || device.read(region, 0xa0000, &mut [0; 4]));
        thread::sleep(GLANCE);
        ensure!(!reader.is_finished(), "read while another display has it");
        holder.say("unlock io+mem")?;
        same("bytes", joined(reader)??, 4)
    })
}

fn decodes() -> Outcome {
    for bound in [VGA.bind()?, second_display()?] {
        let mut arbiter = Arbiter::new(&bound.pci.address)?;
        same(
            &bound.pci.address,
            arbiter.tell("decodes")?.as_str(),
            "io+mem",
        )?;
    }
    Ok(())
}

fn disabled() -> Outcome {
    parameter("vfio_pci", "disable_vga")?;
    let bridged = second_display()?;
    bridged.pci.release()?;
    let module = VfioPci::load(&["disable_vga=1"])?;
    let opened = VGA.open()?;
    errno(
        "region info",
        opened.device.region(VFIO_PCI_VGA_REGION_INDEX),
        Errno::EINVAL,
    )?;
    let there = Region {
        index: VFIO_PCI_VGA_REGION_INDEX,
        offset: u64::from(VFIO_PCI_VGA_REGION_INDEX) << 40,
        ..opened.device.region(0)?
    };
    errno(
        "read",
        opened.device.read(&there, 0xa0000, &mut [0; 4]),
        Errno::EINVAL,
    )?;
    bridged.pci.bind_vfio()?;
    // On the root bus nothing can keep the ranges from it; behind a bridge, the bridge.
    for (pci, what) in [(&opened.bound.pci, "io+mem"), (&bridged.pci, "none")] {
        let mut arbiter = Arbiter::new(&pci.address)?;
        same(&pci.address, arbiter.tell("decodes")?.as_str(), what)?;
    }
    // Without the driver it answers again.
    bridged.pci.release()?;
    let mut arbiter = Arbiter::new(&bridged.pci.address)?;
    same("released", arbiter.tell("decodes")?.as_str(), "io+mem")?;
    // A device keeps the parameter from when it was bound.
    let pci = opened.bound.pci.clone();
    drop(opened);
    pci.release()?;
    drop(module);
    open().map(drop)
}

suite!(
    iommus: Vtd, debug: Answers;
    what_it_tells,
    not_a_display,
    bounds,
    memory_is_the_displays,
    memory_disabled,
    bad_user_memory,
    waits_for_the_arbiter,
    decodes,
    disabled,
);
