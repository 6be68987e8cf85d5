// SPDX-License-Identifier: GPL-2.0

//! IOMMU groups as users see them: who is in one, and who has it open.
//!
//! [`Registry`] keeps one [`Group`] with a node `/dev/vfio/N` for each IOMMU group that has a
//! device bound to the driver. [`GroupFile`] is that node, opened; at most one at a time.
//!
//! Viability is the IOMMU core's to enforce: a container claims DMA ownership of the group, which
//! fails while a driver does DMA for the kernel and keeps such a driver from being bound after.
//!
//! Locks: `Registry::entries`, then `Group::state`, then `Container::state` or `Device::users`.
//! `Group::devices` is held over `Device::users` alone. Stands for drivers/vfio/group.c.

mod group;
mod registry;

pub(crate) use self::{
    group::{
        Group,
        GroupFile, //
    },
    registry::Registry,
};
