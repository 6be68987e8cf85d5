// SPDX-License-Identifier: GPL-2.0

//! BARs in I/O address spaces, so that other devices reach them (peer-to-peer DMA).
//!
//! Such a map goes where users' own maps of the BAR go: whoever revokes those
//! ([`Device::zap_bars`]) cuts the devices off too, before the memory stops answering; and when it
//! answers again, the map is back. Users' maps come back by page faults, which devices do not
//! have, so here it is done at once. When the device is closed its maps are cut off for good: they
//! keep their place in the address space, where DMA then fails, until the user unmaps them.
//!
//! Parts of BARs that are exported as dma-bufs (`export.rs`) go and come back with them.
//!
//! Locks: `BarDma::maps`, inside `Open::memory`, outside of `DeviceMapping::on`; `BarDma::exports`,
//! inside `Open::memory`, outside of the dma-bufs' own.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};
use vfio_kernel::{
    dma_buf::BarExport,
    iommu::{
        DeviceMapping,
        DeviceMemory,
        IoSpace,
        Prot, //
    },
    log,
    user_area::FilePart,
};

use super::Open;

/// All maps of a device's BARs in I/O address spaces, and all dma-bufs of them.
#[pin_data]
pub(super) struct BarDma {
    #[pin]
    maps: Mutex<KVec<Arc<DeviceMapping>>>,
    /// What drivers of other devices may map.
    #[pin]
    exports: Mutex<KVec<Arc<BarExport>>>,
}

impl BarDma {
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                maps <- new_mutex!(KVec::new(), "BarDma::maps"),
                exports <- new_mutex!(KVec::new(), "BarDma::exports"),
            }),
            GFP_KERNEL,
        )
    }

    /// Cuts all devices off. May sleep.
    pub(super) fn revoke(&self) {
        for map in self.maps.lock().iter() {
            map.switch_off();
        }
        for export in self.exports.lock().iter() {
            export.revoke();
        }
    }

    /// Lets devices in again. `name` is for the log. May sleep.
    pub(super) fn restore(&self, name: &CStr) {
        for map in self.maps.lock().iter() {
            // The next time that memory is switched on tries again.
            if map.switch_on().is_err() && log::may_log(log::Subject::Devices) {
                pr_warn!("{name}: BAR is not mapped for other devices again\n");
            }
        }
        for export in self.exports.lock().iter() {
            export.restore();
        }
    }

    /// Cuts all devices off for good. May sleep.
    pub(super) fn close(&self) {
        let mut maps = self.maps.lock();
        for map in maps.iter() {
            map.switch_off();
        }
        maps.clear();
        drop(maps);
        let mut exports = self.exports.lock();
        for export in exports.iter() {
            export.revoke();
        }
        exports.clear();
    }

    /// Adds what is to be revoked with the rest. Those that nobody has any more are left out from
    /// then on.
    pub(super) fn add_export(&self, export: &Arc<BarExport>) -> Result {
        let mut exports = self.exports.lock();
        exports.retain(|export| export.is_open());
        exports.push(export.clone(), GFP_KERNEL)?;
        Ok(())
    }

    fn remove(&self, gone: &Arc<DeviceMapping>) {
        self.maps.lock().retain(|map| !Arc::ptr_eq(map, gone));
    }
}

/// A part of a BAR in an I/O address space, until dropped.
pub(crate) struct BarMapping {
    dma: Arc<BarDma>,
    mapping: Arc<DeviceMapping>,
}

impl BarMapping {
    /// The map itself.
    pub(crate) fn mapping(&self) -> &DeviceMapping {
        &self.mapping
    }
}

impl Drop for BarMapping {
    fn drop(&mut self) {
        self.dma.remove(&self.mapping);
        // Somebody may hold another reference for a moment.
        self.mapping.switch_off();
    }
}

impl Open {
    /// The memory that a user's map of the device's file shows.
    ///
    /// # Errors
    ///
    /// `EFAULT` if it is none.
    pub(crate) fn bar_memory(&self, part: FilePart) -> Result<DeviceMemory> {
        let (_, window, offset) = self.window_at(part.offset).ok_or(EFAULT)?;
        window.part(offset, part.len).ok_or(EFAULT)
    }

    /// Puts `memory`, of this device, into an I/O address space at `iova`.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the device's memory does not answer now, as a page fault in it would fail;
    /// `EINTR`, `ENOMEM`; what the IOMMU driver says.
    pub(crate) fn map_for_dma(
        &self,
        space: &Arc<IoSpace>,
        iova: u64,
        memory: DeviceMemory,
        prot: Prot,
    ) -> Result<BarMapping> {
        let mapping = DeviceMapping::new(space, iova, memory, prot)?;
        let dma = self.device.bar_dma();
        // Held until the map is listed, so that whoever disables memory finds it to revoke.
        let memory = self.settled_killable(|| self.memory.read())?;
        if !self.maps(&memory) {
            return Err(EFAULT);
        }
        let mut maps = dma.maps.lock();
        maps.reserve(1, GFP_KERNEL)?;
        mapping.switch_on()?;
        maps.push(mapping.clone(), GFP_KERNEL)?;
        Ok(BarMapping {
            dma: dma.clone(),
            mapping,
        })
    }
}
