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
//! | `group.rs`     | a group and its way through containers                     |
//! | `device.rs`    | its devices: how users find and open them                  |
//! | `file.rs`      | its node, opened                                           |
//! | `iommufd.rs`   | a context of iommufd instead of a container; nodes of      |
//! |                | devices that exclude the group's                           |
//! | `seat.rs`      | where what belongs to a group is, when groups join others  |
//! | `merge.rs`     | groups that join others                                    |
//! | `roles.rs`     | what a group may do then; pure                             |
//! | `registry.rs`  | all groups and their nodes                                 |
//! | `viability.rs` | the rules of who may have a group; pure                    |
//! | `drivers.rs`   | which driver has which device                              |
//! | `report.rs`    | what the rules say of a group, for users and the log       |
//! | `debug.rs`     | debugfs                                                    |
//! | `watch.rs`     | drivers and devices that come and go                       |
//!
//! Locks: `Group::state`, then that of a group that joined, then `Container::state`,
//! `Group::devices` or what a device takes. `Registry::entries` is held over none of them,
//! `Group::devices` is held over `DeviceUsers::state` or `Device::signals` alone, `Drivers::all`
//! over nothing. Stands for drivers/vfio/group.c.

mod debug;
mod device;
mod drivers;
mod file;
mod group;
mod iommufd;
mod merge;
mod registry;
mod report;
mod roles;
mod seat;
mod viability;
mod watch;

pub(crate) use self::{
    debug::DebugFiles,
    device::{
        GroupedDevice,
        ListedDevice, //
    },
    drivers::Drivers,
    file::GroupFile,
    group::{
        Group,
        Place, //
    },
    iommufd::ByNode,
    registry::{
        NodeUser,
        Registry, //
    },
    report::Asker,
    viability::Verdict,
    watch::Watch,
};
