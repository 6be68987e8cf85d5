// SPDX-License-Identifier: GPL-2.0

//! Base address registers: the device's own memory and I/O ports.

use core::ptr::NonNull;
use kernel::{
    error::to_result,
    prelude::*, //
};
use vfio_bindings as bindings;

use super::PciDevice;
use crate::{
    iommu::DeviceMemory,
    mmap::page_align, //
};

/// Where a memory BAR is, to be mapped into a user's address space.
#[derive(Clone, Copy)]
pub struct BarWindow {
    start: u64,
    len: u64,
}

impl BarWindow {
    /// Bytes, rounded up to whole pages.
    pub fn page_aligned_len(&self) -> u64 {
        page_align(self.len)
    }

    /// `len` bytes of the window, `offset` bytes into it; `None` if it does not go so far.
    pub fn part(&self, offset: u64, len: usize) -> Option<DeviceMemory> {
        let end = offset.checked_add(len as u64)?;
        // The window is a device's, so it is not memory that the kernel manages.
        (end <= self.page_aligned_len())
            .then(|| DeviceMemory::new(self.start.wrapping_add(offset), len))
    }

    pub(crate) fn phys(&self) -> u64 {
        self.start
    }
}

impl PciDevice {
    /// Size of a BAR (0 to 5) or of the ROM (6) in bytes; 0 if there is none.
    pub fn bar_len(&self, bar: u32) -> u64 {
        self.resource(bar).map_or(0, |(_, len, _)| len)
    }

    /// Whether a BAR is memory, not I/O ports.
    pub fn bar_is_memory(&self, bar: u32) -> bool {
        self.resource(bar)
            .is_some_and(|(_, _, flags)| flags & bindings::IORESOURCE_MEM as usize != 0)
    }

    /// The lower bits of the BAR register: space, type and prefetchable.
    pub fn bar_flags(&self, bar: u32) -> u32 {
        self.resource(bar).map_or(0, |(_, _, flags)| {
            (flags & (bindings::IORESOURCE_BITS as usize)) as u32
                | if flags & bindings::IORESOURCE_MEM_64 as usize != 0 {
                    bindings::PCI_BASE_ADDRESS_MEM_TYPE_64
                } else {
                    0
                }
        })
    }

    /// The window of a memory BAR that users may map: whole pages that nothing else shares.
    pub fn bar_window(&self, bar: u32) -> Option<BarWindow> {
        let (start, len, flags) = self.resource(bar).filter(|_| bar < 6)?;
        let page = kernel::page::PAGE_SIZE as u64;
        if flags & bindings::IORESOURCE_MEM as usize == 0 || len < page || start % page != 0 {
            return None;
        }
        Some(BarWindow { start, len })
    }

    /// Start, bytes and flags of a resource that has a size.
    fn resource(&self, bar: u32) -> Option<(u64, u64, usize)> {
        if bar > 6 {
            return None;
        }
        // SAFETY: `self` holds a reference and there is such a resource; BARs do not move while a
        // driver is bound.
        let res = unsafe { &*bindings::vfio_rs_pci_resource(self.as_ptr(), bar) };
        if res.end == 0 && res.start == 0 {
            return None;
        }
        let len = res.end.checked_sub(res.start)?.checked_add(1)?;
        Some((res.start, len, res.flags))
    }
}

/// The size of one access to a [`BarMap`].
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

/// A BAR that is reserved for the driver and mapped into the kernel.
pub struct BarMap {
    dev: PciDevice,
    bar: u32,
    io: NonNull<c_void>,
    len: u64,
}

// SAFETY: The mapping is global; accesses are single instructions.
unsafe impl Send for BarMap {}
// SAFETY: As above.
unsafe impl Sync for BarMap {}

impl BarMap {
    /// Reserves and maps a BAR. May sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is no such BAR, `EBUSY` if someone else has it, `ENOMEM`.
    pub fn new(dev: &PciDevice, bar: u32) -> Result<Self> {
        let len = dev.bar_len(bar);
        if len == 0 || bar > 5 {
            return Err(ENODEV);
        }
        // SAFETY: The device is alive; the name lives forever.
        to_result(unsafe {
            bindings::pci_request_selected_regions(dev.as_ptr(), 1 << bar, c"vfio".as_char_ptr())
        })?;
        // SAFETY: The BAR is reserved for us.
        let io = unsafe { bindings::pci_iomap(dev.as_ptr(), bar as c_int, 0) };
        let Some(io) = NonNull::new(io) else {
            // SAFETY: Reserved above.
            unsafe { bindings::pci_release_selected_regions(dev.as_ptr(), 1 << bar) };
            return Err(ENOMEM);
        };
        Ok(Self {
            dev: dev.clone(),
            bar,
            io,
            len,
        })
    }

    fn aligned(&self, offset: u64, width: IoWidth) -> Result<*mut c_void> {
        if offset % width as u64 != 0 {
            return Err(EINVAL);
        }
        self.at(offset, width)
    }

    fn at(&self, offset: u64, width: IoWidth) -> Result<*mut c_void> {
        let end = offset.checked_add(width as u64).ok_or(EINVAL)?;
        if end > self.len {
            return Err(EINVAL);
        }
        Ok(self.io.as_ptr().wrapping_byte_add(offset as usize))
    }

    /// Reads once, `offset` bytes into the BAR.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the access is not aligned or not in the BAR.
    pub fn read(&self, offset: u64, width: IoWidth) -> Result<u64> {
        let at = self.aligned(offset, width)?;
        // SAFETY: `at` checked that the access lies in the mapping.
        Ok(unsafe {
            match width {
                IoWidth::W1 => bindings::ioread8(at).into(),
                IoWidth::W2 => bindings::ioread16(at).into(),
                IoWidth::W4 => bindings::ioread32(at).into(),
                IoWidth::W8 => bindings::vfio_rs_ioread64(at),
            }
        })
    }

    /// Writes once, `offset` bytes into the BAR.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the access is not aligned or not in the BAR.
    pub fn write(&self, offset: u64, width: IoWidth, value: u64) -> Result {
        self.aligned(offset, width)?;
        self.write_unaligned(offset, width, value)
    }

    /// As [`write`](Self::write), aligned or not: the bus may cut the access into several. Any
    /// context.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the access is not in the BAR.
    pub fn write_unaligned(&self, offset: u64, width: IoWidth, value: u64) -> Result {
        let at = self.at(offset, width)?;
        // SAFETY: `at` checked that the access lies in the mapping.
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

impl Drop for BarMap {
    fn drop(&mut self) {
        // SAFETY: Mapped and reserved by `new`.
        unsafe {
            bindings::pci_iounmap(self.dev.as_ptr(), self.io.as_ptr());
            bindings::pci_release_selected_regions(self.dev.as_ptr(), 1 << self.bar);
        }
    }
}
