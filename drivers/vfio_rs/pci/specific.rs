// SPDX-License-Identifier: GPL-2.0

//! Regions that only some devices have, behind the indices that every PCI device has.
//!
//! They are found when the device is opened, and are there as long as it is open. Users know them
//! by a type and a subtype. So far all of them are to be read only.
//!
//! Stands for vfio_pci_core_register_dev_region() of drivers/vfio/pci/vfio_pci_core.c.

use kernel::{
    prelude::*,
    uaccess::UserSliceWriter, //
};
use vfio_kernel::{
    nospec,
    sched, //
};

use super::{
    region_io::clamp,
    Open, //
};

/// A region.
pub(super) trait SpecificRegion: Send + Sync {
    /// What it is.
    fn kind(&self) -> RegionType;

    /// Bytes. Does not change.
    fn size(&self) -> u64;

    /// Reads; `EINVAL` beyond the end. May sleep.
    fn read(&self, at: u64, buf: &mut [u8]) -> Result;
}

/// What a region is: the capability `VFIO_REGION_INFO_CAP_TYPE`.
#[derive(Clone, Copy)]
pub(crate) struct RegionType {
    /// `VFIO_REGION_TYPE_*`.
    pub(crate) ty: u32,
    /// A number of that type.
    pub(crate) subtype: u32,
}

/// All such regions of a device, in the order of their indices.
pub(super) struct SpecificRegions(KVec<KBox<dyn SpecificRegion>>);

impl SpecificRegions {
    /// None.
    pub(super) fn new() -> Self {
        Self(KVec::new())
    }

    /// Adds one at the end.
    pub(super) fn add(&mut self, region: impl SpecificRegion + 'static) -> Result {
        let region: KBox<dyn SpecificRegion> = KBox::new(region, GFP_KERNEL)?;
        Ok(self.0.push(region, GFP_KERNEL)?)
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.0.len() as u32
    }

    /// One of them, whose number is the user's. `EINVAL` if there is none.
    pub(super) fn get(&self, number: u32) -> Result<&dyn SpecificRegion> {
        let number = number as usize;
        if number >= self.0.len() {
            return Err(EINVAL);
        }
        let number = nospec::index(number, self.0.len());
        Ok(&**self.0.get(number).ok_or(EINVAL)?)
    }
}

/// Bytes that go to the user at once.
const PIECE: usize = 256;

impl Open {
    /// Reads from a region of the device's own.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none, or at its end; `EIO` if the device does not wake up; `EFAULT`;
    /// what the region's source says.
    #[cold]
    pub(super) fn specific_read(
        &self,
        number: u32,
        offset: u64,
        writer: &mut UserSliceWriter,
    ) -> Result<usize> {
        let _awake = self.awake()?;
        let region = self.specific()?.get(number)?;
        let len = clamp(writer.len(), offset, region.size())?;
        let mut buf = [0; PIECE];
        let mut done = 0usize;
        while done < len {
            let at = offset.wrapping_add(done as u64);
            // From the second piece on aligned, so that a register is read by one access.
            let room = PIECE.wrapping_sub(at as usize % PIECE);
            let bytes = buf
                .get_mut(..len.saturating_sub(done).min(room))
                .ok_or(EINVAL)?;
            region.read(at, bytes)?;
            writer.write_slice(bytes)?;
            done = done.saturating_add(bytes.len());
            sched::pause()?;
        }
        Ok(done)
    }
}
