// SPDX-License-Identifier: GPL-2.0
//! A group: `/dev/vfio/N`, the smallest set of devices that the IOMMU can tell apart.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::container::Container;
use crate::device::Device;
use crate::sys;
use crate::uapi::*;

/// An open group.
#[derive(Debug)]
pub struct Group(File);

/// Path of the node of group `number`.
#[must_use]
pub fn node(number: u32) -> String {
    format!("/dev/vfio/{number}")
}

/// Path of the node of group `number`, of a device without an IOMMU.
#[must_use]
pub fn bare_node(number: u32) -> String {
    format!("/dev/vfio/noiommu-{number}")
}

impl Group {
    /// Opens the node of group `number`.
    ///
    /// # Errors
    /// ENOENT if no device of the group is bound to vfio-pci, EBUSY if the group is open elsewhere.
    pub fn open(number: u32) -> io::Result<Self> {
        Ok(Self(
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(node(number))?,
        ))
    }

    /// Opens the node of group `number`, of a device without an IOMMU.
    ///
    /// # Errors
    /// As [`Group::open`]; EPERM without CAP_SYS_RAWIO.
    pub fn open_bare(number: u32) -> io::Result<Self> {
        Ok(Self(
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(bare_node(number))?,
        ))
    }

    /// VFIO_GROUP_GET_STATUS: `VFIO_GROUP_FLAGS_*`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn status(&self) -> io::Result<u32> {
        let mut status = vfio_group_status {
            argsz: argsz::<vfio_group_status>(),
            flags: 0,
        };
        sys::with_struct(self, GROUP_GET_STATUS, &mut status)?;
        Ok(status.flags)
    }

    /// VFIO_GROUP_SET_CONTAINER.
    ///
    /// # Errors
    /// EINVAL if in one already, EPERM if the group is not viable.
    pub fn set_container(&self, container: &Container) -> io::Result<()> {
        self.set_container_fd(container.as_raw_fd())
    }

    /// VFIO_GROUP_SET_CONTAINER with any number as descriptor.
    ///
    /// # Errors
    /// EBADF if not open, EBADFD if open but no container.
    pub fn set_container_fd(&self, fd: RawFd) -> io::Result<()> {
        let mut fd = fd;
        sys::with_struct(self, GROUP_SET_CONTAINER, &mut fd).map(drop)
    }

    /// VFIO_GROUP_UNSET_CONTAINER.
    ///
    /// # Errors
    /// EINVAL if in none, EBUSY while devices of the group are open.
    pub fn unset_container(&self) -> io::Result<()> {
        sys::with_value(self, GROUP_UNSET_CONTAINER, 0).map(drop)
    }

    /// VFIO_GROUP_MERGE or VFIO_GROUP_SPLIT with any numbers.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn merge_ioctl(&self, nr: u32, flags: u32, group_fd: RawFd) -> io::Result<()> {
        let mut merge = vfio_group_merge {
            argsz: argsz::<vfio_group_merge>(),
            flags,
            group_fd,
            ..Default::default()
        };
        sys::with_struct(self, nr, &mut merge).map(drop)
    }

    /// VFIO_GROUP_MERGE: `other` joins.
    ///
    /// # Errors
    /// EBUSY if `other` is in a container, or one of the two has a role that it does not go with;
    /// EPERM if it is not viable.
    pub fn merge(&self, other: &Self) -> io::Result<()> {
        self.merge_ioctl(GROUP_MERGE, 0, other.as_raw_fd())
    }

    /// VFIO_GROUP_SPLIT: `other`, which has joined, leaves.
    ///
    /// # Errors
    /// EINVAL if it has not joined, EBUSY while devices of it are open.
    pub fn split(&self, other: &Self) -> io::Result<()> {
        self.merge_ioctl(GROUP_SPLIT, 0, other.as_raw_fd())
    }

    /// VFIO_GROUP_SPLIT: leaves the group that it has joined.
    ///
    /// # Errors
    /// EINVAL if it has joined none, EBUSY while devices of it are open.
    pub fn leave(&self) -> io::Result<()> {
        self.merge_ioctl(GROUP_SPLIT, 0, -1)
    }

    /// VFIO_GROUP_GET_DEVICE_FD; `name` is a PCI address such as `0000:00:04.0`.
    ///
    /// # Errors
    /// ENODEV if the group has no such device bound to vfio-pci, EINVAL before SET_IOMMU.
    pub fn device(&self, name: &str) -> io::Result<Device> {
        let name = CString::new(name)?;
        let fd = sys::raw(
            self.as_raw_fd(),
            GROUP_GET_DEVICE_FD,
            name.as_ptr() as usize,
        )?;
        // SAFETY: the kernel just made this descriptor for us.
        Ok(Device::new(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

impl From<OwnedFd> for Group {
    /// For a descriptor that another process opened.
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl AsRawFd for Group {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
