// SPDX-License-Identifier: GPL-2.0

//! Device memory and I/O ports that the kernel has mapped: single accesses to them,
//! `include/linux/io.h`.
//!
//! `kernel::io::Mmio`, and `kernel::pci::Bar` by it, access memory only, while a BAR of ours may be
//! I/O ports; and they refuse what is not aligned. `kernel::pci::Bar` also borrows the bound device
//! and reserves the BAR by `pci_request_region()`, for which see `BarRegion::new`.

use core::ptr::NonNull;
use kernel::prelude::*;
use vfio_bindings as bindings;

/// The size of one access to an [`IoMem`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum IoWidth {
    /// 1 byte.
    W1 = 1,
    /// 2 bytes.
    W2 = 2,
    /// 4 bytes.
    W4 = 4,
    /// 8 bytes.
    W8 = 8,
}

/// Memory or I/O ports of a device. Whoever maps it owns this, and others borrow it from there.
///
/// # Invariants
///
/// `io` is mapped for `len` bytes as long as this lives.
pub struct IoMem {
    io: NonNull<c_void>,
    len: u64,
}

// SAFETY: The mapping is global; accesses are single instructions.
unsafe impl Send for IoMem {}
// SAFETY: As above.
unsafe impl Sync for IoMem {}

impl IoMem {
    /// # Safety
    ///
    /// `io` must be mapped for `len` bytes as long as the new `IoMem` lives.
    pub(super) unsafe fn new(io: NonNull<c_void>, len: u64) -> Self {
        // INVARIANT: By the contract of this function.
        Self { io, len }
    }

    pub(super) fn as_ptr(&self) -> *mut c_void {
        self.io.as_ptr()
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.len
    }

    #[inline]
    fn aligned(&self, offset: u64, width: IoWidth) -> Result<*mut c_void> {
        if offset & (width as u64 - 1) != 0 {
            return Err(EINVAL);
        }
        self.at(offset, width)
    }

    #[inline]
    fn at(&self, offset: u64, width: IoWidth) -> Result<*mut c_void> {
        let end = offset.checked_add(width as u64).ok_or(EINVAL)?;
        if end > self.len {
            return Err(EINVAL);
        }
        Ok(self.io.as_ptr().wrapping_byte_add(offset as usize))
    }

    /// Reads once, `offset` bytes into it.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the access is not aligned or goes beyond the end.
    #[inline]
    pub fn read(&self, offset: u64, width: IoWidth) -> Result<u64> {
        let at = self.aligned(offset, width)?;
        // SAFETY: `at` checked that the access lies in the `len` bytes, which are mapped (type
        // invariant).
        Ok(unsafe {
            match width {
                IoWidth::W1 => bindings::ioread8(at).into(),
                IoWidth::W2 => bindings::ioread16(at).into(),
                IoWidth::W4 => bindings::ioread32(at).into(),
                IoWidth::W8 => bindings::vfio_rs_ioread64(at),
            }
        })
    }

    /// Writes once, `offset` bytes into it.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the access is not aligned or goes beyond the end.
    #[inline]
    pub fn write(&self, offset: u64, width: IoWidth, value: u64) -> Result {
        self.aligned(offset, width)?;
        self.write_unaligned(offset, width, value)
    }

    /// As [`write`](Self::write), aligned or not: the bus may cut the access into several. Any
    /// context.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the access goes beyond the end.
    pub fn write_unaligned(&self, offset: u64, width: IoWidth, value: u64) -> Result {
        let at = self.at(offset, width)?;
        // SAFETY: `at` checked that the access lies in the `len` bytes, which are mapped (type
        // invariant).
        unsafe {
            match width {
                IoWidth::W1 => bindings::iowrite8(value as u8, at),
                IoWidth::W2 => bindings::iowrite16(value as u16, at),
                IoWidth::W4 => bindings::iowrite32(value as u32, at),
                IoWidth::W8 => bindings::vfio_rs_iowrite64(value, at),
            }
        }
        Ok(())
    }
}
