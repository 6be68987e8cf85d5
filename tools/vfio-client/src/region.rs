// SPDX-License-Identifier: GPL-2.0
//! Regions of a device: read, written and mapped through the device's descriptor at an offset that
//! the kernel tells.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::bindings::{VFIO_REGION_INFO_CAP_MMAP_ALT, VFIO_REGION_MMAP_ALT_WC};
use crate::caps;
use crate::device::Device;
use crate::dma::DmaBuf;
use crate::sys;
use crate::uapi::*;

/// What VFIO_DEVICE_GET_REGION_INFO tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Region {
    /// Index: BAR 0-5, ROM 6, configuration space 7, VGA 8.
    pub index: u32,
    /// `VFIO_REGION_INFO_FLAG_*`.
    pub flags: u32,
    /// Bytes; 0 if the device has no such region.
    pub size: u64,
    /// Where in the device's descriptor the region begins.
    pub offset: u64,
    /// Numbers of its capabilities.
    pub cap_ids: Vec<u16>,
    /// Type and subtype, if the index does not say what it is.
    pub kind: Option<(u32, u32)>,
    /// The region once more, to be mapped write-combining.
    pub write_combining: Option<Box<Region>>,
}

impl Region {
    /// Whether it may be mapped.
    #[must_use]
    pub fn can_mmap(&self) -> bool {
        self.flags & VFIO_REGION_INFO_FLAG_MMAP != 0
    }
}

impl Device {
    /// VFIO_DEVICE_GET_REGION_INFO with its capabilities.
    ///
    /// # Errors
    /// EINVAL if the device knows no region `index`.
    pub fn region(&self, index: u32) -> io::Result<Region> {
        let mut head = vfio_region_info {
            argsz: argsz::<vfio_region_info>(),
            index,
            ..Default::default()
        };
        sys::with_struct(self, DEVICE_GET_REGION_INFO, &mut head)?;
        let mut buf = sys::buffer(head.argsz as usize);
        let again = vfio_region_info {
            argsz: head.argsz,
            index,
            ..Default::default()
        };
        sys::write_struct(sys::bytes_mut(&mut buf), again);
        sys::with_buffer(self, DEVICE_GET_REGION_INFO, &mut buf)?;
        let bytes = sys::bytes(&buf);
        let info: vfio_region_info = sys::read_struct(bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let chain = if info.flags & VFIO_REGION_INFO_FLAG_CAPS != 0 {
            info.cap_offset
        } else {
            0
        };
        let caps = caps::walk(bytes, chain);
        let mut region = Region {
            index,
            flags: info.flags,
            size: info.size,
            offset: info.offset,
            cap_ids: caps.iter().map(|cap| cap.id).collect(),
            kind: caps::find(&caps, VFIO_REGION_INFO_CAP_TYPE)
                .and_then(|cap| caps::region_type(cap.body)),
            write_combining: None,
        };
        if let Some((VFIO_REGION_MMAP_ALT_WC, flags, offset, size)) =
            caps::find(&caps, VFIO_REGION_INFO_CAP_MMAP_ALT)
                .and_then(|cap| caps::mmap_alt(cap.body))
        {
            region.write_combining = Some(Box::new(Region {
                flags,
                size,
                offset,
                cap_ids: vec![],
                ..region.clone()
            }));
        }
        Ok(region)
    }

    /// pread(2) at `at` in `region`; returns the bytes read, which may be fewer than asked.
    ///
    /// # Errors
    /// EINVAL beyond the region's end.
    pub fn read(&self, region: &Region, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file().read_at(buf, region.offset.wrapping_add(at))
    }

    /// pwrite(2) at `at` in `region`; returns the bytes written.
    ///
    /// # Errors
    /// EINVAL beyond the region's end.
    pub fn write(&self, region: &Region, at: u64, buf: &[u8]) -> io::Result<usize> {
        self.file().write_at(buf, region.offset.wrapping_add(at))
    }

    /// Reads four bytes at `at`, little-endian.
    ///
    /// # Errors
    /// As [`Device::read`]; UnexpectedEof if fewer came.
    pub fn read32(&self, region: &Region, at: u64) -> io::Result<u32> {
        let mut buf = [0; 4];
        match self.read(region, at, &mut buf)? {
            4 => Ok(u32::from_le_bytes(buf)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Writes four bytes at `at`, little-endian.
    ///
    /// # Errors
    /// As [`Device::write`]; WriteZero if fewer went.
    pub fn write32(&self, region: &Region, at: u64, value: u32) -> io::Result<()> {
        match self.write(region, at, &value.to_le_bytes())? {
            4 => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// VFIO_DEVICE_IOEVENTFD: writes `size` bytes of `data` at `at` in `region` at each signal of
    /// `fd`; -1 removes that.
    ///
    /// # Errors
    /// EINVAL, EEXIST, ENODEV if there is none to remove, ENOSPC.
    pub fn ioeventfd(
        &self,
        region: &Region,
        at: u64,
        size: u32,
        data: u64,
        fd: RawFd,
    ) -> io::Result<()> {
        let mut arg = vfio_device_ioeventfd {
            argsz: argsz::<vfio_device_ioeventfd>(),
            flags: size,
            offset: region.offset.wrapping_add(at),
            data,
            fd,
            ..Default::default()
        };
        sys::with_struct(self, DEVICE_IOEVENTFD, &mut arg).map(drop)
    }

    /// Maps `len` bytes at `at` of `region` into this process, shared, for reading and writing.
    ///
    /// # Errors
    /// EINVAL if the region cannot be mapped or the range goes beyond it.
    pub fn mmap(&self, region: &Region, at: u64, len: usize) -> io::Result<Mapping> {
        self.mmap_flags(region, at, len, MapFlags::MAP_SHARED)
    }

    /// As [`Device::mmap`] with mmap(2) flags of one's own.
    ///
    /// # Errors
    /// EINVAL if the mapping is not shared.
    pub fn mmap_flags(
        &self,
        region: &Region,
        at: u64,
        len: usize,
        flags: MapFlags,
    ) -> io::Result<Mapping> {
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        self.mmap_prot(region, at, len, prot, flags)
    }

    /// As [`Device::mmap_flags`] with mmap(2) protection of one's own.
    ///
    /// # Errors
    /// As [`Device::mmap_flags`].
    pub fn mmap_prot(
        &self,
        region: &Region,
        at: u64,
        len: usize,
        prot: ProtFlags,
        flags: MapFlags,
    ) -> io::Result<Mapping> {
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(None, size, prot, flags, self, (region.offset + at) as i64) }?;
        Ok(Mapping { base, len })
    }

    /// Maps `len` bytes at `at` of `region` in the place of those at `buf_at` of `buf`, until `buf`
    /// is dropped.
    ///
    /// # Errors
    /// errno of mmap(2).
    ///
    /// # Panics
    /// If it does not fit into `buf`.
    pub fn mmap_over(
        &self,
        region: &Region,
        at: u64,
        len: usize,
        buf: &DmaBuf,
        buf_at: usize,
    ) -> io::Result<()> {
        assert!(buf_at + len <= buf.len(), "beyond the buffer");
        let addr = NonZeroUsize::new(buf.addr() as usize + buf_at);
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        // SAFETY: replaces memory of `buf`, which gives all of its range back at the end.
        unsafe { mmap(addr, size, prot, flags, self, (region.offset + at) as i64) }?;
        Ok(())
    }
}

/// A mapped piece of a region; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<std::ffi::c_void>,
    len: usize,
}

// SAFETY: each access is one volatile load or store of a word of device memory, from whatever
// thread.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn word(&self, at: usize) -> *mut u32 {
        assert!(at % 4 == 0 && at + 4 <= self.len, "beyond the mapping");
        // SAFETY: inside the mapping, checked above.
        unsafe { self.base.as_ptr().cast::<u8>().add(at).cast() }
    }

    /// Address in this process.
    #[must_use]
    pub fn addr(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// One 32-bit load at byte `at`.
    ///
    /// # Panics
    /// If `at` is not aligned or beyond the mapping.
    #[must_use]
    pub fn read32(&self, at: usize) -> u32 {
        // SAFETY: `word` checked it; volatile, for a device answers.
        unsafe { self.word(at).read_volatile() }
    }

    /// One 32-bit store at byte `at`.
    ///
    /// # Panics
    /// If `at` is not aligned or beyond the mapping.
    pub fn write32(&self, at: usize, value: u32) {
        // SAFETY: as in `read32`.
        unsafe { self.word(at).write_volatile(value) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours alone, and nobody keeps its address.
        let _ = unsafe { munmap(self.base, self.len) };
    }
}
