// SPDX-License-Identifier: GPL-2.0

//! What is common to all devices, whatever bus they are on.
//!
//! | file           | has                                                        |
//! |----------------|------------------------------------------------------------|
//! | `device.rs`    | what a bus driver gives: a device, bound and open          |
//! | `feature.rs`   | what it can do beyond the ioctls that all have             |
//! | `users.rs`     | who keeps it from being unbound                            |
//! | `names.rs`     | what it is called in sysfs                                 |
//! | `access.rs`    | by what it does DMA                                        |
//! | `iommufd.rs`   | DMA by address spaces of iommufd                           |
//! | `container.rs` | groups that share an I/O address space                     |
//!
//! Locks: `Container::state`, outside of a backend's; `DeviceUsers::state` and
//! `DeviceNames::numbers`, innermost; `Iommufd::device`, inside of nothing but a file's own.

mod access;
mod container;
mod device;
mod feature;
mod iommufd;
mod names;
mod users;

pub(crate) use self::{
    access::{
        Access,
        Closed,
        MsiUser,
        Via, //
    },
    container::{
        attach_patiently,
        Container,
        Leftover,
        NotNow, //
    },
    device::{
        DeviceInfo,
        IrqInfo,
        OpenDevice,
        RegionInfo,
        VfioDevice, //
    },
    feature::Feature,
    iommufd::{
        Iommufd,
        Way, //
    },
    names::{
        DeviceName,
        DeviceNames,
        OwnNode, //
    },
    users::{
        Claimed,
        Counted,
        DeviceUsers, //
    },
};
