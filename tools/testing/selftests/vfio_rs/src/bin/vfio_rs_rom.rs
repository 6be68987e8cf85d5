// SPDX-License-Identifier: GPL-2.0
//! Expansion ROM: what the region tells, its contents, its register in configuration space.

use nix::errno::Errno;
use vfio_client::Device;
use vfio_client::config::{COMMAND, COMMAND_MEMORY};
use vfio_client::region::Region;
use vfio_client::uapi::*;
use vfio_rs_selftests::setup::{E1000E, EDU, Kind, NVME, Opened, PAGE, VGA};
use vfio_rs_selftests::{Outcome, ensure, errno, same, skip, suite};

/// Register of the ROM's address; bit 0 switches it on.
const ROM_ADDRESS: u64 = 0x30;

/// An open device with its ROM; skips if it has none.
fn open(kind: Kind) -> anyhow::Result<(Opened, Region)> {
    let opened = kind.open()?;
    let rom = opened.device.region(VFIO_PCI_ROM_REGION_INDEX)?;
    if rom.size == 0 {
        skip!("{} without a ROM", kind.name);
    }
    Ok((opened, rom))
}

fn read_all(device: &Device, rom: &Region) -> std::io::Result<Vec<u8>> {
    let mut data = vec![0; rom.size as usize];
    let got = device.read(rom, 0, &mut data)?;
    data.truncate(got);
    Ok(data)
}

/// Bytes of the images that `rom` begins with, by the PCI data structure of each.
fn image_len(rom: &[u8]) -> anyhow::Result<usize> {
    let mut at = 0;
    loop {
        let image = &rom[at..];
        same("signature", image.get(..2), Some(&[0x55, 0xaa][..]))?;
        let data = usize::from(u16::from_le_bytes([image[0x18], image[0x19]]));
        same(
            "data structure",
            image.get(data..data + 4),
            Some(&b"PCIR"[..]),
        )?;
        at += 512 * usize::from(u16::from_le_bytes([image[data + 0x10], image[data + 0x11]]));
        if image[data + 0x15] & 0x80 != 0 {
            return Ok(at);
        }
    }
}

fn contents_of(kind: Kind) -> Outcome {
    let (opened, rom) = open(kind)?;
    same("flags", rom.flags, VFIO_REGION_INFO_FLAG_READ)?;
    ensure!(rom.size.is_power_of_two(), "size {:#x}", rom.size);
    opened.device.config()?.update_command(0, COMMAND_MEMORY)?;
    let data = read_all(&opened.device, &rom)?;
    same("bytes read", data.len() as u64, rom.size)?;
    let len = image_len(&data)?;
    ensure!(len <= data.len(), "images of {len:#x} bytes");
    // What the images do not fill reads as ones.
    same(
        "behind the images",
        data[len..].iter().find(|b| **b != 0xff),
        None,
    )?;
    // Pieces of any size give the same bytes.
    for (at, size) in [
        (0, 1),
        (1, 2),
        (3, 8),
        (0x18, 2),
        (len - 5, 11),
        (len, 4),
        (510, 777),
    ] {
        let end = (at + size).min(data.len());
        let mut piece = vec![0; size];
        let got = opened.device.read(&rom, at as u64, &mut piece)?;
        same(
            &format!("{size} bytes at {at:#x}"),
            &piece[..got],
            &data[at..end],
        )?;
    }
    Ok(())
}

fn contents() -> Outcome {
    contents_of(E1000E)
}

fn contents_of_a_display() -> Outcome {
    contents_of(VGA)
}

fn no_rom() -> Outcome {
    for kind in [EDU, NVME] {
        let opened = kind.open()?;
        let rom = opened.device.region(VFIO_PCI_ROM_REGION_INDEX)?;
        same(kind.name, (rom.size, rom.flags), (0, 0))?;
        let mut buf = [0; 4];
        errno("read", opened.device.read(&rom, 0, &mut buf), Errno::EINVAL)?;
    }
    Ok(())
}

fn misuse() -> Outcome {
    let (opened, rom) = open(E1000E)?;
    let device = &opened.device;
    let mut buf = [0; 16];
    errno("write", device.write(&rom, 0, &buf), Errno::EINVAL)?;
    same("write of nothing", device.write(&rom, 0, &[])?, 0)?;
    errno("map", device.mmap(&rom, 0, PAGE as usize), Errno::EINVAL)?;
    for at in [rom.size, rom.size + 1, 1 << 39] {
        let what = format!("read at {at:#x}");
        errno(&what, device.read(&rom, at, &mut buf), Errno::EINVAL)?;
    }
    device.config()?.update_command(0, COMMAND_MEMORY)?;
    same(
        "over the end",
        device.read(&rom, rom.size - 6, &mut buf)?,
        6,
    )
}

fn memory_disabled() -> Outcome {
    let (opened, rom) = open(E1000E)?;
    let config = opened.device.config()?;
    config.update_command(COMMAND_MEMORY, 0)?;
    let mut buf = [0; 16];
    errno("read", opened.device.read(&rom, 0, &mut buf), Errno::ENOMEM)?;
    // The region is found all the same, and memory stays off.
    same("region", &opened.device.region(rom.index)?, &rom)?;
    same("memory", config.read16(COMMAND)? & COMMAND_MEMORY, 0)?;
    errno(
        "read again",
        opened.device.read(&rom, 0, &mut buf),
        Errno::ENOMEM,
    )
}

fn address_register() -> Outcome {
    let (opened, rom) = open(E1000E)?;
    let config = opened.device.config()?;
    let mask = !(rom.size as u32 - 1) | 1;
    for value in [u32::MAX, 0x1234_5678, 0] {
        config.write32(ROM_ADDRESS, value)?;
        same("address", config.read32(ROM_ADDRESS)?, value & mask)?;
    }
    // The user's address and switch are not the device's.
    config.update_command(0, COMMAND_MEMORY)?;
    same("signature", opened.device.read32(&rom, 0)? & 0xffff, 0xaa55)?;
    let edu = EDU.open()?;
    let config = edu.device.config()?;
    config.write32(ROM_ADDRESS, u32::MAX)?;
    same("address without a ROM", config.read32(ROM_ADDRESS)?, 0)
}

suite!(
    iommus: Vtd, debug: Answers;
    contents,
    contents_of_a_display,
    no_rom,
    misuse,
    memory_disabled,
    address_register,
);
