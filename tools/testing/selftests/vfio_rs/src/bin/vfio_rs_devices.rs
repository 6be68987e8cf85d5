// SPDX-License-Identifier: GPL-2.0
//! What every kind of device tells about itself, and its reset.

use std::collections::BTreeMap;

use nix::errno::Errno;
use vfio_client::config::{self, COMMAND_MEMORY};
use vfio_client::uapi::*;
use vfio_rs_selftests::setup::{E1000E, EDU, IGB, Kind, NVME, Opened, PAGE};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, suite};

/// Sizes of the BARs and the ROM as sysfs tells, and whether each is memory.
fn sysfs_bars(opened: &Opened) -> Result<BTreeMap<u32, (u64, bool)>> {
    let text = std::fs::read_to_string(opened.bound.pci.path().join("resource"))?;
    let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16);
    let mut bars = BTreeMap::new();
    for (index, line) in (0..=VFIO_PCI_ROM_REGION_INDEX).zip(text.lines()) {
        let words: Vec<_> = line.split_whitespace().map(hex).collect::<Result<_, _>>()?;
        let size = if words[1] == 0 {
            0
        } else {
            words[1] - words[0] + 1
        };
        bars.insert(index, (size, words[2] & 0x200 != 0));
    }
    Ok(bars)
}

fn check_regions(opened: &Opened) -> Outcome {
    for (index, (size, is_memory)) in sysfs_bars(opened)? {
        let region = opened
            .device
            .region(index)
            .with_context(|| format!("region {index}"))?;
        same(
            &format!("offset of region {index}"),
            region.offset,
            u64::from(index) << 40,
        )?;
        if index == VFIO_PCI_ROM_REGION_INDEX {
            // A ROM without valid contents is not shown.
            ensure!(
                region.size == size || region.size == 0,
                "ROM of {:#x}",
                region.size
            );
            ensure!(
                region.flags & !VFIO_REGION_INFO_FLAG_READ == 0,
                "ROM flags {:#x}",
                region.flags
            );
            continue;
        }
        same(&format!("size of BAR {index}"), region.size, size)?;
        let rw = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
        let maps = if is_memory && size >= PAGE {
            VFIO_REGION_INFO_FLAG_MMAP
        } else {
            0
        };
        let want = if size == 0 { 0 } else { rw | maps };
        same(
            &format!("flags of BAR {index}"),
            region.flags & !VFIO_REGION_INFO_FLAG_CAPS,
            want,
        )?;
    }
    let config = opened.device.region(VFIO_PCI_CONFIG_REGION_INDEX)?;
    same(
        "size of config",
        config.size,
        std::fs::metadata(opened.bound.pci.path().join("config"))?.len(),
    )?;
    same(
        "flags of config",
        config.flags,
        VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
    )?;
    for index in [
        VFIO_PCI_VGA_REGION_INDEX,
        VFIO_PCI_NUM_REGIONS,
        100,
        u32::MAX,
    ] {
        errno(
            &format!("region {index}"),
            opened.device.region(index),
            Errno::EINVAL,
        )?;
    }
    Ok(())
}

fn check_irqs(opened: &Opened) -> Outcome {
    let (device, config) = (&opened.device, opened.device.config()?);
    let pin = u32::from(config.read8(config::INTERRUPT_PIN)? != 0);
    let msi = match config.find_cap(config::CAP_MSI)? {
        Some(at) => 1 << (config.read16(at + 2)? >> 1 & 7),
        None => 0,
    };
    let msix = match config.find_cap(config::CAP_MSIX)? {
        Some(at) => u32::from(config.read16(at + 2)? & 0x7ff) + 1,
        None => 0,
    };
    for (index, want) in (0..).zip([pin, msi, msix, 1, 1]) {
        let info = device.irq_info(index)?;
        same(&format!("count of interrupt {index}"), info.count, want)?;
        let flags = match index {
            VFIO_PCI_INTX_IRQ_INDEX => VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED,
            VFIO_PCI_MSIX_IRQ_INDEX => info.flags & VFIO_IRQ_INFO_NORESIZE,
            _ => VFIO_IRQ_INFO_NORESIZE,
        };
        same(
            &format!("flags of interrupt {index}"),
            info.flags,
            flags | VFIO_IRQ_INFO_EVENTFD,
        )?;
    }
    errno(
        "interrupt 5",
        device.irq_info(VFIO_PCI_NUM_IRQS),
        Errno::EINVAL,
    )
}

fn check_kind(kind: Kind) -> Outcome {
    let opened = kind.open()?;
    let info = opened.device.info()?;
    ensure!(
        info.flags & VFIO_DEVICE_FLAGS_PCI != 0,
        "flags {:#x}",
        info.flags
    );
    same("regions", info.num_regions, VFIO_PCI_NUM_REGIONS)?;
    same("interrupts", info.num_irqs, VFIO_PCI_NUM_IRQS)?;
    let config = opened.device.config()?;
    same(
        "id",
        (
            config.read16(config::VENDOR)?,
            config.read16(config::DEVICE)?,
        ),
        kind.id,
    )?;
    check_regions(&opened)?;
    check_irqs(&opened)?;
    if opened.device.can_reset()? {
        opened.device.reset().context("RESET")?;
        same(
            "vendor after the reset",
            config.read16(config::VENDOR)?,
            kind.id.0,
        )
    } else {
        errno("RESET", opened.device.reset(), Errno::EINVAL)
    }
}

fn edu() -> Outcome {
    check_kind(EDU)
}

fn igb() -> Outcome {
    check_kind(IGB)
}

fn e1000e() -> Outcome {
    check_kind(E1000E)
}

fn nvme() -> Outcome {
    check_kind(NVME)
}

fn igb_function_level_reset() -> Outcome {
    // VLAN ether type: an ordinary register, kept until a reset.
    const VET: u64 = 0x38;
    let opened = IGB.open()?;
    ensure!(opened.device.can_reset()?, "igb has a function level reset");
    let config = opened.device.config()?;
    config.update_command(0, COMMAND_MEMORY)?;
    let bar = opened.device.region(0)?;
    let old = opened.device.read32(&bar, VET)?;
    opened.device.write32(&bar, VET, 0x1234)?;
    same("register", opened.device.read32(&bar, VET)?, 0x1234)?;
    opened.device.reset()?;
    ensure!(
        config.read16(config::COMMAND)? & COMMAND_MEMORY != 0,
        "memory is off after the reset"
    );
    same(
        "register after the reset",
        opened.device.read32(&bar, VET)?,
        old,
    )
}

suite!(iommus: All, debug: Answers; edu, igb, e1000e, nvme, igb_function_level_reset);
