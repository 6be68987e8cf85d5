// SPDX-License-Identifier: GPL-2.0

//! All groups that have a device bound to the driver.

use kernel::{
    c_str, new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    },
};
use vfio_kernel::{
    chardev::{
        CharNode,
        NodeClass,
        NodeOps,
        NodeRegistration, //
    },
    count::Count,
    iommu::{
        self,
        BareGroup, //
    },
};

use super::{
    Drivers,
    Group, //
};
use crate::{
    backend::Fence,
    parts, //
};

/// See the module's documentation.
#[pin_data]
pub(crate) struct Registry {
    // Before the class, whose nodes they have.
    #[pin]
    entries: Mutex<KVec<NodeEntry>>,
    /// None where the kernel has no nodes of groups.
    class: Option<NodeClass>,
    drivers: Arc<Drivers>,
    /// The operations of a node that is opened.
    node_ops: NodeOps<Arc<Group>>,
}

struct NodeEntry {
    group: Arc<Group>,
    /// How many of the group's devices are bound.
    devices: Count,
    node: Option<NodeRegistration<Arc<Group>>>,
}

impl Registry {
    /// An empty registry, with the class `vfio` and the folder `/dev/vfio`; groups' nodes will do
    /// `node_ops`.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is such a class; `ENOMEM`.
    pub(crate) fn new(drivers: Arc<Drivers>, node_ops: NodeOps<Arc<Group>>) -> Result<Arc<Self>> {
        let class = parts::GROUP
            .then(|| NodeClass::register(c_str!("vfio"), c_str!("vfio")))
            .transpose()?;
        Arc::pin_init(
            pin_init!(Self {
                entries <- new_mutex!(KVec::new(), "Registry::entries"),
                class,
                drivers,
                node_ops,
            }),
            GFP_KERNEL,
        )
    }

    /// The group for a device that is being bound; its node is made for the first one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what making the node says.
    pub(crate) fn join(self: &Arc<Self>, iommu_group: ARef<iommu::IommuGroup>) -> Result<NodeUser> {
        let id = iommu_group.id();
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.iter_mut().find(|entry| entry.group.id() == id) {
            entry.devices.inc();
            return Ok(self.user_of(&entry.group));
        }
        let group = Group::new(iommu_group, &self.drivers)?;
        self.enter(&mut entries, &group)?;
        Ok(self.user_of(&group))
    }

    /// As [`join`](Self::join), for a device that has no IOMMU.
    pub(crate) fn join_bare(self: &Arc<Self>, bare: BareGroup) -> Result<NodeUser> {
        let group = Group::new_bare(bare, &self.drivers)?;
        self.enter(&mut self.entries.lock(), &group)?;
        Ok(self.user_of(&group))
    }

    /// For a device that is counted.
    fn user_of(self: &Arc<Self>, group: &Arc<Group>) -> NodeUser {
        NodeUser {
            registry: self.clone(),
            group: group.clone(),
        }
    }

    /// All groups.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn groups(&self) -> Result<KVec<Arc<Group>>> {
        let entries = self.entries.lock();
        let mut groups = KVec::with_capacity(entries.len(), GFP_KERNEL)?;
        for entry in entries.iter() {
            groups.push(entry.group.clone(), GFP_KERNEL)?;
        }
        Ok(groups)
    }

    /// The group of `iommu_group`, if a device of it is bound.
    pub(super) fn find(&self, iommu_group: &iommu::IommuGroup) -> Option<Arc<Group>> {
        let entries = self.entries.lock();
        let mut groups = entries.iter().map(|entry| &entry.group);
        groups.find(|group| group.id() == iommu_group.id()).cloned()
    }

    /// Makes the node of a group that has its first device.
    fn enter(&self, entries: &mut KVec<NodeEntry>, group: &Arc<Group>) -> Result {
        let id = group.id();
        let prefix = match group.fence() {
            Fence::Iommu => "",
            Fence::Missing => "noiommu-",
        };
        entries.reserve(1, GFP_KERNEL)?;
        let node = match &self.class {
            Some(class) => Some(CharNode::register(
                class,
                Some((id.try_into()?, self.node_ops)),
                None,
                fmt!("{prefix}{id}"),
                group.clone(),
            )?),
            None => None,
        };
        let entry = NodeEntry {
            group: group.clone(),
            devices: Count::ONE,
            node,
        };
        entries.push(entry, GFP_KERNEL)?;
        Ok(())
    }

    /// Counts one device less; with the last one of a group its node goes.
    fn leave(&self, group: &Group) {
        let mut entries = self.entries.lock();
        let Some(at) = entries
            .iter()
            .position(|entry| core::ptr::eq(&*entry.group, group))
        else {
            return;
        };
        let Some(entry) = entries.get_mut(at) else {
            return;
        };
        if !entry.devices.dec() {
            return;
        }
        if let Ok(NodeEntry { group, node, .. }) = entries.remove(at) {
            // Under the lock, as the same name may come again at once.
            drop(node);
            // Not under the lock: its user may keep it waiting, and nobody else.
            drop(entries);
            group.revoke();
        }
    }
}

/// A bound device, for which its group has a node. Dropping this takes the group from its user if
/// it was the last one, and may sleep.
pub(crate) struct NodeUser {
    registry: Arc<Registry>,
    group: Arc<Group>,
}

impl NodeUser {
    /// The group.
    pub(crate) fn group(&self) -> &Arc<Group> {
        &self.group
    }
}

impl Drop for NodeUser {
    fn drop(&mut self) {
        self.registry.leave(&self.group);
    }
}
