// SPDX-License-Identifier: GPL-2.0

//! Paging domains: one I/O page table, `struct iommu_domain`.

use core::{
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};
use vfio_bindings as bindings;

use super::{
    group::IommuGroup,
    pagealloc, //
};
use crate::{
    params,
    runs::Cursor, //
};

/// Runs that are mapped by one call: its list takes 1 KiB of stack.
const BATCH: usize = 32;

/// The I/O virtual addresses that a domain translates.
#[derive(Clone, Copy)]
pub struct Geometry {
    /// First address.
    pub start: u64,
    /// Last address.
    pub last: u64,
}

/// What devices may do with mapped memory. Coherent with the CPU's caches always.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Prot(u32);

impl Prot {
    /// Devices may read, or write, or both.
    pub fn new(read: bool, write: bool) -> Self {
        let read = if read { bindings::IOMMU_READ } else { 0 };
        let write = if write { bindings::IOMMU_WRITE } else { 0 };
        Self(read | write | bindings::IOMMU_CACHE)
    }

    /// What [`to_bits`](Self::to_bits) can return: less than a page has addresses.
    pub(super) const BITS: u64 =
        (bindings::IOMMU_READ | bindings::IOMMU_WRITE | bindings::IOMMU_CACHE) as u64;

    pub(super) fn to_bits(self) -> u64 {
        self.0.into()
    }

    /// The inverse of [`to_bits`](Self::to_bits).
    pub(super) fn from_bits(bits: u64) -> Self {
        Self((bits & Self::BITS) as u32)
    }

    /// As the IOMMU core has it.
    pub(super) fn to_raw(self) -> u32 {
        self.0
    }

    /// Whether devices may read.
    pub fn readable(self) -> bool {
        self.0 & bindings::IOMMU_READ != 0
    }

    /// Whether devices may write.
    pub fn writable(self) -> bool {
        self.0 & bindings::IOMMU_WRITE != 0
    }
}

/// An owned paging domain.
///
/// # Invariants
///
/// `ptr` is to a paging domain that belongs to this. If it `has_pt`, its page table is the kernel's
/// generic one.
pub(super) struct Domain {
    ptr: NonNull<bindings::iommu_domain>,
    /// Whether its page table is the kernel's generic one, and may be changed directly.
    has_pt: bool,
    /// Whether the IOMMU makes accesses that ask for "no snoop" coherent.
    pub(super) coherent: bool,
}

// SAFETY: The C object may be used from any thread; the calls below lock where they must, and
// maps of disjoint ranges may run in parallel.
unsafe impl Send for Domain {}
// SAFETY: As above.
unsafe impl Sync for Domain {}

impl Domain {
    /// Allocates a domain for the devices of `group`. May sleep.
    pub(super) fn alloc(group: &IommuGroup) -> Result<Self> {
        let ptr = group
            .with_any_device(|dev| {
                // SAFETY: The group's mutex keeps the device there during the call.
                from_err_ptr(unsafe { bindings::iommu_paging_domain_alloc_flags(dev, 0) })
            })
            .ok_or(ENODEV)??;
        let ptr = NonNull::new(ptr).ok_or(ENOMEM)?;
        // INVARIANT: Allocated above, for nobody else; the call says which page table it is.
        Ok(Self {
            ptr,
            // SAFETY: It was allocated above.
            has_pt: unsafe { bindings::vfio_rs_iommu_has_pt(ptr.as_ptr()) } && !pagealloc::counts(),
            coherent: false,
        })
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::iommu_domain {
        self.ptr.as_ptr()
    }

    /// Whether its page table is the kernel's generic one.
    pub(super) fn has_pt(&self) -> bool {
        self.has_pt
    }

    /// Lets the devices of `group` see the domain. May sleep.
    pub(super) fn attach(&self, group: &IommuGroup) -> Result {
        // SAFETY: The domain is alive (type invariant of `Domain`), and so is a group that somebody
        // refers to.
        to_result(unsafe { bindings::iommu_attach_group(self.ptr.as_ptr(), group.as_ptr()) })
    }

    /// Takes the devices of `group` out again; they reach no memory from here on. May sleep.
    pub(super) fn detach(&self, group: &IommuGroup) {
        // SAFETY: As for `attach`.
        unsafe { bindings::iommu_detach_group(self.ptr.as_ptr(), group.as_ptr()) }
    }

    /// Turns snooping of all accesses on for good, where the IOMMU can.
    pub(super) fn enforce_cache_coherency(&mut self) {
        // SAFETY: The domain is alive (type invariant of `Domain`) and attached.
        self.coherent = unsafe { bindings::vfio_rs_enforce_cache_coherency(self.ptr.as_ptr()) };
    }

    /// Has the kernel map interrupt doorbells at `base`, where they need mapping.
    pub(super) fn get_msi_cookie(&self, base: u64) -> Result {
        // SAFETY: The domain is alive (type invariant of `Domain`).
        match to_result(unsafe { bindings::iommu_get_msi_cookie(self.ptr.as_ptr(), base) }) {
            Err(ENODEV) => Ok(()),
            ret => ret,
        }
    }

    pub(super) fn geometry(&self) -> Geometry {
        let domain = self.as_ptr();
        // SAFETY: The domain is alive; its geometry does not change.
        let (start, last) = unsafe {
            let geometry = &raw const (*domain).geometry;
            ((*geometry).aperture_start, (*geometry).aperture_end)
        };
        Geometry { start, last }
    }

    /// The sizes a page table entry can have, one bit each.
    pub(super) fn pgsize_bitmap(&self) -> usize {
        // SAFETY: The domain is alive; its page sizes do not change.
        unsafe { (*self.as_ptr()).pgsize_bitmap }
    }

    /// Whether a group may share `self` in place of `other`: same kind of IOMMU and coherency.
    pub(super) fn compatible(&self, other: &Self) -> bool {
        // SAFETY: Both domains are alive; `ops` does not change.
        let (a, b) = unsafe { ((*self.as_ptr()).ops, (*other.as_ptr()).ops) };
        core::ptr::eq(a, b) && self.coherent == other.coherent
    }

    /// Whether these are one and the same domain.
    pub(super) fn is(&self, id: DomainId) -> bool {
        self.id() == id
    }

    pub(super) fn id(&self) -> DomainId {
        DomainId(self.ptr.as_ptr() as usize)
    }

    /// Maps the next `npages` of `frames`, which are pinned, from `iova` on; on failure, also if
    /// there are fewer (`EINVAL`), nothing is mapped. May sleep.
    #[inline]
    pub(super) fn map(
        &self,
        iova: u64,
        frames: &mut Cursor<'_>,
        npages: usize,
        prot: Prot,
    ) -> Result {
        let mut done = 0usize;
        let result = if params::disable_hugepages() {
            self.map_pages(iova, frames, npages, prot, &mut done)
        } else if self.has_pt {
            self.map_runs(iova, frames, npages, prot, &mut done)
        } else {
            self.map_batches(iova, frames, npages, prot, &mut done)
        };
        result.inspect_err(|_| {
            self.unmap(iova, done);
        })
    }

    /// Maps `len` bytes of pinned memory, adjacent from `phys` on, at `iova`; on failure nothing is
    /// mapped. May sleep.
    #[inline]
    pub(super) fn map_adjacent(&self, iova: u64, phys: u64, len: usize, prot: Prot) -> Result {
        if !self.has_pt || params::disable_hugepages() {
            // The memory stays pinned until after the range was unmapped, which `IoMapping` sees
            // to.
            return self.map_run(iova, phys, len, prot.0);
        }
        let mut done = 0;
        // SAFETY: The domain is alive (type invariant of `Domain`) and `has_pt`; the memory as
        // above.
        let ret = unsafe {
            bindings::vfio_rs_iommu_pt_map_sync(
                self.ptr.as_ptr(),
                iova as usize,
                phys,
                len,
                prot.0 as c_int,
                &mut done,
            )
        };
        if ret != 0 {
            self.unmap(iova, done);
            return Err(Error::from_errno(ret));
        }
        Ok(())
    }

    /// Maps run by run and page by page. Adds what was mapped to `done`.
    #[inline(never)]
    fn map_pages(
        &self,
        iova: u64,
        frames: &mut Cursor<'_>,
        npages: usize,
        prot: Prot,
        done: &mut usize,
    ) -> Result {
        for_each_run(frames, npages, |phys, len| {
            // The memory stays pinned until after the range was unmapped, which `IoMapping` sees
            // to.
            self.map_run(iova.wrapping_add(*done as u64), phys, len, prot.0)?;
            *done += len;
            Ok(())
        })
    }

    /// Maps run by run, then lets the IOMMU know. Adds what was mapped to `done`.
    #[inline]
    fn map_runs(
        &self,
        iova: u64,
        frames: &mut Cursor<'_>,
        npages: usize,
        prot: Prot,
        done: &mut usize,
    ) -> Result {
        for_each_run(frames, npages, |phys, len| {
            // SAFETY: The domain is alive (type invariant of `Domain`) and `has_pt`. The memory
            // stays pinned until after the range was unmapped, which `IoMapping` sees to.
            to_result(unsafe {
                bindings::vfio_rs_iommu_pt_map(
                    self.ptr.as_ptr(),
                    (iova as usize).wrapping_add(*done),
                    phys,
                    len,
                    prot.0 as c_int,
                    done,
                )
            })
        })?;
        // SAFETY: The domain is alive (type invariant of `Domain`).
        to_result(unsafe {
            bindings::vfio_rs_iommu_sync_map(self.ptr.as_ptr(), iova as usize, *done)
        })
    }

    /// Maps as many runs by each call as fit its list. Adds what was mapped to `done`.
    #[inline(never)]
    fn map_batches(
        &self,
        iova: u64,
        frames: &mut Cursor<'_>,
        npages: usize,
        prot: Prot,
        done: &mut usize,
    ) -> Result {
        let mut batch = [const { MaybeUninit::uninit() }; BATCH];
        let mut left = npages;
        while left != 0 {
            let mut used = 0;
            while used < BATCH && left != 0 {
                let (pfn, npages) = frames.take(left).ok_or(EINVAL)?;
                left -= npages;
                // SAFETY: Computes an address.
                let page = unsafe { bindings::vfio_rs_pfn_to_page(pfn) } as usize;
                let last = used + 1 == BATCH || left == 0;
                batch[used].write(bindings::scatterlist {
                    page_link: page | if last { bindings::SG_END as usize } else { 0 },
                    // CAST: `IoSpace` maps no more than 1 GiB at a time.
                    length: (npages << PAGE_SHIFT) as c_uint,
                    ..pin_init::zeroed()
                });
                used += 1;
            }
            // SAFETY: The domain is alive (type invariant of `Domain`). The first `used` entries
            // are filled in, the last one is marked, and the memory stays pinned as above.
            let mapped = unsafe {
                bindings::iommu_map_sg(
                    self.ptr.as_ptr(),
                    (iova as usize).wrapping_add(*done),
                    batch.as_mut_ptr().cast(),
                    used as c_uint,
                    prot.0 as c_int,
                    bindings::GFP_KERNEL_ACCOUNT,
                )
            };
            // CAST: What is negative is an errno.
            to_result(mapped.min(0) as c_int)?;
            *done += mapped as usize;
        }
        Ok(())
    }

    /// Maps `len` contiguous bytes; page by page if the administrator wants that, so that no entry
    /// of the page table is larger. On failure nothing is mapped.
    pub(super) fn map_run(&self, iova: u64, phys: u64, len: usize, prot: u32) -> Result {
        let step = match params::disable_hugepages() {
            true => PAGE_SIZE,
            false => len,
        };
        let mut done = 0usize;
        while done < len {
            // SAFETY: The domain is alive (type invariant of `Domain`). All callers say why the
            // memory may be mapped.
            to_result(unsafe {
                bindings::iommu_map(
                    self.ptr.as_ptr(),
                    (iova as usize).wrapping_add(done),
                    phys.wrapping_add(done as u64),
                    step,
                    prot as c_int,
                    bindings::GFP_KERNEL_ACCOUNT,
                )
            })
            .inspect_err(|_| {
                self.unmap(iova, done);
            })?;
            done += step;
        }
        Ok(())
    }

    /// Whether something is mapped at `iova`.
    pub(super) fn translates(&self, iova: u64) -> bool {
        // SAFETY: The domain is alive (type invariant of `Domain`).
        unsafe { bindings::iommu_iova_to_phys(self.ptr.as_ptr(), iova) != 0 }
    }

    /// Unmaps `size` bytes from `iova` on and waits until no device sees them any more. Returns
    /// whether all of them were mapped.
    pub(super) fn unmap(&self, iova: u64, size: usize) -> bool {
        let mut all = true;
        if size != 0 {
            self.unmap_each(core::iter::once((iova, size)), &mut |_| all = false);
        }
        all
    }

    /// Unmaps ranges, each with its first address and its bytes, not 0, and waits until no device
    /// sees any of them any more. Calls `short` with the number of each that was not all mapped.
    #[inline]
    pub(super) fn unmap_each(
        &self,
        ranges: impl Iterator<Item = (u64, usize)>,
        short: &mut impl FnMut(usize),
    ) {
        let domain = self.ptr.as_ptr();
        let mut gather = MaybeUninit::uninit();
        let gather = gather.as_mut_ptr();
        // SAFETY: Initialises `gather`, which stays where it is.
        unsafe { bindings::vfio_rs_iommu_gather_init(gather) };
        for (number, (iova, size)) in ranges.enumerate() {
            // SAFETY: The domain is alive (type invariant of `Domain`), `gather` was initialised.
            // Nobody else maps or unmaps there, as the range belongs to the caller.
            let unmapped = unsafe {
                bindings::vfio_rs_iommu_unmap(domain, self.has_pt, iova as usize, size, gather)
            };
            if unmapped != size {
                short(number);
            }
        }
        // SAFETY: As above. Frees the page tables that were taken out.
        unsafe { bindings::vfio_rs_iommu_sync(domain, gather) }
    }
}

/// Calls `f` with physical address and bytes of each run of the next `npages` of `frames`.
///
/// # Errors
///
/// What `f` says; `EINVAL` if there are fewer frames.
#[inline(always)]
pub(super) fn for_each_run(
    frames: &mut Cursor<'_>,
    npages: usize,
    mut f: impl FnMut(u64, usize) -> Result,
) -> Result {
    let mut left = npages;
    while left != 0 {
        let (pfn, npages) = frames.take(left).ok_or(EINVAL)?;
        f((pfn as u64) << PAGE_SHIFT, npages << PAGE_SHIFT)?;
        left -= npages;
    }
    Ok(())
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: Owned by `self`; `IoSpace` has detached all groups.
        unsafe { bindings::iommu_domain_free(self.ptr.as_ptr()) }
    }
}

/// A name for a domain that does not keep it alive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct DomainId(usize);
