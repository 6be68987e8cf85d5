// SPDX-License-Identifier: GPL-2.0

//! IOMMU groups as users see them: who is in one, and who has it open.
//!
//! [`Registry`] keeps one [`Group`] with a node `/dev/vfio/N` for each IOMMU group that has a
//! device bound to the driver. [`GroupFile`] is that node, opened; at most one at a time.
//!
//! Viability is the IOMMU core's to enforce: a container claims DMA ownership of the group, which
//! fails while a driver does DMA for the kernel and keeps such a driver from being bound after.
//! What it refuses is explained here.
//!
//! | file           | has                                                        |
//! |----------------|------------------------------------------------------------|
//! | `group.rs`     | a group, its file, its way through containers              |
//! | `registry.rs`  | all groups and their nodes                                 |
//! | `viability.rs` | the rules of who may have a group; pure                    |
//! | `drivers.rs`   | which driver has which device                              |
//! | `report.rs`    | what the rules say of a group, for users and the log       |
//! | `watch.rs`     | drivers and devices that come and go                       |
//!
//! Locks: `Registry::entries`, then `Group::state`, then `Container::state` or `Device::users`.
//! `Group::devices` is held over `Device::users` or `Device::signals` alone, `Drivers::all` over
//! nothing. Stands for drivers/vfio/group.c.

mod drivers;
mod group;
mod registry;
mod report;
mod viability;
mod watch;

pub(crate) use self::{
    drivers::Drivers,
    group::{
        Group,
        GroupFile, //
    },
    registry::Registry,
    viability::Verdict,
    watch::Watch,
};
