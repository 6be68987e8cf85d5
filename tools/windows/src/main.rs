// SPDX-License-Identifier: GPL-2.0
//! `make demo-type2`: runs the example and tells what the device reaches through each window. Needs
//! root, and a device `edu` that can form addresses up to 512 MiB.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use vfio_client::pamu::VFIO_PAMU_IOMMU;
use vfio_client::sysfs::{self, PciDevice};
use vfio_client::{Container, Edu, Group, Setting, edu};
use vfio_rs_windows::{APERTURE, BANK, BANKS, DISABLED, RAM, WINDOW, WINDOWS, Windows, start};

fn main() -> Result<()> {
    // A PC has no banks that need windows: pages of the module's in their place.
    let _banks = Setting::parameter("vfio_rs", "msi_test_banks", &BANKS.to_string())
        .context("msi_test_banks: is vfio_rs loaded?")?;
    let found = sysfs::find_all(edu::VENDOR, edu::DEVICE)?;
    let pci = found.first().context("no edu device")?;
    pci.bind_vfio().context("bind edu to vfio-pci")?;
    let outcome = example(pci);
    pci.release().context("unbind edu")?;
    outcome
}

fn example(pci: &PciDevice) -> Result<()> {
    let container = Container::open().context("open the container")?;
    let group = Group::open(pci.group().context("no IOMMU group")?).context("open the group")?;
    group.set_container(&container).context("SET_CONTAINER")?;
    container.set_iommu(VFIO_PAMU_IOMMU).context("SET_IOMMU")?;
    let device = group.device(&pci.address).context("GET_DEVICE_FD")?;
    let windows = Windows::set_up(&container)?;
    println!(
        "An aperture of {} MiB in {WINDOWS} windows of {} MiB:",
        APERTURE >> 20,
        WINDOW >> 20
    );
    let edu = Edu::new(&device)?;
    for number in 0..RAM {
        let word = 0x1000 + number;
        ensure!(
            windows.into_memory(&edu, number, word)? == word,
            "window {number} does not lead to its memory"
        );
        tell(number, "memory: the device wrote its last word");
    }
    for bank in 0..BANKS {
        let (number, word) = (RAM + bank, 0x2000 + bank);
        ensure!(
            windows.into_bank(&edu, &group, bank, word)? == word,
            "window {number} does not lead to bank {bank}"
        );
        tell(
            number,
            &format!("bank {bank}: the device wrote to a register, its descriptor shows it"),
        );
    }
    ensure!(!windows.into_nothing(&edu)?, "memory changed");
    tell(DISABLED, "nothing: the IOMMU refused what the device wrote");
    let (bytes, want) = (
        windows.unmap()?,
        WINDOW * u64::from(RAM) + BANK * u64::from(BANKS),
    );
    ensure!(
        bytes == want,
        "{bytes:#x} bytes unmapped instead of {want:#x}"
    );
    println!("All {} KiB unmapped by one call.", bytes >> 10);
    Ok(())
}

/// A line about window `number`.
fn tell(number: u32, what: &str) {
    println!("  {number}  at {:#010x}  {what}", start(number));
}
