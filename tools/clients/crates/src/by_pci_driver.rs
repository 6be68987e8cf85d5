// SPDX-License-Identifier: GPL-2.0
//! By `pci-driver`, as a driver in user space would.

use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pci_driver::backends::vfio::VfioPciDevice;
use pci_driver::device::PciDevice;
use pci_driver::regions::{MappedOwningPciRegion, PciRegion, Permissions};

use crate::edu::{self, COMMAND, COMMAND_ON, IOVA, PAGE, Page, Registers};

impl Registers for MappedOwningPciRegion {
    fn read(&self, at: u64) -> Result<u32> {
        Ok(self.read_le_u32(at)?)
    }

    fn write(&self, at: u64, value: u32) -> Result<()> {
        Ok(self.write_le_u32(at, value)?)
    }
}

/// Uses all of edu.
pub fn drive(path: &Path) -> Result<()> {
    let device = VfioPciDevice::open(path)?;
    device.config().write_le_u16(COMMAND, COMMAND_ON)?;
    let bar = device.bar(0).context("no BAR 0")?;
    ensure!(bar.is_mappable(), "BAR 0 cannot be mapped");
    let edu = bar.map(.., Permissions::ReadWrite)?;
    edu::registers(&edu)?;

    let iommu = device.iommu();
    ensure!(iommu.alignment() == PAGE, "alignment {}", iommu.alignment());
    let range = IOVA..IOVA + PAGE as u64;
    let contains =
        |valid: &std::ops::Range<u64>| valid.start <= range.start && range.end <= valid.end;
    ensure!(
        iommu.valid_iova_ranges().iter().any(contains),
        "valid: {:x?}",
        iommu.valid_iova_ranges()
    );
    ensure!(iommu.max_num_mappings() > 0, "no mappings to be had");
    let page = Page::new();
    // SAFETY: The page is only accessed by volatile operations until it is unmapped.
    unsafe { iommu.map(IOVA, PAGE, page.as_ptr(), Permissions::ReadWrite) }?;
    edu::dma(&edu, &page)?;
    iommu.unmap(IOVA, PAGE)?;

    let event = edu::event()?;
    let interrupts = device.interrupts();
    interrupts.msi().enable(&[event.as_raw_fd()])?;
    edu::interrupts(&edu, &event)?;
    interrupts.msi().disable()?;
    interrupts.intx().enable(&[event.as_raw_fd()])?;
    interrupts.intx().disable()?;
    Ok(())
}

/// Opens any device, reads what it is, resets it and tries all its interrupts.
pub fn open(path: &Path) -> Result<()> {
    let device = VfioPciDevice::open(path)?;
    let vendor = device.config().vendor_id().read()?;
    ensure!(vendor != u16::MAX, "no device there");
    let capabilities = device.config().capabilities()?.into_iter().count();
    ensure!(capabilities > 0, "no capabilities");
    device.reset()?;
    let interrupts = device.interrupts();
    for kind in [interrupts.intx(), interrupts.msi(), interrupts.msi_x()] {
        if kind.max() == 0 {
            continue;
        }
        let events = (0..kind.max().min(4)).map(|_| edu::event());
        let events = events.collect::<Result<Vec<_>>>()?;
        let fds: Vec<_> = events.iter().map(AsRawFd::as_raw_fd).collect();
        kind.enable(&fds)?;
        kind.disable()?;
    }
    Ok(())
}
