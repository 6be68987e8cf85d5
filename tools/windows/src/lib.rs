// SPDX-License-Identifier: GPL-2.0
//! The example of `Documentation/type2.rst`, as code: [`Windows::set_up`] is what the document
//! lists, the other methods have QEMU's `edu` do DMA through each window. A program of its own, and
//! a test.

#![forbid(unsafe_code)]

use anyhow::{Context, Result, ensure};
use vfio_client::pamu::{VFIO_ATTR_MSI, halves};
use vfio_client::uapi::{VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE};
use vfio_client::{Container, DmaBuf, Edu, Group, Setting};

/// Bytes of a window.
pub const WINDOW: u64 = 64 << 20;
/// How many there are.
pub const WINDOWS: u32 = 8;
/// Bytes of the aperture, which begins at 0.
pub const APERTURE: u64 = WINDOW * WINDOWS as u64;
/// Windows with memory: the first.
pub const RAM: u32 = 4;
/// Windows with banks of MSI registers: the next.
pub const BANKS: u32 = 3;
/// The window that leads nowhere: the last.
pub const DISABLED: u32 = RAM + BANKS;
/// Bytes of a bank.
pub const BANK: u64 = 4096;
/// A register of a bank.
const REGISTER: u64 = 0x140;

/// First I/O address of window `number`.
#[must_use]
pub fn start(number: u32) -> u64 {
    u64::from(number) * WINDOW
}

/// A container with the windows of the example.
#[derive(Debug)]
pub struct Windows<'a> {
    container: &'a Container,
    ram: DmaBuf,
}

impl<'a> Windows<'a> {
    /// Cuts the aperture into windows, and maps memory and banks. The container has its IOMMU
    /// already.
    ///
    /// # Errors
    /// The step that failed.
    pub fn set_up(container: &'a Container) -> Result<Self> {
        const BOTH: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
        let size = WINDOW * u64::from(RAM);
        // Set aside only until they are ours.
        let room = Setting::huge_pages(size).context("no huge pages for 256 MiB")?;
        let ram = DmaBuf::huge(size as usize).context("memory of huge pages")?;
        drop(room);

        container
            .set_geometry(0, APERTURE - 1)
            .context("GEOMETRY")?;
        container.set_windows(WINDOWS).context("WINDOWS")?;
        container.set_msi_mode(1).context("MSI")?;
        for window in 0..RAM {
            let iova = start(window);
            container
                .map(BOTH, ram.addr() + iova, iova, WINDOW)
                .with_context(|| format!("MAP_DMA of window {window}"))?;
        }
        let (mode, banks) = halves(container.pamu_get(VFIO_ATTR_MSI)?[0]);
        ensure!(mode == 1 && banks == BANKS, "{banks} banks, mode {mode}");
        for bank in 0..BANKS {
            container
                .map_bank(bank, start(RAM + bank))
                .with_context(|| format!("MSI_BANK_MAP of bank {bank}"))?;
        }
        Ok(Self { container, ram })
    }

    /// Has `edu` write `word` to `iova`, by way of the first bytes of window 0.
    fn write(&self, edu: &Edu<'_>, iova: u64, word: u32) -> Result<()> {
        self.ram.put(0, &word.to_ne_bytes());
        edu.fetch(0, 4)?;
        Ok(edu.store(iova, 4)?)
    }

    /// The device writes the last word of window `number`, which is the memory's: returns what is
    /// there now.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn into_memory(&self, edu: &Edu<'_>, number: u32, word: u32) -> Result<u32> {
        let iova = start(number) + WINDOW - 4;
        self.write(edu, iova, word)?;
        let bytes = self.ram.copy(iova as usize, 4);
        Ok(u32::from_ne_bytes(bytes.as_slice().try_into()?))
    }

    /// The device writes to a register through the window of a bank: returns what the bank's
    /// descriptor shows there.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn into_bank(&self, edu: &Edu<'_>, group: &Group, bank: u32, word: u32) -> Result<u32> {
        let shown = group.msi_fd(bank).context("GET_MSI_FD")?.map()?;
        self.write(edu, start(RAM + bank) + REGISTER, word)?;
        Ok(shown.get(REGISTER as usize / 4))
    }

    /// The device writes to the disabled window: returns whether anything changed in the memory
    /// beside the word that it got.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn into_nothing(&self, edu: &Edu<'_>) -> Result<bool> {
        self.ram.put(4, &[7; 4]);
        self.write(edu, start(DISABLED), 0x3000)?;
        Ok(self.ram.copy(4, 4) != [7; 4])
    }

    /// Unmaps everything by one call: returns how many bytes those were.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn unmap(self) -> Result<u64> {
        self.container.unmap(0, APERTURE).context("UNMAP_DMA")
    }
}
