// SPDX-License-Identifier: GPL-2.0

//! A kernel without iommufd: no user has a context, so nothing here is ever called.

use kernel::{
    fs::LocalFile,
    prelude::*, //
};

use super::BoundDevice;
use crate::iommu::IommuGroup;

/// See `present.rs`.
#[derive(Clone)]
pub enum Ctx {}

/// See `present.rs`.
pub struct IommufdDevice(Ctx);

impl Ctx {
    /// There is none.
    ///
    /// # Errors
    ///
    /// `EBADFD`.
    pub fn from_fd(_fd: i32) -> Result<Self> {
        Err(EBADFD)
    }

    /// As [`from_fd`](Self::from_fd).
    pub fn from_file(_file: &LocalFile) -> Result<Self> {
        Err(EBADFD)
    }

    #[allow(missing_docs)]
    pub fn is(&self, _other: &Self) -> bool {
        match *self {}
    }

    #[allow(missing_docs)]
    pub fn has_group(&self, _group: &IommuGroup) -> bool {
        match *self {}
    }

    #[allow(missing_docs)]
    pub fn create_compat_ioas(&self) -> Result {
        match *self {}
    }

    #[allow(missing_docs)]
    pub fn compat_ioas(&self) -> Result<u32> {
        match *self {}
    }

    #[allow(missing_docs)]
    pub fn set_no_iommu(&self) -> Result {
        match *self {}
    }
}

impl IommufdDevice {
    #[allow(missing_docs)]
    pub fn bind(ctx: &Ctx, _bound: impl BoundDevice) -> Result<Self> {
        match *ctx {}
    }

    #[allow(missing_docs)]
    pub fn id(&self) -> u32 {
        match self.0 {}
    }

    #[allow(missing_docs)]
    pub fn is_attached(&self, _pasid: u32) -> bool {
        match self.0 {}
    }

    #[allow(missing_docs)]
    pub fn attach(&mut self, _pasid: u32, _pt: u32) -> Result<u32> {
        match self.0 {}
    }

    #[allow(missing_docs)]
    pub fn detach(&mut self, _pasid: u32) {
        match self.0 {}
    }

    #[allow(missing_docs)]
    pub fn detach_all(&mut self) {
        match self.0 {}
    }
}
