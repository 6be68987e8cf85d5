// SPDX-License-Identifier: GPL-2.0

//! Which driver has which device of the PCI bus.
//!
//! Told by the bus as drivers come and go, and never asked of a device: that would take its lock,
//! which whoever unbinds it holds while waiting for its user, who may be asking.
//!
//! Lock: `Drivers::all`, innermost.

use kernel::{
    device, new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};
use vfio_kernel::{
    iommu,
    pci::{
        BusDriver,
        PciDevice, //
    },
};

use super::viability::Holder;

/// A name as users get it: ended by a zero, cut if it is too long.
pub(crate) type ShortName = [u8; 32];

/// See the module's documentation.
#[pin_data]
pub(crate) struct Drivers {
    #[pin]
    all: Mutex<KVec<DriverEntry>>,
}

struct DriverEntry {
    pci: PciDevice,
    name: ShortName,
    holder: Holder,
    /// Number of the device's group.
    group: Option<i32>,
}

impl Drivers {
    /// Nothing is known yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self { all <- new_mutex!(KVec::new(), "Drivers::all") }),
            GFP_KERNEL,
        )
    }

    /// Notes that `driver` has `pci`. Without memory for that it will be one of unknown name.
    pub(super) fn enter(&self, pci: &PciDevice, driver: BusDriver<'_>) {
        let entry = DriverEntry {
            pci: pci.clone(),
            name: name(driver.name),
            holder: match driver.managed_dma {
                true => Holder::Safe,
                false => Holder::Kernel,
            },
            group: iommu::IommuGroup::of(pci.device()).map(|group| group.id()),
        };
        let mut all = self.all.lock();
        all.retain(|entry| entry.pci != *pci);
        let _ = all.push(entry, GFP_KERNEL);
    }

    /// Notes that no driver has `pci`.
    pub(super) fn leave(&self, pci: &PciDevice) {
        self.all.lock().retain(|entry| entry.pci != *pci);
    }

    /// What is known of the driver of `dev`.
    pub(super) fn of(&self, dev: &device::Device) -> Option<(ShortName, Holder)> {
        let all = self.all.lock();
        let mut all = all.iter();
        let entry = all.find(|entry| core::ptr::eq(entry.pci.device(), dev))?;
        Some((entry.name, entry.holder))
    }

    /// Whether a driver that does DMA for the kernel has a device of group number `group`.
    pub(super) fn kernel_has(&self, group: i32) -> bool {
        let all = self.all.lock();
        let mut kernels = all.iter().filter(|entry| entry.holder == Holder::Kernel);
        kernels.any(|entry| entry.group == Some(group))
    }
}

/// `text` as a [`ShortName`].
pub(super) fn name(text: &CStr) -> ShortName {
    let mut name = [0; size_of::<ShortName>()];
    let room = name.len().saturating_sub(1);
    for (to, from) in name.iter_mut().take(room).zip(text.to_bytes()) {
        *to = *from;
    }
    name
}
