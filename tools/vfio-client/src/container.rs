// SPDX-License-Identifier: GPL-2.0
//! The container: `/dev/vfio/vfio`, an I/O address space for the groups put into it.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::caps;
use crate::dma::DmaBuf;
use crate::sys;
use crate::uapi::*;

/// Path of the container node.
pub const NODE: &str = "/dev/vfio/vfio";

/// An open container.
#[derive(Debug)]
pub struct Container(File);

/// What VFIO_IOMMU_GET_INFO tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IommuInfo {
    /// Flags of the struct.
    pub flags: u32,
    /// Page sizes of the IOMMU, one bit each.
    pub pgsizes: u64,
    /// Address ranges that may be mapped; empty if not told.
    pub iova_ranges: Vec<RangeInclusive<u64>>,
    /// Mappings still available.
    pub dma_avail: Option<u32>,
    /// Page sizes for dirty tracking and the largest bitmap in bytes.
    pub migration: Option<(u64, u64)>,
}

/// `struct vfio_bitmap`, unchecked.
#[derive(Debug, Clone, Copy)]
pub struct RawBitmap {
    /// Bytes that a bit stands for.
    pub pgsize: u64,
    /// Bytes of the bitmap.
    pub size: u64,
    /// Its address.
    pub data: u64,
}

impl RawBitmap {
    /// All of `words`, a bit for each page of `pgsize` bytes.
    pub fn of(words: &mut [u64], pgsize: u64) -> Self {
        Self {
            pgsize,
            size: words.len() as u64 * 8,
            data: words.as_mut_ptr() as u64,
        }
    }
}

/// `argsz` and `flags` as they start each struct.
fn head(argsz: u32, flags: u32) -> u64 {
    u64::from(argsz) | u64::from(flags) << 32
}

impl Container {
    /// Opens the container node.
    ///
    /// # Errors
    /// errno of open(2).
    pub fn open() -> io::Result<Self> {
        Self::open_at(NODE)
    }

    /// Opens another node that takes a container's ioctls: that of iommufd, which imitates one.
    ///
    /// # Errors
    /// errno of open(2).
    pub fn open_at(node: &str) -> io::Result<Self> {
        Ok(Self(OpenOptions::new().read(true).write(true).open(node)?))
    }

    /// VFIO_GET_API_VERSION: 0 in every version so far.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn api_version(&self) -> io::Result<i32> {
        sys::with_value(self, GET_API_VERSION, 0)
    }

    /// VFIO_CHECK_EXTENSION: positive if `extension` is served.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn check_extension(&self, extension: u32) -> io::Result<i32> {
        sys::with_value(self, CHECK_EXTENSION, extension as usize)
    }

    /// VFIO_SET_IOMMU: chooses the backend, for example [`VFIO_TYPE1v2_IOMMU`].
    ///
    /// # Errors
    /// EINVAL without a group or if already chosen, ENODEV if no backend serves `kind`, or the
    /// backend's errno.
    pub fn set_iommu(&self, kind: u32) -> io::Result<()> {
        sys::with_value(self, SET_IOMMU, kind as usize).map(drop)
    }

    /// VFIO_IOMMU_GET_INFO with its capabilities.
    ///
    /// # Errors
    /// EINVAL before SET_IOMMU.
    pub fn iommu_info(&self) -> io::Result<IommuInfo> {
        let mut head = vfio_iommu_type1_info {
            argsz: argsz::<vfio_iommu_type1_info>(),
            ..Default::default()
        };
        sys::with_struct(self, IOMMU_GET_INFO, &mut head)?;
        let mut buf = sys::buffer(head.argsz as usize);
        sys::write_struct(
            sys::bytes_mut(&mut buf),
            vfio_iommu_type1_info {
                argsz: head.argsz,
                ..Default::default()
            },
        );
        sys::with_buffer(self, IOMMU_GET_INFO, &mut buf)?;
        let bytes = sys::bytes(&buf);
        let info: vfio_iommu_type1_info =
            sys::read_struct(bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let chain = if info.flags & VFIO_IOMMU_INFO_CAPS != 0 {
            info.cap_offset
        } else {
            0
        };
        let chain = caps::walk(bytes, chain);
        let body = |id| caps::find(&chain, id).map(|cap| cap.body);
        Ok(IommuInfo {
            flags: info.flags,
            pgsizes: info.iova_pgsizes,
            iova_ranges: body(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
                .map(caps::iova_ranges)
                .unwrap_or_default(),
            dma_avail: body(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL).and_then(caps::dma_avail),
            migration: body(VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION).and_then(caps::migration),
        })
    }

    /// VFIO_IOMMU_MAP_DMA of any numbers; `flags` are `VFIO_DMA_MAP_FLAG_*`, sizes in bytes.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn map(&self, flags: u32, vaddr: u64, iova: u64, size: u64) -> io::Result<()> {
        let mut map = vfio_iommu_type1_dma_map {
            argsz: argsz::<vfio_iommu_type1_dma_map>(),
            flags,
            vaddr,
            iova,
            size,
        };
        sys::with_struct(self, IOMMU_MAP_DMA, &mut map).map(drop)
    }

    /// Maps the whole of `buf` at `iova` for reading and writing by the device.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn map_buf(&self, buf: &DmaBuf, iova: u64) -> io::Result<()> {
        self.map(
            VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
            buf.addr(),
            iova,
            buf.len() as u64,
        )
    }

    /// VFIO_IOMMU_UNMAP_DMA of any numbers; returns how many bytes were unmapped.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn unmap_flags(&self, flags: u32, iova: u64, size: u64) -> io::Result<u64> {
        // The struct's tail is flexible, so build its five fixed fields through the typed head.
        let mut unmap = vfio_iommu_type1_dma_unmap {
            argsz: argsz::<vfio_iommu_type1_dma_unmap>(),
            flags,
            iova,
            size,
            ..Default::default()
        };
        sys::with_struct(self, IOMMU_UNMAP_DMA, &mut unmap)?;
        Ok(unmap.size)
    }

    /// VFIO_IOMMU_DIRTY_PAGES without a range: `flags` are `VFIO_IOMMU_DIRTY_PAGES_FLAG_*`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn dirty_pages(&self, flags: u32) -> io::Result<()> {
        sys::with_buffer(self, IOMMU_DIRTY_PAGES, &mut [head(8, flags)]).map(drop)
    }

    /// VFIO_IOMMU_DIRTY_PAGES for `[iova, iova + size)`, with any numbers.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn dirty_bitmap(&self, iova: u64, size: u64, bitmap: RawBitmap) -> io::Result<()> {
        let flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
        let mut get = [
            head(48, flags),
            iova,
            size,
            bitmap.pgsize,
            bitmap.size,
            bitmap.data,
        ];
        sys::with_buffer(self, IOMMU_DIRTY_PAGES, &mut get).map(drop)
    }

    /// VFIO_IOMMU_UNMAP_DMA with VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP and other `flags`; returns
    /// how many bytes were unmapped.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn unmap_dirty(
        &self,
        flags: u32,
        iova: u64,
        size: u64,
        bitmap: RawBitmap,
    ) -> io::Result<u64> {
        let flags = flags | VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
        let mut unmap = [
            head(48, flags),
            iova,
            size,
            bitmap.pgsize,
            bitmap.size,
            bitmap.data,
        ];
        sys::with_buffer(self, IOMMU_UNMAP_DMA, &mut unmap)?;
        Ok(unmap[2])
    }

    /// Unmaps everything in `[iova, iova + size)`; returns how many bytes were unmapped.
    ///
    /// # Errors
    /// EINVAL if a mapping is cut (type1v2).
    pub fn unmap(&self, iova: u64, size: u64) -> io::Result<u64> {
        self.unmap_flags(0, iova, size)
    }

    /// Unmaps all; returns how many bytes were unmapped.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn unmap_all(&self) -> io::Result<u64> {
        self.unmap_flags(VFIO_DMA_UNMAP_FLAG_ALL, 0, 0)
    }
}

impl From<OwnedFd> for Container {
    /// For a descriptor that another process opened.
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl AsRawFd for Container {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Container {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
