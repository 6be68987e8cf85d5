// SPDX-License-Identifier: GPL-2.0

//! The IOMMU core, `include/linux/iommu.h`.
//!
//! [`IommuGroup`] is what the hardware can tell apart, [`DmaOwner`] the right to give it to a user,
//! [`IoSpace`] what it may reach: pinned user memory, and device memory that somebody can switch
//! off. [`Ranges`] says what is where in a space, and who may change it.

mod bare;
mod device_memory;
mod domain;
mod group;
mod limited;
mod mapping;
mod members;
mod mixed;
mod owned;
mod pagealloc;
mod pieces;
mod ranges;
mod shadow;
mod space;

pub use bare::BareGroup;
pub use device_memory::{
    DeviceMapping,
    DeviceMemory,
    Pieces,
    RangePart, //
};
pub use domain::{
    Geometry,
    Prot, //
};
pub use group::{
    DmaOwner,
    IommuGroup,
    ResvKind,
    ResvRegion, //
};
pub use mapping::{
    Departures,
    IoMapping,
    Unmapped, //
};
pub use members::GroupDevice;
pub use mixed::MixedMapping;
pub use owned::OwnedSpace;
pub use pagealloc::init;
pub use ranges::{
    Content,
    FreeRange,
    LeavingRange,
    RangeEntry,
    RangeSlot,
    Ranges, //
};
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
