// SPDX-License-Identifier: GPL-2.0
//! type2, `VFIO_PAMU_IOMMU`: an aperture cut into windows, and banks of MSI registers. `include/uapi/linux/vfio_rs.h` has the
//! structs.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::container::Container;
use crate::group::Group;
use crate::sys;
use crate::uapi::{VFIO_BASE, VFIO_DMA_MAP_FLAG_WRITE, VFIO_TYPE};

/// Extension, and number for SET_IOMMU.
pub const VFIO_PAMU_IOMMU: u32 = 0x100;
/// The aperture.
pub const VFIO_ATTR_GEOMETRY: u32 = 0;
/// How many windows.
pub const VFIO_ATTR_WINDOWS: u32 = 1;
/// The cache that DMA goes to.
pub const VFIO_ATTR_PAMU_STASH: u32 = 2;
/// How windows for MSIs come about.
pub const VFIO_ATTR_MSI: u32 = 3;
/// What there can be.
pub const VFIO_ATTR_LIMITS: u32 = 4;
/// A window maps contiguous memory only.
pub const VFIO_PAMU_CAP_CONTIG_REQUIRED: u32 = 1 << 0;
/// DMA is coherent.
pub const VFIO_PAMU_CAP_SNOOP: u32 = 1 << 1;
/// DMA can go to a cache.
pub const VFIO_PAMU_CAP_STASH: u32 = 1 << 2;
/// MAP_DMA: windows show banks.
pub const VFIO_DMA_MAP_FLAG_MSI: u32 = 1 << 16;

/// `_IO(VFIO_TYPE, VFIO_BASE + n)`.
const fn io(n: u32) -> u32 {
    ((VFIO_TYPE as u32) << 8) | (VFIO_BASE + n)
}

/// Group: a descriptor that maps a bank.
pub const GROUP_GET_MSI_FD: u32 = io(64);
/// Container: read an attribute.
pub const PAMU_GET_ATTR: u32 = io(67);
/// Container: write an attribute.
pub const PAMU_SET_ATTR: u32 = io(68);
/// Container: how many banks.
pub const PAMU_GET_MSI_BANK_COUNT: u32 = io(69);
/// Container: a window shows a bank.
pub const PAMU_MSI_BANK_MAP: u32 = io(70);
/// Container: it no longer does.
pub const PAMU_MSI_BANK_UNMAP: u32 = io(71);

/// Bytes of `struct vfio_pamu_attr`.
const ATTR_SIZE: u32 = 48;

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

impl Container {
    /// VFIO_IOMMU_PAMU_GET_ATTR: the words of the union.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn pamu_get(&self, attribute: u32) -> io::Result<[u64; 4]> {
        let mut attr = [word(ATTR_SIZE, 0), word(attribute, 0), 0, 0, 0, 0];
        sys::with_buffer(self, PAMU_GET_ATTR, &mut attr)?;
        Ok([attr[2], attr[3], attr[4], attr[5]])
    }

    /// VFIO_IOMMU_PAMU_SET_ATTR with the first words of the union.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn pamu_set(&self, attribute: u32, data: [u64; 2]) -> io::Result<()> {
        let mut attr = [
            word(ATTR_SIZE, 0),
            word(attribute, 0),
            data[0],
            data[1],
            0,
            0,
        ];
        sys::with_buffer(self, PAMU_SET_ATTR, &mut attr).map(drop)
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
        let mut map = [word(24, 0), word(index, 0), iova];
        sys::with_buffer(self, PAMU_MSI_BANK_MAP, &mut map).map(drop)
    }

    /// Undoes [`Container::map_bank`].
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn unmap_bank(&self, iova: u64) -> io::Result<()> {
        let mut unmap = [word(16, 0), iova];
        sys::with_buffer(self, PAMU_MSI_BANK_UNMAP, &mut unmap).map(drop)
    }
}

impl Group {
    /// VFIO_GROUP_GET_MSI_FD.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn msi_fd(&self, bank: u32) -> io::Result<MsiFd> {
        let mut arg = [word(16, 0), word(bank, 0)];
        let fd = sys::with_buffer(self, GROUP_GET_MSI_FD, &mut arg)?;
        // SAFETY: the kernel just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let (_, size) = halves(arg[1]);
        Ok(MsiFd { fd, size })
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
