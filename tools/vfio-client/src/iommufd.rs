// SPDX-License-Identifier: GPL-2.0
//! iommufd: `/dev/iommu`, the other way to an I/O address space, and a device's own node under `/dev/vfio/devices`.
//!
//! Only what moves memory in and out of an address space, to compare it with the container's ioctls.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use crate::device::Device;
use crate::sys::{self, Plain};
use crate::sysfs::PciDevice;
use crate::uapi::{DEVICE_ATTACH_IOMMUFD_PT, DEVICE_BIND_IOMMUFD, iommufd as nr};

/// Path of the node.
pub const NODE: &str = "/dev/iommu";

const MAP_FIXED_IOVA: u32 = 1 << 0;
const MAP_WRITEABLE: u32 = 1 << 1;
const MAP_READABLE: u32 = 1 << 2;

/// `struct iommu_ioas_alloc`
#[repr(C)]
struct IoasAlloc {
    size: u32,
    flags: u32,
    out_ioas_id: u32,
}

/// `struct iommu_ioas_map`
#[repr(C)]
struct IoasMap {
    size: u32,
    flags: u32,
    ioas_id: u32,
    reserved: u32,
    user_va: u64,
    length: u64,
    iova: u64,
}

/// `struct iommu_ioas_map_file`
#[repr(C)]
struct IoasMapFile {
    size: u32,
    flags: u32,
    ioas_id: u32,
    fd: i32,
    start: u64,
    length: u64,
    iova: u64,
}

/// `struct iommu_ioas_unmap`
#[repr(C)]
struct IoasUnmap {
    size: u32,
    ioas_id: u32,
    iova: u64,
    length: u64,
}

/// `struct vfio_device_bind_iommufd`
#[repr(C)]
struct Bind {
    argsz: u32,
    flags: u32,
    iommufd: i32,
    out_devid: u32,
    token_uuid_ptr: u64,
}

/// `struct vfio_device_attach_iommufd_pt`
#[repr(C)]
struct Attach {
    argsz: u32,
    flags: u32,
    pt_id: u32,
    pasid: u32,
}

// SAFETY: structs of integers only.
unsafe impl Plain for IoasAlloc {}
// SAFETY: as above.
unsafe impl Plain for IoasMap {}
// SAFETY: as above.
unsafe impl Plain for IoasMapFile {}
// SAFETY: as above.
unsafe impl Plain for IoasUnmap {}
// SAFETY: as above.
unsafe impl Plain for Bind {}
// SAFETY: as above.
unsafe impl Plain for Attach {}

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
        let mut alloc = IoasAlloc {
            size: size_of::<IoasAlloc>() as u32,
            flags: 0,
            out_ioas_id: 0,
        };
        sys::with_struct(&file, nr::IOAS_ALLOC, &mut alloc)?;
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
        let mut map = IoasMap {
            size: size_of::<IoasMap>() as u32,
            flags: MAP_FIXED_IOVA | MAP_WRITEABLE | MAP_READABLE,
            ioas_id: self.id,
            reserved: 0,
            user_va: vaddr,
            length: size,
            iova,
        };
        sys::with_struct(&self.file, nr::IOAS_MAP, &mut map).map(drop)
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
        let mut map = IoasMapFile {
            size: size_of::<IoasMapFile>() as u32,
            flags: MAP_FIXED_IOVA | MAP_WRITEABLE | MAP_READABLE,
            ioas_id: self.id,
            fd: file.as_raw_fd(),
            start,
            length: size,
            iova,
        };
        sys::with_struct(&self.file, nr::IOAS_MAP_FILE, &mut map).map(drop)
    }

    /// IOMMU_IOAS_UNMAP; returns how many bytes were unmapped.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn unmap(&self, iova: u64, size: u64) -> io::Result<u64> {
        let mut unmap = IoasUnmap {
            size: size_of::<IoasUnmap>() as u32,
            ioas_id: self.id,
            iova,
            length: size,
        };
        sys::with_struct(&self.file, nr::IOAS_UNMAP, &mut unmap)?;
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
        let mut bind = Bind {
            argsz: size_of::<Bind>() as u32,
            flags: 0,
            iommufd: self.file.as_raw_fd(),
            out_devid: 0,
            token_uuid_ptr: 0,
        };
        sys::with_struct(&device, DEVICE_BIND_IOMMUFD, &mut bind)?;
        let mut attach = Attach {
            argsz: size_of::<Attach>() as u32,
            flags: 0,
            pt_id: self.id,
            pasid: 0,
        };
        sys::with_struct(&device, DEVICE_ATTACH_IOMMUFD_PT, &mut attach)?;
        Ok(device)
    }
}

impl AsRawFd for Ioas {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
