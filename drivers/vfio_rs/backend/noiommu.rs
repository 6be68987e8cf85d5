// SPDX-License-Identifier: GPL-2.0

//! The backend of containers whose devices have no IOMMU: it translates nothing.
//!
//! The user tells the device physical addresses, and so can do to the machine whatever the device
//! can. It takes the parameter `enable_unsafe_noiommu_mode` and `CAP_SYS_RAWIO`.
//!
//! Stands for vfio_noiommu_ops of drivers/vfio/container.c.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    argsz::UserArg,
    iommu::{
        DmaOwner,
        IommuGroup,
        Sharing, //
    },
    params, sched, uapi,
};

use super::{
    Backend,
    GroupMachine,
    Refused, //
};

/// See the module's documentation.
pub(super) struct NoIommu;

/// What `VFIO_CHECK_EXTENSION` says.
pub(super) fn check_extension(extension: u32) -> bool {
    params::enable_unsafe_noiommu_mode() && extension == uapi::VFIO_NOIOMMU_IOMMU
}

impl NoIommu {
    /// For the current task.
    ///
    /// # Errors
    ///
    /// `EPERM` if it may not.
    pub(super) fn new() -> Result<Arc<Self>> {
        if !sched::capable_sys_rawio() {
            return Err(EPERM);
        }
        Ok(Arc::new(Self, GFP_KERNEL_ACCOUNT)?)
    }
}

impl Backend for NoIommu {
    fn check_extension(&self, extension: u32) -> bool {
        check_extension(extension)
    }

    fn attach_group(
        &self,
        _owner: Arc<DmaOwner>,
        _sharing: Sharing,
        _machine: &GroupMachine,
    ) -> Result<(), Refused> {
        // The container lets no group with an IOMMU come here.
        Err(EPERM.into())
    }

    fn detach_group(&self, _group: &IommuGroup) {}

    fn release(&self) {}

    fn ioctl(&self, _cmd: u32, _arg: UserArg) -> Result<isize> {
        Err(ENOTTY)
    }
}
