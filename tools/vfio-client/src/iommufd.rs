// SPDX-License-Identifier: GPL-2.0
//! iommufd: `/dev/iommu`, the other way to an I/O address space, and a device's own node under
//! `/dev/vfio/devices`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

use crate::bindings::*;
use crate::device::Device;
use crate::sys;
use crate::sysfs::PciDevice;
use crate::uapi::{
    VFIO_DEVICE_ATTACH_PASID, VFIO_DEVICE_DETACH_PASID, argsz, vfio_device_attach_iommufd_pt,
    vfio_device_bind_iommufd, vfio_device_detach_iommufd_pt,
};

/// Path of the node.
pub const NODE: &str = "/dev/iommu";

const MAP_FLAGS: u32 =
    IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE;

/// An open `/dev/iommu`: what address spaces and devices belong to.
#[derive(Debug)]
pub struct Iommufd(File);

impl Iommufd {
    /// Opens the node.
    ///
    /// # Errors
    /// errno of open(2).
    pub fn open() -> io::Result<Self> {
        Ok(Self(OpenOptions::new().read(true).write(true).open(NODE)?))
    }

    /// IOMMU_IOAS_ALLOC: the number of a new address space.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn alloc_ioas(&self) -> io::Result<u32> {
        let mut alloc = iommu_ioas_alloc {
            size: argsz::<iommu_ioas_alloc>(),
            flags: 0,
            out_ioas_id: 0,
        };
        sys::with_struct(self, IOMMU_IOAS_ALLOC, &mut alloc)?;
        Ok(alloc.out_ioas_id)
    }

    /// IOMMU_HWPT_ALLOC: the number of a new page table that shows `ioas` to the device `dev`, by
    /// its number. It stays until it is [destroyed](Self::destroy), whoever is attached to what.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn alloc_hwpt(&self, dev: u32, ioas: u32) -> io::Result<u32> {
        let mut alloc = iommu_hwpt_alloc {
            size: argsz::<iommu_hwpt_alloc>(),
            dev_id: dev,
            pt_id: ioas,
            ..Default::default()
        };
        sys::with_struct(self, IOMMU_HWPT_ALLOC, &mut alloc)?;
        Ok(alloc.out_hwpt_id)
    }

    /// IOMMU_VFIO_IOAS: the number of the address space that ioctls of containers mean.
    ///
    /// # Errors
    /// ENODEV if there is none.
    pub fn compat_ioas(&self) -> io::Result<u32> {
        let mut get = iommu_vfio_ioas {
            size: argsz::<iommu_vfio_ioas>(),
            ioas_id: 0,
            op: IOMMU_VFIO_IOAS_GET as u16,
            __reserved: 0,
        };
        sys::with_struct(self, IOMMU_VFIO_IOAS, &mut get)?;
        Ok(get.ioas_id)
    }

    /// IOMMU_DESTROY.
    ///
    /// # Errors
    /// EBUSY while it is in use, ENOENT if there is no such thing.
    pub fn destroy(&self, id: u32) -> io::Result<()> {
        let mut destroy = iommu_destroy {
            size: argsz::<iommu_destroy>(),
            id,
        };
        sys::with_struct(self, IOMMU_DESTROY, &mut destroy).map(drop)
    }

    /// IOMMU_IOAS_MAP at a fixed address, for reading and writing by devices.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn map(&self, ioas: u32, vaddr: u64, iova: u64, size: u64) -> io::Result<()> {
        let mut map = iommu_ioas_map {
            size: argsz::<iommu_ioas_map>(),
            flags: MAP_FLAGS,
            ioas_id: ioas,
            __reserved: 0,
            user_va: vaddr,
            length: size,
            iova,
        };
        sys::with_struct(self, IOMMU_IOAS_MAP, &mut map).map(drop)
    }

    /// IOMMU_IOAS_UNMAP; returns how many bytes were unmapped.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn unmap(&self, ioas: u32, iova: u64, size: u64) -> io::Result<u64> {
        let mut unmap = iommu_ioas_unmap {
            size: argsz::<iommu_ioas_unmap>(),
            ioas_id: ioas,
            iova,
            length: size,
        };
        sys::with_struct(self, IOMMU_IOAS_UNMAP, &mut unmap)?;
        Ok(unmap.length)
    }
}

impl AsRawFd for Iommufd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// An open `/dev/iommu` with one address space.
#[derive(Debug)]
pub struct Ioas {
    iommufd: Iommufd,
    id: u32,
}

impl Ioas {
    /// Opens the node and makes an address space.
    ///
    /// # Errors
    /// errno of open(2) or of IOMMU_IOAS_ALLOC.
    pub fn new() -> io::Result<Self> {
        let iommufd = Iommufd::open()?;
        let id = iommufd.alloc_ioas()?;
        Ok(Self { iommufd, id })
    }

    /// The `/dev/iommu`.
    #[must_use]
    pub fn iommufd(&self) -> &Iommufd {
        &self.iommufd
    }

    /// The number of the address space.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// As [`Iommufd::map`].
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn map(&self, vaddr: u64, iova: u64, size: u64) -> io::Result<()> {
        self.iommufd.map(self.id, vaddr, iova, size)
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
        sys::with_struct(&self.iommufd, IOMMU_IOAS_MAP_FILE, &mut map).map(drop)
    }

    /// As [`Iommufd::unmap`].
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn unmap(&self, iova: u64, size: u64) -> io::Result<u64> {
        self.iommufd.unmap(self.id, iova, size)
    }

    /// Opens `pci` by its node, binds it to this iommufd and attaches it to the address space.
    ///
    /// # Errors
    /// NotFound if there is no such node; the errno of the step that failed.
    pub fn open_device(&self, pci: &PciDevice) -> io::Result<Device> {
        let device = Device::open_node(pci)?;
        device.bind_iommufd(self)?;
        device.attach_pt(self.id)?;
        Ok(device)
    }
}

impl AsRawFd for Ioas {
    fn as_raw_fd(&self) -> RawFd {
        self.iommufd.as_raw_fd()
    }
}

/// The node of a device.
///
/// # Errors
/// NotFound if it has none, as it is not bound to a driver of VFIO or the kernel has no iommufd.
pub fn node(pci: &PciDevice) -> io::Result<PathBuf> {
    for entry in fs::read_dir(pci.path().join("vfio-dev"))? {
        let entry = entry?;
        if entry.path().join("dev").exists() {
            return Ok(PathBuf::from("/dev/vfio/devices").join(entry.file_name()));
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

impl Device {
    /// Opens a device by its own node; it is to be bound next.
    ///
    /// # Errors
    /// NotFound if there is none; errno of open(2).
    pub fn open_node(pci: &PciDevice) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(node(pci)?)?;
        Ok(Self::new(file.into()))
    }

    /// VFIO_DEVICE_BIND_IOMMUFD; returns the number by which the iommufd knows the device.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn bind_iommufd(&self, iommufd: &impl AsRawFd) -> io::Result<u32> {
        let mut bind = vfio_device_bind_iommufd {
            argsz: argsz::<vfio_device_bind_iommufd>(),
            flags: 0,
            iommufd: iommufd.as_raw_fd(),
            out_devid: 0,
            token_uuid_ptr: 0,
        };
        sys::with_struct(self, VFIO_DEVICE_BIND_IOMMUFD, &mut bind)?;
        Ok(bind.out_devid)
    }

    /// VFIO_DEVICE_ATTACH_IOMMUFD_PT; returns the number of what the device sees then.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn attach_pt(&self, pt: u32) -> io::Result<u32> {
        self.attach(pt, None)
    }

    /// As [`Device::attach_pt`], for DMA with a PASID.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn attach_pasid(&self, pt: u32, pasid: u32) -> io::Result<u32> {
        self.attach(pt, Some(pasid))
    }

    fn attach(&self, pt: u32, pasid: Option<u32>) -> io::Result<u32> {
        let mut attach = vfio_device_attach_iommufd_pt {
            argsz: argsz::<vfio_device_attach_iommufd_pt>(),
            flags: pasid.map_or(0, |_| VFIO_DEVICE_ATTACH_PASID),
            pt_id: pt,
            pasid: pasid.unwrap_or(0),
        };
        sys::with_struct(self, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &mut attach)?;
        Ok(attach.pt_id)
    }

    /// VFIO_DEVICE_DETACH_IOMMUFD_PT.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn detach_pt(&self) -> io::Result<()> {
        self.detach(None)
    }

    /// As [`Device::detach_pt`], for DMA with a PASID.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn detach_pasid(&self, pasid: u32) -> io::Result<()> {
        self.detach(Some(pasid))
    }

    fn detach(&self, pasid: Option<u32>) -> io::Result<()> {
        let mut detach = vfio_device_detach_iommufd_pt {
            argsz: argsz::<vfio_device_detach_iommufd_pt>(),
            flags: pasid.map_or(0, |_| VFIO_DEVICE_DETACH_PASID),
            pasid: pasid.unwrap_or(0),
        };
        sys::with_struct(self, VFIO_DEVICE_DETACH_IOMMUFD_PT, &mut detach).map(drop)
    }
}
