// SPDX-License-Identifier: GPL-2.0

//! Backends: what the ioctls of a container mean.
//!
//! [`open`] is the only place that knows which there are.

mod type1;

use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    argsz::UserArg,
    iommu::{
        DmaOwner,
        Group, //
    },
    uapi,
};

use type1::{
    Type1,
    Version, //
};

/// A kind of I/O address space. All calls may sleep.
pub(crate) trait Backend: Send + Sync {
    /// Whether the backend has an extension, with the groups it has now.
    fn check_extension(&self, extension: u32) -> bool;

    /// Lets a group see the address space; on failure nothing has changed.
    fn attach_group(&self, owner: Arc<DmaOwner>) -> Result;

    /// Cuts a group off. Does nothing for a group that was not attached.
    fn detach_group(&self, group: &Group);

    /// Unmaps and unpins everything; called when the last group was detached.
    fn release(&self);

    /// An ioctl that the container does not know.
    fn ioctl(&self, cmd: u32, arg: UserArg) -> Result<isize>;
}

/// Whether some backend has an extension, before one is chosen.
pub(crate) fn check_extension(extension: u32) -> bool {
    type1::check_extension(extension)
}

/// Makes the backend that `VFIO_SET_IOMMU` names.
///
/// # Errors
///
/// `EINVAL` if `kind` names none.
pub(crate) fn open(kind: u32) -> Result<Arc<dyn Backend>> {
    let version = match kind {
        uapi::VFIO_TYPE1_IOMMU => Version::V1,
        uapi::VFIO_TYPE1v2_IOMMU => Version::V2,
        _ => return Err(EINVAL),
    };
    Ok(Type1::new(version)?)
}
