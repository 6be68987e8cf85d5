// SPDX-License-Identifier: GPL-2.0

//! Drivers and devices that come and go on the PCI bus.
//!
//! Once a group is in a container the IOMMU core denies it to drivers that do DMA for the kernel.
//! A driver that comes to one all the same, say as it declared itself safe when the core asked and
//! does no longer, finds all DMA of the group cut off, before it sees its device: the IOMMU domain
//! of the user is taken away, and the group stays claimed, so there is no other.
//!
//! Callbacks come with the device's lock held, outside all of ours.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    iommu,
    pci::{
        BusDriver,
        BusWatch,
        PciDevice,
        Watcher, //
    },
};

use super::{
    Drivers,
    Registry, //
};

/// See the module's documentation.
pub(crate) struct Watch {
    drivers: Arc<Drivers>,
    registry: Arc<Registry>,
}

impl Watch {
    /// Starts to watch, and looks who is there.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. May sleep.
    pub(crate) fn new(drivers: Arc<Drivers>, registry: Arc<Registry>) -> Result<BusWatch<Self>> {
        let watch = BusWatch::new(Arc::new(Self { drivers, registry }, GFP_KERNEL)?)?;
        watch.catch_up();
        Ok(watch)
    }
}

impl Watcher for Watch {
    fn added(&self, pci: &PciDevice) {
        let Some(group) = iommu::IommuGroup::of(pci.device()) else {
            return;
        };
        // As far as the IOMMU core knows. The group's state is its user's, who may keep it locked.
        let owned = group.dma_owner_claimed() && !self.drivers.kernel_has(group.id());
        if owned && self.registry.find(&group).is_some() {
            // LOG: once for a device that is plugged in.
            dev_info!(
                pci.device(),
                "Came to group {}, which a user has\n",
                group.id()
            );
        }
    }

    fn binding(&self, pci: &PciDevice, driver: BusDriver<'_>) {
        self.drivers.enter(pci, driver);
        if driver.managed_dma {
            return;
        }
        let iommu_group = iommu::IommuGroup::of(pci.device());
        let Some(group) = iommu_group.and_then(|group| self.registry.find(&group)) else {
            return;
        };
        if group.cut_off() {
            // LOG: once for a driver that is bound.
            dev_err!(
                pci.device(),
                "Driver {} got the device although a user has group {}: cut off from memory\n",
                driver.name,
                group.id()
            );
        }
    }

    fn bound(&self, pci: &PciDevice, driver: BusDriver<'_>) {
        self.drivers.enter(pci, driver);
    }

    fn unbound(&self, pci: &PciDevice) {
        self.drivers.leave(pci);
    }
}
