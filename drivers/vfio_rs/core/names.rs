// SPDX-License-Identifier: GPL-2.0

//! The name that each device that is bound has in sysfs, `vfio-dev/vfioN` in its own folder, and
//! its node `/dev/vfio/devices/vfioN`.
//!
//! By that folder libvirt tells drivers of VFIO from others, so it is there also where the kernel
//! has no iommufd; then there is no node.
//!
//! Lock: `DeviceNames::numbers`, innermost.

use kernel::{
    device,
    id_pool::IdPool,
    new_mutex,
    prelude::*,
    sync::{
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
    iommufd,
};

use crate::{
    backend::Fence,
    parts, //
};

/// The names of all devices; their nodes carry `N`.
#[pin_data]
pub(crate) struct DeviceNames<N: 'static> {
    class: NodeClass,
    #[pin]
    numbers: Mutex<IdPool>,
    /// The operations of a node that is opened.
    node_ops: NodeOps<N>,
}

/// The name of a device, until dropped, which may sleep.
pub(crate) struct DeviceName<N: 'static> {
    // Before the number, which is another's from then on.
    _node: NodeRegistration<N>,
    _number: Number<N>,
}

/// Whether a device is to have a node of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnNode {
    Wanted,
    Unwanted,
}

struct Number<N: 'static> {
    names: Arc<DeviceNames<N>>,
    number: usize,
}

impl<N: Send + Sync + 'static> DeviceNames<N> {
    /// Names for so many devices need no more memory.
    const FEW: usize = 64;

    /// No names yet; makes the class `vfio-dev`.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is such a class, `ENOMEM`.
    pub(crate) fn new(node_ops: NodeOps<N>) -> Result<Arc<Self>> {
        let class = NodeClass::register(c"vfio-dev", c"vfio/devices")?;
        let numbers = IdPool::with_capacity(Self::FEW, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                class,
                numbers <- new_mutex!(numbers, "DeviceNames::numbers"),
                node_ops,
            }),
            GFP_KERNEL,
        )
    }

    /// Names a device, whose DMA goes through `fence`, by the lowest number that is free, and makes
    /// its node if it is to have one and the kernel has iommufd and such nodes. That carries
    /// `data`.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there are too many, `ENOMEM`.
    pub(crate) fn name(
        self: &Arc<Self>,
        dev: &device::Device,
        fence: Fence,
        node: OwnNode,
        data: N,
    ) -> Result<DeviceName<N>> {
        let number = self.number()?;
        let (prefix, has_node) = match fence {
            Fence::Iommu => ("", parts::DEVICE_CDEV && iommufd::PRESENT),
            Fence::Missing if iommufd::SERVES_NO_IOMMU => ("noiommu-", parts::DEVICE_CDEV),
            Fence::Missing => ("", false),
        };
        let node = match has_node && node == OwnNode::Wanted {
            true => Some((number.number.try_into()?, self.node_ops)),
            false => None,
        };
        let index = number.number;
        Ok(DeviceName {
            _node: CharNode::register(
                &self.class,
                node,
                Some(dev),
                fmt!("{prefix}vfio{index}"),
                data,
            )?,
            _number: number,
        })
    }

    fn number(self: &Arc<Self>) -> Result<Number<N>> {
        let mut numbers = self.numbers.lock();
        if numbers.find_unused_id(0).is_none() {
            let room = numbers.grow_request().ok_or(ENOSPC)?;
            numbers.grow(room.realloc(GFP_KERNEL)?);
        }
        let number = numbers.find_unused_id(0).ok_or(ENOSPC)?.acquire();
        Ok(Number {
            names: self.clone(),
            number,
        })
    }
}

impl<N> Drop for Number<N> {
    fn drop(&mut self) {
        self.names.numbers.lock().release_id(self.number);
    }
}
