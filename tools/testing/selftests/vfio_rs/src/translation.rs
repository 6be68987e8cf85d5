// SPDX-License-Identifier: GPL-2.0
//! What the IOMMU translates for a device, as the debugfs of the VT-d driver shows it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use vfio_client::sysfs::PciDevice;

use crate::setup::PAGE;

/// One entry of a page table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// First I/O address.
    pub iova: u64,
    /// What it leads to.
    pub phys: u64,
    /// Bytes: 4 KiB, 2 MiB or 1 GiB.
    pub size: u64,
    /// Whether the device may read.
    pub read: bool,
    /// Whether the device may write.
    pub write: bool,
}

/// What a device reaches at one I/O page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Number of the physical page.
    pub pfn: u64,
    /// Whether the device may read it.
    pub read: bool,
    /// Whether the device may write it.
    pub write: bool,
}

impl Target {
    /// Page `pfn`, for reading and writing.
    #[must_use]
    pub fn both(pfn: u64) -> Self {
        let (read, write) = (true, true);
        Self { pfn, read, write }
    }
}

/// Numbers of I/O pages and what they lead to.
pub type Pages = BTreeMap<u64, Target>;

/// Bits of an entry that are an address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const READ: u64 = 1;
const WRITE: u64 = 2;

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
        let leaf = number(leaf).with_context(|| line.to_owned())?;
        all.push(Entry {
            iova: number(iova).with_context(|| line.to_owned())? << 12,
            phys: leaf & ADDRESS & !(size - 1),
            size,
            read: leaf & READ != 0,
            write: leaf & WRITE != 0,
        });
    }
    Ok(all)
}

/// Where the device's page table begins: devices that share a domain have one and the same.
///
/// # Errors
/// As [`entries`].
pub fn root(device: &PciDevice) -> Result<u64> {
    let path = file(device);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let root = text.split_once("@0x").context("no page table")?.1;
    let digits = root.split_whitespace().next().unwrap_or_default();
    u64::from_str_radix(digits, 16).with_context(|| digits.to_owned())
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

/// All that the device reaches, page by page: large entries count as the pages that they are made
/// of.
///
/// # Errors
/// As [`entries`].
pub fn pages(device: &PciDevice) -> Result<Pages> {
    let of = |e: Entry| {
        (0..e.size / PAGE).map(move |number| {
            let target = Target {
                pfn: e.phys / PAGE + number,
                read: e.read,
                write: e.write,
            };
            (e.iova / PAGE + number, target)
        })
    };
    Ok(entries(device)?.into_iter().flat_map(of).collect())
}

/// Number of the physical page of each of `count` pages from address `vaddr` of this process on.
///
/// # Errors
/// If one is not there, or the kernel does not tell (it tells root).
pub fn physical_pages(vaddr: u64, count: u64) -> Result<Vec<u64>> {
    const PRESENT: u64 = 1 << 63;
    const NUMBER: u64 = (1 << 55) - 1;
    let mut bytes = vec![0; count as usize * 8];
    File::open("/proc/self/pagemap")?.read_exact_at(&mut bytes, vaddr / PAGE * 8)?;
    let number = |entry: &[u8]| {
        let entry = u64::from_ne_bytes(entry.try_into()?);
        ensure!(
            entry & PRESENT != 0 && entry & NUMBER != 0,
            "a page is not there"
        );
        Ok(entry & NUMBER)
    };
    bytes.chunks_exact(8).map(number).collect()
}
