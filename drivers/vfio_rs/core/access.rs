// SPDX-License-Identifier: GPL-2.0

//! By what a device that is open does its DMA.

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::backend::Backend;

/// Given to a device when it is opened, and gone with it.
#[derive(Clone)]
pub(crate) enum Access {
    /// The I/O address space of its group's container; also where there is no IOMMU, as users
    /// choose a backend for that, too.
    Container(Arc<dyn Backend>),
}

/// A device that has MSI or MSI-X on, as its address space counts them.
pub(crate) struct MsiUser(Access);

impl Access {
    /// The device is about to switch MSI or MSI-X on.
    ///
    /// # Errors
    ///
    /// What the backend says; then nothing may be switched on.
    pub(crate) fn msi_user(&self) -> Result<MsiUser> {
        match self {
            Self::Container(backend) => backend.msi_on()?,
        }
        Ok(MsiUser(self.clone()))
    }
}

impl Drop for MsiUser {
    fn drop(&mut self) {
        match &self.0 {
            Access::Container(backend) => backend.msi_off(),
        }
    }
}
