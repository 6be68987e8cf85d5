// SPDX-License-Identifier: GPL-2.0

//! What the current process has mapped at an address: `vma_lookup()` and `follow_pfnmap_start()`
//! of `include/linux/mm.h`.
//!
//! Memory that the kernel manages can be pinned ([`PinnedPages`](crate::pin::PinnedPages)). A
//! `VM_PFNMAP` area cannot: it shows a device's memory, which has no pages. Where such an area is a
//! map of a file of our own, the file tells what it shows; else the page tables are asked, frame by
//! frame. Takes `mmap_lock` for reading.

use core::mem::MaybeUninit;
use kernel::{
    error::to_result,
    mm::{
        virt::{
            flags,
            VmaRef, //
        },
        MmWithUser, //
    },
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};
use vfio_bindings as bindings;

use crate::{
    fops::{
        FileOps,
        FileOpsTable, //
    },
    iommu::DeviceMemory,
    mmap::{
        Mapped,
        Mmap, //
    },
    sched,
};

/// What a user has at an address.
pub enum UserArea<R> {
    /// Memory that may be pinned; the area has this many bytes from the address on.
    Memory(usize),
    /// A part of a file of our own.
    Own(R),
    /// Physically contiguous memory of some device.
    Device(DeviceMemory),
}

/// A part of a file of our own that a user has mapped.
#[derive(Clone, Copy)]
pub struct FilePart {
    /// Where it is in the file, in bytes.
    pub offset: u64,
    /// Bytes.
    pub len: usize,
}

/// Whether the current process shows memory of devices in `len` bytes from `vaddr` on, and how many
/// of the bytes are not; `None` if none are a device's, or the task is being killed. Ends at a
/// hole. May sleep.
pub fn memory_beside_devices(vaddr: usize, len: usize) -> Option<usize> {
    let mm = current_mm().ok()?;
    let guard = mm.mmap_read_lock();
    // SAFETY: `mmap_lock` is held, as the call demands.
    let mut at = unsafe { bindings::vfio_rs_untagged_addr(mm.as_raw(), vaddr) };
    let end = at.checked_add(len)?;
    let (mut memory, mut devices) = (0usize, false);
    while at < end {
        // As many as the user has areas.
        sched::check_killed().ok()?;
        let Some(area) = guard.vma_lookup(at) else {
            break;
        };
        let next = area.end().min(end);
        if area.flags() & flags::PFNMAP != 0 {
            devices = true;
        } else {
            memory += next - at;
        }
        at = next;
    }
    devices.then_some(memory)
}

/// Tells what the current process has at `vaddr`, of `max` bytes at most.
///
/// For a map of a file that `table` serves, `own` is called with `mmap_lock` held: it must take no
/// lock under which user memory is touched, and should do no more than to take references.
///
/// # Errors
///
/// `EINVAL` if one of the two is not a multiple of the page size, or there are no bytes; `EFAULT`
/// if nothing is there, or may not be written though `writable` asks for it; `ESRCH` without a
/// process, `EINTR` if the task is being killed, or what `own` says. May sleep.
pub fn at<T: FileOps + Mmap, R>(
    table: &'static FileOpsTable<T, Mapped>,
    vaddr: usize,
    max: usize,
    writable: bool,
    own: impl FnOnce(&T, FilePart) -> Result<R>,
) -> Result<UserArea<R>> {
    if (vaddr | max) % PAGE_SIZE != 0 || max == 0 {
        return Err(EINVAL);
    }
    sched::check_killed()?;
    let mm = current_mm()?;
    let guard = mm.mmap_read_lock();
    // SAFETY: `mmap_lock` is held, as the call demands.
    let vaddr = unsafe { bindings::vfio_rs_untagged_addr(mm.as_raw(), vaddr) };
    loop {
        let area = guard.vma_lookup(vaddr).ok_or(EFAULT)?;
        let left = area.end().saturating_sub(vaddr).min(max);
        if area.flags() & flags::PFNMAP == 0 {
            return Ok(UserArea::Memory(left));
        }
        if let Some(data) = data_of(table, area) {
            let needed = if writable { flags::WRITE } else { flags::READ };
            if area.flags() & needed == 0 {
                return Err(EFAULT);
            }
            let part = FilePart {
                offset: file_offset(area, vaddr).ok_or(EFAULT)?,
                len: left,
            };
            return own(data, part).map(UserArea::Own);
        }
        match frames(area, vaddr, left, writable)? {
            Some(memory) => return Ok(UserArea::Device(memory)),
            // The lock was dropped for a while, so the area may be another.
            None => sched::check_killed()?,
        }
    }
}

/// The memory of the current process, which the caller must not keep after its call.
fn current_mm<'a>() -> Result<&'a MmWithUser> {
    // SAFETY: Looks at `current` only.
    let mm = unsafe { bindings::vfio_rs_current_mm() };
    if mm.is_null() {
        return Err(ESRCH);
    }
    // SAFETY: `current` has this `mm` for as long as a call lasts, so it has users.
    Ok(unsafe { MmWithUser::from_raw(mm) })
}

/// The data of the file that `area` shows, if `table` serves it.
fn data_of<'a, T: FileOps + Mmap>(
    table: &'static FileOpsTable<T, Mapped>,
    area: &'a VmaRef,
) -> Option<&'a T> {
    // SAFETY: The area is valid while the reference lives, and holds its file open, if any; `f_op`
    // and `private_data` do not change, and the latter is an `Arc<T>` by the table's invariants,
    // which lives as long as the file.
    unsafe {
        let file = (*area.as_ptr()).vm_file;
        if file.is_null() || !core::ptr::eq((*file).f_op, table.as_ptr()) {
            return None;
        }
        Some(&*(*file).private_data.cast::<T>())
    }
}

/// Where `vaddr` is in the file that `area` shows, in bytes.
fn file_offset(area: &VmaRef, vaddr: usize) -> Option<u64> {
    // SAFETY: The area is valid while the reference lives, with `mmap_lock` held.
    let pgoff = unsafe { (*area.as_ptr()).vm_pgoff } as u64;
    let inside = vaddr.checked_sub(area.start())? as u64;
    pgoff.checked_mul(PAGE_SIZE as u64)?.checked_add(inside)
}

/// The device memory that a `VM_PFNMAP` area shows at `vaddr`: as much as one entry of the page
/// table covers, `max` bytes at most. `None` if `mmap_lock` was dropped meanwhile.
fn frames(area: &VmaRef, vaddr: usize, max: usize, writable: bool) -> Result<Option<DeviceMemory>> {
    let mut args = bindings::follow_pfnmap_args {
        vma: area.as_ptr(),
        address: vaddr,
        // SAFETY: Outputs and internals, for which all zeroes is a valid value.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    };
    // SAFETY: The area is valid, `mmap_lock` is held and the address lies in the area.
    if unsafe { bindings::follow_pfnmap_start(&mut args) } != 0 {
        let write = if writable {
            bindings::fault_flag_FAULT_FLAG_WRITE
        } else {
            0
        };
        let mut unlocked = false;
        // SAFETY: `mmap_lock` is held, and held again when the call returns.
        let ret = to_result(unsafe {
            bindings::fixup_user_fault(
                area.mm().as_raw(),
                vaddr,
                bindings::fault_flag_FAULT_FLAG_REMOTE | write,
                &mut unlocked,
            )
        });
        if unlocked {
            return Ok(None);
        }
        ret?;
        // SAFETY: As above.
        to_result(unsafe { bindings::follow_pfnmap_start(&mut args) })?;
    }
    let (pfn, mask, may_write) = (args.pfn, args.addr_mask, args.writable);
    // SAFETY: Ends what the successful call began; the outputs were copied.
    unsafe { bindings::follow_pfnmap_end(&mut args) };
    // SAFETY: Any number may be asked about.
    let device = unsafe { bindings::vfio_rs_pfn_is_device(pfn) };
    if (writable && !may_write) || !device {
        return Err(EFAULT);
    }
    // From this page to the end of the entry.
    let left = (!mask).wrapping_add(1) - (vaddr & !mask);
    // Not memory that the kernel manages, as was just checked.
    let memory = DeviceMemory::new((pfn as u64) << PAGE_SHIFT, left.min(max));
    Ok(Some(memory))
}
