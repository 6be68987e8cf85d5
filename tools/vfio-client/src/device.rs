// SPDX-License-Identifier: GPL-2.0
//! A device: the descriptor that VFIO_GROUP_GET_DEVICE_FD returns. Information and reset here;
//! memory in [`crate::region`], interrupts in [`crate::irq`], configuration space in
//! [`crate::config`].

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::sys;
use crate::uapi::*;

/// An open device.
#[derive(Debug)]
pub struct Device(File);

impl Device {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(fd.into())
    }

    pub(crate) fn file(&self) -> &File {
        &self.0
    }

    /// VFIO_DEVICE_GET_INFO without its capabilities.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn info(&self) -> io::Result<vfio_device_info> {
        let mut info = vfio_device_info {
            argsz: argsz::<vfio_device_info>(),
            ..Default::default()
        };
        sys::with_struct(self, DEVICE_GET_INFO, &mut info)?;
        Ok(info)
    }

    /// Whether the device says that it can be reset.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn can_reset(&self) -> io::Result<bool> {
        Ok(self.info()?.flags & VFIO_DEVICE_FLAGS_RESET != 0)
    }

    /// VFIO_DEVICE_RESET.
    ///
    /// # Errors
    /// EINVAL if the device has no reset.
    pub fn reset(&self) -> io::Result<()> {
        sys::with_value(self, DEVICE_RESET, 0).map(drop)
    }
}

impl From<OwnedFd> for Device {
    /// For a descriptor that another process opened.
    fn from(fd: OwnedFd) -> Self {
        Self::new(fd)
    }
}

impl AsRawFd for Device {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
