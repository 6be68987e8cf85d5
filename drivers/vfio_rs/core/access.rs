// SPDX-License-Identifier: GPL-2.0

//! By what a device that is open does its DMA.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    iommufd::{
        BoundDevice,
        Ctx, //
    },
    kvm::Kvm, //
};

use super::{
    Iommufd,
    Way, //
};
use crate::backend::Backend;

/// By what a device that is being opened is to do its DMA.
pub(crate) enum Via {
    /// See [`Access::Container`].
    Container(Arc<dyn Backend>),
    /// Address spaces of this context.
    Iommufd(Ctx, Way),
    /// See [`Access::Unfenced`].
    Unfenced,
}

/// Given to a device when it is opened, and gone with it.
#[derive(Clone)]
pub(crate) enum Access {
    /// The I/O address space of its group's container; also where there is no IOMMU, as users
    /// choose a backend for that, too.
    Container(Arc<dyn Backend>),
    /// Address spaces that its user attaches to it.
    Iommufd(Arc<Iommufd>),
    /// All memory: there is no IOMMU, and its user manages nothing.
    Unfenced,
}

/// A device that has MSI or MSI-X on, as its address space counts them.
pub(crate) struct MsiUser(Access);

impl Via {
    /// For a device that is opened now, by its first user.
    ///
    /// # Errors
    ///
    /// What [`Iommufd::bind`] says.
    pub(crate) fn access(&self, bound: impl BoundDevice) -> Result<Access> {
        Ok(match self {
            Self::Container(backend) => Access::Container(backend.clone()),
            Self::Iommufd(ctx, way) => Access::Iommufd(Iommufd::bind(ctx, bound, *way)?),
            Self::Unfenced => Access::Unfenced,
        })
    }
}

impl Access {
    /// What the device is bound to, if that is iommufd.
    pub(crate) fn iommufd(&self) -> Option<&Arc<Iommufd>> {
        match self {
            Self::Iommufd(iommufd) => Some(iommufd),
            Self::Container(_) | Self::Unfenced => None,
        }
    }

    /// The device is about to switch MSI or MSI-X on.
    ///
    /// # Errors
    ///
    /// What the backend says; then nothing may be switched on.
    pub(crate) fn msi_user(&self) -> Result<MsiUser> {
        if let Self::Container(backend) = self {
            backend.msi_on()?;
        }
        Ok(MsiUser(self.clone()))
    }
}

impl Drop for MsiUser {
    fn drop(&mut self) {
        if let Access::Container(backend) = &self.0 {
            backend.msi_off();
        }
    }
}

/// What a device had that was closed by its last user. Dropped when no lock is held: it waits for
/// whoever maps something in the device's address spaces, and may be the end of a virtual machine.
#[must_use]
pub(crate) struct Closed {
    pub(crate) access: Option<Access>,
    _kvm: Option<Kvm>,
}

impl Closed {
    /// By one of several users.
    pub(crate) const NOT_YET: Self = Self {
        access: None,
        _kvm: None,
    };

    /// By the last one.
    pub(crate) fn new(access: Option<Access>, kvm: Option<Kvm>) -> Self {
        Self { access, _kvm: kvm }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        if let Some(iommufd) = self.access.as_ref().and_then(Access::iommufd) {
            iommufd.unbind();
        }
    }
}
