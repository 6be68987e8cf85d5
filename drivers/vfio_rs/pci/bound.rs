// SPDX-License-Identifier: GPL-2.0

//! The driver: what a device has as long as it is bound.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    iommu,
    params::{
        self,
        PerDevice, //
    },
    pci::{
        BoundPci,
        Driver,
        DriverOwner, //
    },
    sched,
};

use super::{
    debug::DebugDevice,
    dev_set::{
        SetMember,
        SetUser, //
    },
    refusal,
    shared::Shared,
    Device, //
};
use crate::{
    core::{
        DeviceName,
        OwnNode,
        VfioDevice as _, //
    },
    iommu_group::{
        ListedDevice,
        NodeUser, //
    },
};

/// A device that is bound to the driver. When it is unbound this is dropped, in the order of the
/// fields: it loses its virtual functions, users do not find it any more, its name goes, and it
/// waits for those that it has.
pub(crate) struct Bound {
    vfs: VirtualFns,
    _listed: ListedDevice,
    _debug: Option<DebugDevice>,
    _name: DeviceName<Arc<Device>>,
    _use: Use,
    _member: SetMember,
    _set: SetUser,
    _node: NodeUser,
}

/// The virtual functions of a device.
struct VirtualFns(Arc<Device>);

impl Drop for VirtualFns {
    fn drop(&mut self) {
        self.0.disable_sriov();
    }
}

/// That a device may be used.
struct Use(Arc<Device>);

impl Drop for Use {
    fn drop(&mut self) {
        let device = &self.0;
        device.users().wait_unused(
            |count| device.request(count),
            || {
                // LOG: once for an administrator who unbinds it.
                dev_warn!(
                    device.dev(),
                    "Device is currently in use, task {} blocked until device is released\n",
                    sched::current_pid()
                )
            },
        );
    }
}

impl Bound {
    fn device(&self) -> &Arc<Device> {
        &self.vfs.0
    }
}

impl Driver for Bound {
    type Shared = Arc<Shared>;

    fn probe(
        pci: BoundPci,
        params: PerDevice,
        owner: &Arc<DriverOwner>,
        shared: &Arc<Shared>,
    ) -> Result<Self> {
        let iommu_group = iommu::IommuGroup::of(pci.device());
        refusal::check(&pci, iommu_group.as_deref())?;
        let set = shared.sets.join(&pci)?;
        let node = shared.join_group(&pci, iommu_group)?;
        let device = Device::new(pci, params, owner, shared, node.group(), set.set())?;
        // The PCI core takes only this way out of the state in which it leaves a device.
        let _ = device.pci().set_power_state(0);
        let member = set.set().add(device.clone())?;
        let unused = Use(device.clone());
        let own_node = match node.group().lets_nodes_be() {
            true => OwnNode::Wanted,
            false => OwnNode::Unwanted,
        };
        let (dev, fence) = (device.dev(), node.group().fence());
        let name = shared.names.name(dev, fence, own_node, device.clone())?;
        // Nothing depends on it.
        let debug = shared.debug.as_ref().map(|debug| debug.add(&device));
        let listed = node.group().list_device(device.clone())?;
        Ok(Self {
            vfs: VirtualFns(device),
            _listed: listed,
            _debug: debug.and_then(Result::ok),
            _name: name,
            _use: unused,
            _member: member,
            _set: set,
            _node: node,
        })
    }

    fn sleeps(&self) -> bool {
        self.device().sleeps()
    }

    fn suspend(&self) {
        if let Some(open) = self.device().current() {
            open.suspend();
        }
    }

    fn resume(&self) {
        if let Some(open) = self.device().current() {
            open.resume();
        }
    }

    fn sriov_configure(&self, count: u16) -> Result<u16> {
        let device = self.device();
        // ERRNO: ENOENT, as vfio_pci_sriov_configure().
        if !params::enable_sriov() {
            // LOG: when an administrator asks for them.
            dev_warn!(
                device.dev(),
                "No virtual functions: enable_sriov of vfio-pci is off\n"
            );
            return Err(ENOENT);
        }
        match count {
            0 => device.disable_sriov(),
            count => device.enable_sriov(count)?,
        }
        Ok(count)
    }

    fn error_detected(&self) {
        if let Some(eventfd) = &self.device().signals.lock().err {
            eventfd.signal();
        }
    }

    fn reset_prepare(&self) {
        self.device().begin_reset();
    }

    fn reset_done(&self) {
        self.device().end_reset();
    }
}
