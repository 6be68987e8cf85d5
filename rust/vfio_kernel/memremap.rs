// SPDX-License-Identifier: GPL-2.0

//! Memory that firmware has filled, `memremap()` of `include/linux/io.h`.

use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*, //
};

/// A piece of physical memory, mapped into the kernel to be read. Others may write to it at any time.
pub struct FirmwareMemory {
    addr: NonNull<u8>,
    len: usize,
}

// SAFETY: The mapping belongs to no task, and is only read, by volatile loads.
unsafe impl Send for FirmwareMemory {}
// SAFETY: As above.
unsafe impl Sync for FirmwareMemory {}

impl FirmwareMemory {
    /// Maps `len` bytes at the physical address `phys`. The caller has that address from somebody whom
    /// the kernel trusts, as it may be that of any memory. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if it is not all of one kind of memory, or cannot be mapped cached.
    pub fn new(phys: u64, len: usize) -> Result<Self> {
        if len == 0 || phys.checked_add(len as u64).is_none() {
            return Err(ENOMEM);
        }
        // SAFETY: The range does not wrap around; the kernel checks what is there.
        let addr = unsafe { bindings::memremap(phys, len, bindings::MEMREMAP_WB as c_ulong) };
        let addr = NonNull::new(addr.cast()).ok_or(ENOMEM)?;
        Ok(Self { addr, len })
    }

    /// Copies bytes at offset `at`.
    ///
    /// # Errors
    ///
    /// `EINVAL` beyond the end.
    pub fn copy(&self, at: usize, buf: &mut [u8]) -> Result {
        if at.checked_add(buf.len()).is_none_or(|end| end > self.len) {
            return Err(EINVAL);
        }
        for (to, at) in buf.iter_mut().zip(at..) {
            // SAFETY: Inside the mapping, checked above. Volatile, for others may write.
            *to = unsafe { self.addr.as_ptr().add(at).read_volatile() };
        }
        Ok(())
    }
}

impl Drop for FirmwareMemory {
    fn drop(&mut self) {
        // SAFETY: Mapped by `new`; nobody else has the address.
        unsafe { bindings::memunmap(self.addr.as_ptr().cast()) }
    }
}
