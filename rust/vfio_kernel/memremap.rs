// SPDX-License-Identifier: GPL-2.0

//! Memory that firmware has filled and kept, `memremap()` of `include/linux/io.h`.

use core::ptr::NonNull;
use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*, //
};

/// A piece of physical memory that firmware keeps for itself, mapped into the kernel to be read.
/// Others may write to it at any time.
pub struct FirmwareMemory {
    addr: NonNull<u8>,
    len: usize,
}

// SAFETY: The mapping belongs to no task, and is only read, by volatile loads.
unsafe impl Send for FirmwareMemory {}
// SAFETY: As above.
unsafe impl Sync for FirmwareMemory {}

impl FirmwareMemory {
    /// Maps `len` bytes at the physical address `phys`, which may come from anybody: what is not
    /// kept by firmware, as the kernel's own memory and other devices', is refused. The time that
    /// takes grows with `len`. May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if not all of it is memory that firmware keeps, `ENOMEM` if it cannot be mapped
    /// cached.
    pub fn new(phys: u64, len: usize) -> Result<Self> {
        if !is_firmwares(phys, len) {
            return Err(EINVAL);
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

/// Whether firmware keeps all of the range, by the tree of resources.
fn is_firmwares(phys: u64, len: usize) -> bool {
    const PAGE: u64 = PAGE_SIZE as u64;
    let memory = bindings::IORESOURCE_MEM;
    // What the BARs of devices have, and no memory.
    let of_a_device = memory | bindings::IORESOURCE_SIZEALIGN;

    let Some(end) = phys.checked_add(len as u64).filter(|end| *end > phys) else {
        return false;
    };
    if meets(phys, len, bindings::IORESOURCE_SYSTEM_RAM, ANY) != DISJOINT
        || meets(phys, len, of_a_device, ANY) != DISJOINT
    {
        return false;
    }
    // Page by page, as between two resources there may be what is none.
    let mut at = phys;
    while at < end {
        let next = (at & !(PAGE - 1)).saturating_add(PAGE).min(end);
        let part = (next - at) as usize;
        let only = |desc| meets(at, part, memory, desc) == bindings::REGION_INTERSECTS;
        let kept = only(bindings::IORES_DESC_ACPI_NV_STORAGE)
            || only(bindings::IORES_DESC_ACPI_TABLES)
            // In what is reserved there are registers, too, which are busy.
            || only(bindings::IORES_DESC_RESERVED)
                && meets(at, part, memory | bindings::IORESOURCE_BUSY, ANY) == DISJOINT;
        if !kept {
            return false;
        }
        at = next;
    }
    true
}

/// Resources of any kind.
const ANY: c_uint = bindings::IORES_DESC_NONE;
const DISJOINT: c_uint = bindings::REGION_DISJOINT;

/// Whether a range that does not wrap around meets resources of a kind, and whether it meets
/// others.
fn meets(phys: u64, len: usize, flags: u32, desc: c_uint) -> c_uint {
    // SAFETY: Takes a lock of its own; any numbers may be passed.
    unsafe { bindings::region_intersects(phys, len, flags as usize, desc as usize) as c_uint }
}

impl Drop for FirmwareMemory {
    fn drop(&mut self) {
        // SAFETY: Mapped by `new`; nobody else has the address.
        unsafe { bindings::memunmap(self.addr.as_ptr().cast()) }
    }
}
