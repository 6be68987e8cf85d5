// SPDX-License-Identifier: GPL-2.0
//! What the IOMMU translates for a device, as the debugfs of the VT-d driver shows it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use vfio_client::sysfs::PciDevice;

/// One entry of a page table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// First I/O address.
    pub iova: u64,
    /// What it leads to.
    pub phys: u64,
    /// Bytes: 4 KiB, 2 MiB or 1 GiB.
    pub size: u64,
}

/// Bits of an entry that are an address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

fn file(device: &PciDevice) -> PathBuf {
    PathBuf::from(format!(
        "/sys/kernel/debug/iommu/intel/{}/domain_translation_struct",
        device.address
    ))
}

/// Whether this machine's IOMMU tells.
#[must_use]
pub fn is_shown(device: &PciDevice) -> bool {
    file(device).exists()
}

/// All entries of the device's page table, in order.
///
/// # Errors
/// If it cannot be read or is not understood.
pub fn entries(device: &PciDevice) -> Result<Vec<Entry>> {
    let path = file(device);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16);
    let mut all = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("0x")) {
        let words: Vec<_> = line
            .split_whitespace()
            .filter(|word| *word != "|")
            .collect();
        let (iova, leaf) = (words[0], words[words.len() - 1]);
        // The upper three levels are always there.
        let size = match words.len() - 1 {
            3 => 1 << 30,
            4 => 2 << 20,
            _ => 4 << 10,
        };
        all.push(Entry {
            iova: number(iova).with_context(|| line.to_owned())? << 12,
            phys: number(leaf).with_context(|| line.to_owned())? & ADDRESS & !(size - 1),
            size,
        });
    }
    Ok(all)
}

/// How many of `size` bytes from `iova` on the device can reach.
///
/// # Errors
/// As [`entries`].
pub fn reachable(device: &PciDevice, iova: u64, size: u64) -> Result<u64> {
    let overlap = |e: &Entry| {
        let end = (e.iova + e.size).min(iova + size);
        end.saturating_sub(e.iova.max(iova))
    };
    Ok(entries(device)?.iter().map(overlap).sum())
}
