// SPDX-License-Identifier: GPL-2.0

//! Pinned user memory, `pin_user_pages_fast()` of `mm/gup.c`.

use core::mem::MaybeUninit;
use kernel::{
    page::PAGE_SHIFT,
    prelude::*, //
};
use vfio_bindings as bindings;

use crate::sched;

/// Physically contiguous pages: 16 bytes each, whatever their number.
#[derive(Clone, Copy)]
struct Run {
    pfn: usize,
    npages: usize,
}

/// User pages that stay where they are until this is dropped.
pub struct PinnedPages {
    /// The first run has a place of its own, so that one run needs no allocation.
    first: Run,
    rest: KVVec<Run>,
    npages: usize,
    writable: bool,
}

/// Pages per call when many are pinned: the array of pointers takes 64 KiB.
const BATCH: usize = 8192;
/// Pages per call when few are: the array is on the stack.
const SMALL_BATCH: usize = 16;

impl PinnedPages {
    /// Pins `npages` pages of the current process from the address `vaddr` on, for as long as a
    /// device may use them.
    ///
    /// # Errors
    ///
    /// `EFAULT` if some page is not there or may not be written though `writable` asks for it,
    /// `ENOMEM`, `EINTR` if the task is being killed. May sleep; takes `mmap_lock` for reading.
    pub fn pin(vaddr: usize, npages: usize, writable: bool) -> Result<Self> {
        let mut pinned = Self {
            first: Run { pfn: 0, npages: 0 },
            rest: KVVec::new(),
            npages: 0,
            writable,
        };
        let mut small = [const { MaybeUninit::uninit() }; SMALL_BATCH];
        if npages <= SMALL_BATCH {
            pinned.pin_with(vaddr, npages, &mut small)?;
        } else {
            let mut large = KVVec::with_capacity(npages.min(BATCH), GFP_KERNEL)?;
            pinned.pin_with(vaddr, npages, large.spare_capacity_mut())?;
        }
        Ok(pinned)
    }

    /// How many pages these are.
    pub fn npages(&self) -> usize {
        self.npages
    }

    /// Calls `f` with physical address and bytes of each run, in order.
    pub fn for_each_run(&self, mut f: impl FnMut(u64, usize) -> Result) -> Result {
        for run in self.runs() {
            f((run.pfn as u64) << PAGE_SHIFT, run.npages << PAGE_SHIFT)?;
        }
        Ok(())
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        let runs = Iterator::chain(core::iter::once(&self.first), self.rest.iter());
        runs.filter(|run| run.npages != 0)
    }

    fn pin_with(
        &mut self,
        vaddr: usize,
        npages: usize,
        buf: &mut [MaybeUninit<*mut bindings::page>],
    ) -> Result {
        let write = if self.writable {
            bindings::FOLL_WRITE
        } else {
            0
        };
        while self.npages < npages {
            sched::check_killed()?;
            let want = (npages - self.npages).min(buf.len());
            // SAFETY: `buf` has room for `want` pointers. The result is unpinned by `drop`.
            let got = unsafe {
                bindings::pin_user_pages_fast(
                    vaddr.wrapping_add(self.npages << PAGE_SHIFT),
                    want.try_into()?,
                    write | bindings::FOLL_LONGTERM,
                    buf.as_mut_ptr().cast(),
                )
            };
            if got <= 0 {
                return Err(if got == 0 {
                    EFAULT
                } else {
                    Error::from_errno(got)
                });
            }
            // SAFETY: The call above filled in the first `got` pointers.
            let pages = unsafe {
                core::slice::from_raw_parts(
                    buf.as_ptr().cast::<*mut bindings::page>(),
                    got as usize,
                )
            };
            self.take(pages)?;
            sched::cond_resched();
        }
        Ok(())
    }

    /// Takes over pages that are pinned; those it fails to store are unpinned.
    fn take(&mut self, pages: &[*mut bindings::page]) -> Result {
        let mut left = pages;
        while let [head, ..] = left {
            // Struct pages of adjacent frames are adjacent (vmemmap or flat memory model).
            let n = 1 + left
                .windows(2)
                .take_while(|pair| core::ptr::eq(pair[0].wrapping_add(1), pair[1]))
                .count();
            // SAFETY: `head` is the valid page of pinned memory.
            let pfn = unsafe { bindings::vfio_rs_page_to_pfn(*head) };
            if let Err(err) = self.push(Run { pfn, npages: n }) {
                for page in left {
                    unpin(*page, 1, false);
                }
                return Err(err);
            }
            self.npages += n;
            left = left.get(n..).unwrap_or(&[]);
        }
        Ok(())
    }

    fn push(&mut self, run: Run) -> Result {
        let last = self.rest.last_mut().unwrap_or(&mut self.first);
        if last.npages == 0 {
            *last = run;
        } else if last.pfn + last.npages == run.pfn {
            last.npages += run.npages;
        } else {
            self.rest.push(run, GFP_KERNEL)?;
        }
        Ok(())
    }
}

impl Drop for PinnedPages {
    fn drop(&mut self) {
        for run in self.runs() {
            // SAFETY: The frame holds a page that `pin_with` pinned.
            let page = unsafe { bindings::vfio_rs_pfn_to_page(run.pfn) };
            unpin(page, run.npages, self.writable);
            sched::cond_resched();
        }
    }
}

/// Gives back `npages` adjacent pages, dirty if a device may have written to them. May sleep.
fn unpin(page: *mut bindings::page, npages: usize, dirty: bool) {
    // SAFETY: Both callers own one pin of each of these pages.
    unsafe { bindings::unpin_user_page_range_dirty_lock(page, npages, dirty) }
}
