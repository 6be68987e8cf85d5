// SPDX-License-Identifier: GPL-2.0

//! The IOMMU core, `include/linux/iommu.h`.
//!
//! [`Group`] is what the hardware can tell apart, [`DmaOwner`] the right to give it to a user,
//! [`IoSpace`] what it may reach: pinned user memory, and device memory that somebody can switch
//! off.

mod bare;
mod device_memory;
mod domain;
mod group;
mod limited;
mod mapping;
mod members;
mod pagealloc;
mod pieces;
mod shadow;
mod space;

pub use bare::BareGroup;
pub use device_memory::{
    DeviceMapping,
    DeviceMemory,
    Pieces, //
};
pub use domain::{
    Geometry,
    Prot, //
};
pub use group::{
    DmaOwner,
    Group,
    ResvKind,
    ResvRegion, //
};
pub use mapping::{
    Departures,
    IoMapping, //
};
pub use members::GroupDevice;
pub use pagealloc::init;
pub use shadow::{
    depart,
    Arrivals,
    Departed,
    Largest,
    ShadowExtent,
    ShadowPages, //
};
pub use space::{
    Attachment,
    IoSpace,
    Replay,
    Sharing, //
};
