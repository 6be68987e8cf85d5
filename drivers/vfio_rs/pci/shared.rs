// SPDX-License-Identifier: GPL-2.0

//! What the driver has once, for all its devices.

use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
};
use vfio_kernel::{
    chardev::NodeOps,
    iommu::{
        self,
        BareGroup, //
    },
    log,
    pci::PciDevice,
    worker::WorkQueue, //
};

use super::{
    debug::DebugRoot,
    dev_set::DevSets,
    sriov::PhysFns,
    Device, //
};
use crate::{
    core::DeviceNames,
    iommu_group::{
        NodeUser,
        Registry, //
    },
    parts, //
};

/// What all devices share.
pub(crate) struct Shared {
    pub(super) registry: Arc<Registry>,
    pub(super) names: Arc<DeviceNames<Arc<Device>>>,
    pub(super) sets: Arc<DevSets>,
    pub(super) physfns: Arc<PhysFns>,
    /// For work on behalf of users.
    pub(super) queue: Arc<WorkQueue>,
    /// None where the kernel was built without.
    pub(super) debug: Option<DebugRoot>,
}

impl Shared {
    /// For a driver without devices, whose nodes will do `node_ops`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(
        registry: Arc<Registry>,
        physfns: Arc<PhysFns>,
        node_ops: NodeOps<Arc<Device>>,
    ) -> Result<Arc<Self>> {
        let shared = Self {
            registry,
            names: DeviceNames::new(node_ops)?,
            sets: DevSets::new()?,
            physfns,
            queue: WorkQueue::new(c"vfio_rs")?,
            debug: parts::DEBUGFS.then(DebugRoot::new).transpose()?,
        };
        Ok(Arc::new(shared, GFP_KERNEL)?)
    }

    /// The group of a device that is being bound: its own, or one made for it, as it has none and
    /// thus no IOMMU.
    pub(super) fn join_group(
        &self,
        pci: &PciDevice,
        own: Option<ARef<iommu::IommuGroup>>,
    ) -> Result<NodeUser> {
        if let Some(own) = own {
            return self.registry.join(own);
        }
        let node = self.registry.join_bare(BareGroup::new(pci.device())?)?;
        log::taint_user();
        // LOG: when an administrator binds it.
        dev_warn!(
            pci.device(),
            "Adding kernel taint for vfio-noiommu group on device\n"
        );
        Ok(node)
    }
}
