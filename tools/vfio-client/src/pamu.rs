// SPDX-License-Identifier: GPL-2.0
//! type2, `VFIO_PAMU_IOMMU`: an aperture cut into windows, and banks of MSI registers.
//! `include/uapi/linux/vfio_rs.h` has the structs.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::bindings::{
    vfio_group_msi_fd, vfio_pamu_attr, vfio_pamu_attr__bindgen_ty_1, vfio_pamu_msi_bank_map,
    vfio_pamu_msi_bank_unmap,
};
use crate::container::Container;
use crate::group::Group;
use crate::sys;
use crate::uapi::{VFIO_DMA_MAP_FLAG_WRITE, argsz};

pub use crate::bindings::{
    VFIO_ATTR_GEOMETRY, VFIO_ATTR_LIMITS, VFIO_ATTR_MSI, VFIO_ATTR_PAMU_STASH, VFIO_ATTR_WINDOWS,
    VFIO_DMA_MAP_FLAG_MSI, VFIO_GROUP_GET_MSI_FD as GROUP_GET_MSI_FD,
    VFIO_IOMMU_PAMU_GET_ATTR as PAMU_GET_ATTR,
    VFIO_IOMMU_PAMU_GET_MSI_BANK_COUNT as PAMU_GET_MSI_BANK_COUNT,
    VFIO_IOMMU_PAMU_MSI_BANK_MAP as PAMU_MSI_BANK_MAP,
    VFIO_IOMMU_PAMU_MSI_BANK_UNMAP as PAMU_MSI_BANK_UNMAP,
    VFIO_IOMMU_PAMU_SET_ATTR as PAMU_SET_ATTR, VFIO_PAMU_CAP_CONTIG_REQUIRED, VFIO_PAMU_CAP_SNOOP,
    VFIO_PAMU_CAP_STASH, VFIO_PAMU_IOMMU,
};

/// Two fields of 32 bits.
#[must_use]
pub fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

/// Two fields of 32 bits as a word.
#[must_use]
pub fn word(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn attr_of(attribute: u32, data: [u64; 4]) -> vfio_pamu_attr {
    vfio_pamu_attr {
        argsz: argsz::<vfio_pamu_attr>(),
        attribute,
        __bindgen_anon_1: vfio_pamu_attr__bindgen_ty_1 { data },
        ..Default::default()
    }
}

impl Container {
    /// VFIO_IOMMU_PAMU_GET_ATTR: the words of the union.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn pamu_get(&self, attribute: u32) -> io::Result<[u64; 4]> {
        let mut attr = attr_of(attribute, [0; 4]);
        sys::with_struct(self, PAMU_GET_ATTR, &mut attr)?;
        // SAFETY: a union of integers, as large as this one.
        Ok(unsafe { attr.__bindgen_anon_1.data })
    }

    /// VFIO_IOMMU_PAMU_SET_ATTR with the first words of the union.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn pamu_set(&self, attribute: u32, data: [u64; 2]) -> io::Result<()> {
        let mut attr = attr_of(attribute, [data[0], data[1], 0, 0]);
        sys::with_struct(self, PAMU_SET_ATTR, &mut attr).map(drop)
    }

    /// Sets the aperture; `last` is its last address.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn set_geometry(&self, start: u64, last: u64) -> io::Result<()> {
        self.pamu_set(VFIO_ATTR_GEOMETRY, [start, last])
    }

    /// Cuts the aperture into windows.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn set_windows(&self, count: u32) -> io::Result<()> {
        self.pamu_set(VFIO_ATTR_WINDOWS, [count.into(), 0])
    }

    /// Says who maps windows for MSIs: 0 the kernel, 1 the user.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn set_msi_mode(&self, mode: u32) -> io::Result<()> {
        self.pamu_set(VFIO_ATTR_MSI, [mode.into(), 0])
    }

    /// How many banks of MSI registers there are.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn msi_banks(&self) -> io::Result<i32> {
        sys::with_value(self, PAMU_GET_MSI_BANK_COUNT, 0)
    }

    /// Has the windows in `[iova, iova + size)` show all banks.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn map_banks(&self, iova: u64, size: u64) -> io::Result<()> {
        let flags = VFIO_DMA_MAP_FLAG_MSI | VFIO_DMA_MAP_FLAG_WRITE;
        self.map(flags, 0, iova, size)
    }

    /// Has the window at `iova` show bank `index`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn map_bank(&self, index: u32, iova: u64) -> io::Result<()> {
        let mut map = vfio_pamu_msi_bank_map {
            argsz: argsz::<vfio_pamu_msi_bank_map>(),
            msi_bank_index: index,
            iova,
            ..Default::default()
        };
        sys::with_struct(self, PAMU_MSI_BANK_MAP, &mut map).map(drop)
    }

    /// Undoes [`Container::map_bank`].
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn unmap_bank(&self, iova: u64) -> io::Result<()> {
        let mut unmap = vfio_pamu_msi_bank_unmap {
            argsz: argsz::<vfio_pamu_msi_bank_unmap>(),
            iova,
            ..Default::default()
        };
        sys::with_struct(self, PAMU_MSI_BANK_UNMAP, &mut unmap).map(drop)
    }
}

impl Group {
    /// VFIO_GROUP_GET_MSI_FD.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn msi_fd(&self, bank: u32) -> io::Result<MsiFd> {
        let mut arg = vfio_group_msi_fd {
            argsz: argsz::<vfio_group_msi_fd>(),
            bank,
            ..Default::default()
        };
        let fd = sys::with_struct(self, GROUP_GET_MSI_FD, &mut arg)?;
        // SAFETY: the kernel just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(MsiFd { fd, size: arg.size })
    }
}

/// A descriptor that maps a bank.
#[derive(Debug)]
pub struct MsiFd {
    fd: OwnedFd,
    /// Bytes that it can map.
    pub size: u32,
}

impl MsiFd {
    /// Maps the bank for reading and writing.
    ///
    /// # Errors
    /// errno of mmap(2).
    pub fn map(&self) -> io::Result<BankMap> {
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        self.map_as(self.size as usize, prot, MapFlags::MAP_SHARED, 0)
    }

    /// mmap(2) of any numbers.
    ///
    /// # Errors
    /// Its errno.
    pub fn map_as(
        &self,
        len: usize,
        prot: ProtFlags,
        flags: MapFlags,
        offset: i64,
    ) -> io::Result<BankMap> {
        let size = len.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(None, size, prot, flags, &self.fd, offset) }?;
        Ok(BankMap {
            base: base.cast(),
            len,
        })
    }
}

impl AsFd for MsiFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for MsiFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// A bank in this process. An access is a SIGBUS once the group has left its container.
#[derive(Debug)]
pub struct BankMap {
    base: std::ptr::NonNull<u32>,
    len: usize,
}

impl BankMap {
    /// Address in this process.
    #[must_use]
    pub fn addr(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Reads register `at`.
    ///
    /// # Panics
    /// If it is beyond the end.
    #[must_use]
    pub fn get(&self, at: usize) -> u32 {
        assert!(at < self.len / 4);
        // SAFETY: inside the mapping, checked above.
        unsafe { self.base.as_ptr().add(at).read_volatile() }
    }

    /// Writes register `at`.
    ///
    /// # Panics
    /// If it is beyond the end.
    pub fn set(&self, at: usize, value: u32) {
        assert!(at < self.len / 4);
        // SAFETY: inside the mapping, checked above.
        unsafe { self.base.as_ptr().add(at).write_volatile(value) }
    }
}

impl Drop for BankMap {
    fn drop(&mut self) {
        // SAFETY: ours alone.
        let _ = unsafe { munmap(self.base.cast(), self.len) };
    }
}
