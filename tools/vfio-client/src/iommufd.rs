// SPDX-License-Identifier: GPL-2.0
//! iommufd: `/dev/iommu`, the other way to an I/O address space, and a device's own node under
//! `/dev/vfio/devices`.
//!
//! Only what moves memory in and out of an address space, to compare it with the container's
//! ioctls.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use crate::bindings::*;
use crate::device::Device;
use crate::sys;
use crate::sysfs::PciDevice;
use crate::uapi::{argsz, vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd};

/// Path of the node.
pub const NODE: &str = "/dev/iommu";

const MAP_FLAGS: u32 =
    IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE;

/// An open `/dev/iommu` with one address space.
#[derive(Debug)]
pub struct Ioas {
    file: File,
    id: u32,
}

impl Ioas {
    /// Opens the node and makes an address space.
    ///
    /// # Errors
    /// errno of open(2) or of IOMMU_IOAS_ALLOC.
    pub fn new() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(NODE)?;
        let mut alloc = iommu_ioas_alloc {
            size: argsz::<iommu_ioas_alloc>(),
            flags: 0,
            out_ioas_id: 0,
        };
        sys::with_struct(&file, IOMMU_IOAS_ALLOC, &mut alloc)?;
        Ok(Self {
            file,
            id: alloc.out_ioas_id,
        })
    }

    /// IOMMU_IOAS_MAP at a fixed address, for reading and writing by devices.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn map(&self, vaddr: u64, iova: u64, size: u64) -> io::Result<()> {
        let mut map = iommu_ioas_map {
            size: argsz::<iommu_ioas_map>(),
            flags: MAP_FLAGS,
            ioas_id: self.id,
            __reserved: 0,
            user_va: vaddr,
            length: size,
            iova,
        };
        sys::with_struct(&self.file, IOMMU_IOAS_MAP, &mut map).map(drop)
    }

    /// IOMMU_IOAS_MAP_FILE: as [`Ioas::map`], `size` bytes at `start` of a file.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn map_file(
        &self,
        file: &impl AsRawFd,
        start: u64,
        iova: u64,
        size: u64,
    ) -> io::Result<()> {
        let mut map = iommu_ioas_map_file {
            size: argsz::<iommu_ioas_map_file>(),
            flags: MAP_FLAGS,
            ioas_id: self.id,
            fd: file.as_raw_fd(),
            start,
            length: size,
            iova,
        };
        sys::with_struct(&self.file, IOMMU_IOAS_MAP_FILE, &mut map).map(drop)
    }

    /// IOMMU_IOAS_UNMAP; returns how many bytes were unmapped.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn unmap(&self, iova: u64, size: u64) -> io::Result<u64> {
        let mut unmap = iommu_ioas_unmap {
            size: argsz::<iommu_ioas_unmap>(),
            ioas_id: self.id,
            iova,
            length: size,
        };
        sys::with_struct(&self.file, IOMMU_IOAS_UNMAP, &mut unmap)?;
        Ok(unmap.length)
    }

    /// Opens `pci` by its node, binds it to this iommufd and attaches it to the address space.
    ///
    /// # Errors
    /// NotFound if there is no such node; the errno of the step that failed.
    pub fn open_device(&self, pci: &PciDevice) -> io::Result<Device> {
        let folder = pci.path().join("vfio-dev");
        let name = fs::read_dir(folder)?
            .flatten()
            .next()
            .ok_or(io::ErrorKind::NotFound)?
            .file_name();
        let node = format!("/dev/vfio/devices/{}", name.to_string_lossy());
        let file = OpenOptions::new().read(true).write(true).open(node)?;
        let device = Device::new(file.into());
        let mut bind = vfio_device_bind_iommufd {
            argsz: argsz::<vfio_device_bind_iommufd>(),
            flags: 0,
            iommufd: self.file.as_raw_fd(),
            out_devid: 0,
            token_uuid_ptr: 0,
        };
        sys::with_struct(&device, VFIO_DEVICE_BIND_IOMMUFD, &mut bind)?;
        let mut attach = vfio_device_attach_iommufd_pt {
            argsz: argsz::<vfio_device_attach_iommufd_pt>(),
            flags: 0,
            pt_id: self.id,
            pasid: 0,
        };
        sys::with_struct(&device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &mut attach)?;
        Ok(device)
    }
}

impl AsRawFd for Ioas {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
