// SPDX-License-Identifier: GPL-2.0
//! edu as Intel graphics, by the module `vfio_rs_igd`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::VFIO_PCI_NUM_REGIONS;

use crate::modules::ChangedEdu;
use crate::setup::{EDU, Opened, is_rust_stack, read_trimmed};
use crate::{Outcome, skip};

/// The register with the OpRegion's address.
pub const ASLS: u64 = 0xfc;
/// Where the processor's own graphics is.
pub const PLACE: &str = "0000:00:02.0";

/// Where the memory is that the kernel was told to leave alone; 64 KiB, as the module needs. Skips
/// if there is none.
///
/// # Errors
/// Skip.
pub fn reserved() -> Result<u64> {
    let arguments = read_trimmed("/proc/cmdline")?;
    let mut words = arguments.split_whitespace();
    let Some(address) = words.find_map(|word| word.strip_prefix("memmap=64K$0x")) else {
        skip!("no memory set aside: memmap=64K$0x...");
    };
    Ok(u64::from_str_radix(address, 16)?)
}

/// edu that looks like Intel graphics.
#[derive(Debug)]
pub struct Graphics(ChangedEdu);

impl Graphics {
    /// At [`PLACE`], with its OpRegion where firmware would leave it.
    ///
    /// # Errors
    /// Skip, or the step that failed.
    pub fn new(arguments: &[&str]) -> Result<Self> {
        let reserved = format!("reserved={:#x}", reserved()?);
        Self::anywhere(&[&[reserved.as_str()], arguments].concat())
    }

    /// At [`PLACE`], with its OpRegion where `arguments` say, or in the kernel's memory.
    ///
    /// # Errors
    /// As [`Graphics::new`].
    pub fn anywhere(arguments: &[&str]) -> Result<Self> {
        let pci = EDU.find()?;
        if pci.address != PLACE {
            skip!("no edu at {PLACE}");
        }
        Self::of(pci, arguments)
    }

    /// Any edu.
    ///
    /// # Errors
    /// As [`Graphics::new`].
    pub fn of(pci: PciDevice, arguments: &[&str]) -> Result<Self> {
        Ok(Self(ChangedEdu::of(pci, "vfio_rs_igd", arguments)?))
    }

    /// The device.
    #[must_use]
    pub fn pci(&self) -> &PciDevice {
        &self.0.pci
    }

    /// Opens it in a type1v2 container.
    ///
    /// # Errors
    /// The step that failed.
    pub fn open(&self) -> Result<Opened> {
        self.0.open()
    }

    /// As [`Graphics::open`]; skips if the kernel has no such regions.
    ///
    /// # Errors
    /// Skip, or the step that failed.
    pub fn open_full(&self) -> Result<Opened> {
        let opened = self.open()?;
        if !is_rust_stack() && opened.device.info()?.num_regions == VFIO_PCI_NUM_REGIONS {
            skip!("a kernel without CONFIG_VFIO_PCI_IGD");
        }
        Ok(opened)
    }

    fn config(&self) -> Result<File> {
        config_of(&self.0.pci.address)
    }

    /// The register as the device has it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn asls(&self) -> Result<u32> {
        let mut bytes = [0; 4];
        self.config()?.read_exact_at(&mut bytes, ASLS)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Changes it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_asls(&self, value: u32) -> Outcome {
        Ok(self.config()?.write_all_at(&value.to_le_bytes(), ASLS)?)
    }
}

/// The configuration space of a device, by sysfs.
///
/// # Errors
/// If it cannot be opened.
pub fn config_of(address: &str) -> Result<File> {
    let path = PciDevice::at(address).path().join("config");
    let file = OpenOptions::new().read(true).write(true).open(&path);
    file.with_context(|| path.display().to_string())
}
