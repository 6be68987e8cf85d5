// SPDX-License-Identifier: GPL-2.0

//! Pinned user memory, `pin_user_pages_fast()` of `mm/gup.c`.

use core::mem::{
    size_of,
    ManuallyDrop,
    MaybeUninit, //
};
use kernel::{
    page::PAGE_SHIFT,
    prelude::*, //
};
use vfio_bindings as bindings;

use crate::{
    runs::{
        Cursor,
        Runs, //
    },
    sched,
    shared_page::SharedPage, //
};

/// User pages that stay where they are until this is dropped.
pub struct PinnedPages {
    runs: Runs,
    writable: bool,
}

/// A page as the kernel names it. Only its address is looked at.
type PagePtr = *mut bindings::page;

/// How far struct pages of adjacent frames are apart.
const STRIDE: usize = size_of::<bindings::page>();
/// Pages that are compared in one go. A multiple of 16.
const CHUNK: usize = 128;
/// The same for what is left: the end of a huge page that stands alone.
const SMALL_CHUNK: usize = 16;
/// Pages per call when many are pinned: the array of pointers takes 64 KiB.
const BATCH: usize = 8192;
/// Pages per call when few are: the array is on the stack.
const SMALL_BATCH: usize = 16;
/// Pages that are unpinned before others may have the CPU.
const UNPIN_BATCH: usize = 16384;

impl PinnedPages {
    /// Pins `npages` pages of the current process from the address `vaddr` on, for as long as a
    /// device may use them.
    ///
    /// # Errors
    ///
    /// `EFAULT` if some page is not there or may not be written though `writable` asks for it,
    /// `ENOMEM`, `EINTR` if the task is being killed. May sleep; takes `mmap_lock` for reading.
    #[inline]
    pub fn pin(vaddr: usize, npages: usize, writable: bool) -> Result<Self> {
        match npages {
            1 => Self::pin_one(vaddr, writable),
            _ => Self::pin_several(vaddr, npages, writable),
        }
    }

    #[inline(never)]
    fn pin_several(vaddr: usize, npages: usize, writable: bool) -> Result<Self> {
        let mut pinned = Self {
            runs: Runs::new(),
            writable,
        };
        let mut small = [const { MaybeUninit::uninit() }; SMALL_BATCH];
        if npages <= SMALL_BATCH {
            pinned.pin_with(vaddr, npages, &mut small)?;
        } else {
            let mut large = KVVec::with_capacity(npages.min(BATCH), GFP_KERNEL)?;
            pinned.pin_with(vaddr, npages, large.spare_capacity_mut())?;
            pinned.runs.trim();
        }
        Ok(pinned)
    }

    #[inline(always)]
    fn pin_one(vaddr: usize, writable: bool) -> Result<Self> {
        let mut page: PagePtr = core::ptr::null_mut();
        // SAFETY: There is room for one pointer. The page is unpinned by `drop`.
        let got =
            unsafe { bindings::pin_user_pages_fast(vaddr, 1, gup_flags(writable), &mut page) };
        if got != 1 {
            return Err(failure(got));
        }
        Ok(Self {
            runs: Runs::one(pfn_of(page, frame0())),
            writable,
        })
    }

    /// No pages yet.
    pub(crate) const fn none(writable: bool) -> Self {
        Self {
            runs: Runs::new(),
            writable,
        }
    }

    /// Pins more pages, up to `npages` from the address `vaddr` on, and adds them at the end; in
    /// the end there will be `total`. Returns how many it were, and why not all.
    ///
    /// # Errors
    ///
    /// As [`pin`](Self::pin).
    pub(crate) fn pin_more(
        &mut self,
        vaddr: usize,
        npages: usize,
        total: usize,
    ) -> (usize, Result) {
        let before = self.npages();
        let mut small = [const { MaybeUninit::uninit() }; SMALL_BATCH];
        let result = if npages <= SMALL_BATCH {
            self.add_with(vaddr, npages, total, &mut small)
        } else {
            KVVec::with_capacity(npages.min(BATCH), GFP_KERNEL)
                .map_err(Error::from)
                .and_then(|mut large| {
                    self.add_with(vaddr, npages, total, large.spare_capacity_mut())
                })
        };
        (self.npages().wrapping_sub(before), result)
    }

    /// Makes the first `npages` pages, or all, one of their own.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; then nothing has changed.
    pub(crate) fn cut_front(&mut self, npages: usize) -> Result<Self> {
        let runs = self.runs.front(npages)?;
        self.runs.take_each(npages, |_, _| ());
        Ok(Self {
            runs,
            writable: self.writable,
        })
    }

    /// Gives back room that is not needed.
    pub(crate) fn trim(&mut self) {
        self.runs.trim();
    }

    /// How many pages these are.
    #[inline]
    pub fn npages(&self) -> usize {
        self.runs.npages()
    }

    /// The frames of the pages, in order.
    #[inline]
    pub(crate) fn frames(&self) -> Cursor<'_> {
        self.runs.cursor()
    }

    /// Whether they are dirty when they are unpinned.
    #[inline]
    pub(crate) fn writable(&self) -> bool {
        self.writable
    }

    /// The frames themselves, which the caller unpins by [`unpin_runs`].
    #[inline]
    pub(crate) fn into_runs(self) -> Runs {
        let this = ManuallyDrop::new(self);
        // SAFETY: Read once, as `this` is not dropped.
        unsafe { core::ptr::read(&this.runs) }
    }

    /// The first frame, if the pages are adjacent frames.
    pub fn adjacent(&self) -> Option<u64> {
        match self.frames().take(self.npages()) {
            Some((pfn, npages)) if npages == self.npages() => Some(pfn as u64),
            _ => None,
        }
    }

    /// Whether `page` is among them.
    pub fn contains(&self, page: &SharedPage) -> bool {
        let wanted = page.phys() >> PAGE_SHIFT;
        let mut frames = self.frames();
        while let Some((pfn, npages)) = frames.take(usize::MAX) {
            if wanted
                .checked_sub(pfn as u64)
                .is_some_and(|at| at < npages as u64)
            {
                return true;
            }
        }
        false
    }

    #[inline]
    fn pin_with(
        &mut self,
        vaddr: usize,
        npages: usize,
        buf: &mut [MaybeUninit<PagePtr>],
    ) -> Result {
        self.add_with(vaddr, npages, npages, buf)
    }

    /// Adds `npages` pages from `vaddr` on; there will be `total`.
    #[inline]
    fn add_with(
        &mut self,
        vaddr: usize,
        npages: usize,
        total: usize,
        buf: &mut [MaybeUninit<PagePtr>],
    ) -> Result {
        let flags = gup_flags(self.writable);
        let before = self.npages();
        loop {
            let done = self.npages().wrapping_sub(before);
            let want = npages.saturating_sub(done).min(buf.len());
            if want == 0 {
                return Ok(());
            }
            if done != 0 {
                sched::cond_resched();
            }
            sched::check_killed()?;
            // SAFETY: `buf` has room for `want` pointers. The result is unpinned by `drop`.
            let got = unsafe {
                bindings::pin_user_pages_fast(
                    vaddr.wrapping_add(done << PAGE_SHIFT),
                    // CAST: Buffers are smaller than 2^31.
                    want as c_int,
                    flags,
                    buf.as_mut_ptr().cast(),
                )
            };
            if got <= 0 {
                return Err(failure(got));
            }
            // SAFETY: The call above filled in the first `got` pointers.
            let pages = unsafe {
                core::slice::from_raw_parts(buf.as_ptr().cast::<PagePtr>(), got as usize)
            };
            self.keep(pages, total)?;
        }
    }

    /// Takes over pages that are pinned, of `total`; those it fails to store are unpinned.
    #[inline]
    fn keep(&mut self, pages: &[PagePtr], total: usize) -> Result {
        let frame0 = frame0();
        let mut left = pages;
        while let [head, ..] = left {
            let npages = adjacent(left);
            let pfn = pfn_of(*head, frame0);
            let kept = if left.len() == pages.len() {
                self.runs.push(pfn, npages, total)
            } else {
                self.runs.append(pfn, npages, total)
            };
            if let Err(err) = kept {
                for page in left {
                    unpin(*page, 1, false);
                }
                return Err(err);
            }
            left = left.get(npages..).unwrap_or(&[]);
        }
        Ok(())
    }
}

impl Drop for PinnedPages {
    fn drop(&mut self) {
        let npages = self.npages();
        // SAFETY: `pin_with` pinned them.
        unsafe { unpin_runs(&mut self.runs, npages, self.writable) }
    }
}

/// Unpins the first `npages` of `runs`, dirty if a device may have written to them. May sleep.
///
/// # Safety
///
/// `runs` came from [`PinnedPages::into_runs`].
#[inline]
pub(crate) unsafe fn unpin_runs(runs: &mut Runs, npages: usize, dirty: bool) {
    let frame0 = frame0();
    if npages <= UNPIN_BATCH {
        if let Some(pfn) = runs.take_only(npages) {
            return unpin(frame0.wrapping_add(pfn), npages, dirty);
        }
    }
    let mut left = npages;
    while left != 0 {
        let some = left.min(UNPIN_BATCH);
        runs.take_each(some, |pfn, npages| {
            unpin(frame0.wrapping_add(pfn), npages, dirty);
        });
        left -= some;
        if left != 0 {
            sched::cond_resched();
        }
    }
}

/// How pages are pinned: for long, and to be written to if they are `writable`.
fn gup_flags(writable: bool) -> c_uint {
    bindings::FOLL_LONGTERM | if writable { bindings::FOLL_WRITE } else { 0 }
}

/// Why no page was pinned.
#[cold]
fn failure(got: c_int) -> Error {
    match got {
        0 => EFAULT,
        errno => Error::from_errno(errno),
    }
}

/// The frame of a page. The array of struct pages is one (vmemmap or flat memory model:
/// vfio_helpers.c).
#[inline]
fn pfn_of(page: PagePtr, frame0: PagePtr) -> usize {
    (page as usize).wrapping_sub(frame0 as usize) / STRIDE
}

/// The start of the array of struct pages; may lie outside of it.
#[inline]
fn frame0() -> PagePtr {
    // SAFETY: Computes an address.
    unsafe { bindings::vfio_rs_pfn_to_page(0) }
}

/// How many pages at the start of `pages`, which is not empty, are adjacent.
///
/// Each is compared, also within a folio, as users may map the pages of one in any order.
#[inline]
fn adjacent(pages: &[PagePtr]) -> usize {
    let address = |at: usize| pages.get(at).map(|page| *page as usize);
    let Some(mut last) = address(0) else { return 0 };
    let mut n = 1;
    if address(1) != Some(last.wrapping_add(STRIDE)) {
        return n;
    }
    n = skip_chunks::<{ CHUNK + 1 }>(pages, n);
    n = skip_chunks::<{ SMALL_CHUNK + 1 }>(pages, n);
    last = last.wrapping_add((n - 1) * STRIDE);
    while address(n) == Some(last.wrapping_add(STRIDE)) {
        last = last.wrapping_add(STRIDE);
        n += 1;
    }
    n
}

/// Of `pages` the first `n` are adjacent: how many are when as many chunks of `N - 1` more as are
/// adjacent too are taken.
#[inline(always)]
fn skip_chunks<const N: usize>(pages: &[PagePtr], mut n: usize) -> usize {
    while let Some(chunk) = pages.get(n - 1..).and_then(|left| left.first_chunk::<N>()) {
        if !all_adjacent(chunk) {
            break;
        }
        n += N - 1;
    }
    n
}

/// Whether all of `pages` are adjacent; one more than a multiple of 16.
///
/// They are if each is above the one before, as no two are closer than `STRIDE`, and the last one
/// is where it should be. So every other page is compared with both its neighbours: two and a half
/// instructions per page, which count, as there is a page for each 4 KiB that is mapped.
#[inline]
fn all_adjacent<const N: usize>(pages: &[PagePtr; N]) -> bool {
    if (pages[N - 1] as usize).wrapping_sub(pages[0] as usize) != (N - 1) * STRIDE {
        return false;
    }
    let mut pages = pages;
    let mut rises = |at: usize| {
        let page = pages[at];
        let rises = pages[at - 1] < page && page < pages[at + 1];
        pages = hidden(pages);
        rises
    };
    let mut at = 0;
    while at != N - 1 {
        let low = rises(at + 1) && rises(at + 3) && rises(at + 5) && rises(at + 7);
        if !(low && rises(at + 9) && rises(at + 11) && rises(at + 13) && rises(at + 15)) {
            return false;
        }
        at += 16;
    }
    true
}

/// The same, but the compiler does not know that: what it points to is loaded again, as an operand
/// of what uses it. As `OPTIMIZER_HIDE_VAR()`, no instruction.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // Nothing is read or written.
fn hidden<T>(what: &T) -> &T {
    let mut ptr: *const T = what;
    // SAFETY: Does nothing.
    unsafe {
        core::arch::asm!(
            "/* {0} */",
            inout(reg) ptr,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
    // SAFETY: As it was.
    unsafe { &*ptr }
}

/// Gives back `npages` adjacent pages, dirty if a device may have written to them. May sleep.
fn unpin(page: PagePtr, npages: usize, dirty: bool) {
    // SAFETY: All callers own one pin of each of these pages.
    unsafe { bindings::unpin_user_page_range_dirty_lock(page, npages, dirty) }
}
