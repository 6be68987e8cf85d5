// SPDX-License-Identifier: GPL-2.0
//! Memory for a device to read and write.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{
    MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, munmap,
};

/// Page-aligned anonymous memory, zeroed, private to this process; given back when dropped.
///
/// A device may write to it behind Rust's back, so it is read and written through volatile copies
/// only.
#[derive(Debug)]
pub struct DmaBuf {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: plain memory, no thread owns it.
unsafe impl Send for DmaBuf {}
// SAFETY: bytes change one at a time by volatile access, as they do when a device writes.
unsafe impl Sync for DmaBuf {}

/// Size of pages of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageSize {
    /// Transparent huge ones.
    Huge,
    /// No larger than they must be.
    Small,
}

impl DmaBuf {
    /// `len` bytes, for reading and writing; `len` should be whole pages.
    ///
    /// # Errors
    /// errno of mmap(2).
    pub fn new(len: usize) -> io::Result<Self> {
        Self::with_flags(
            len,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_PRIVATE,
        )
    }

    /// As [`DmaBuf::new`] with protection and flags of one's own (MAP_ANONYMOUS is added).
    ///
    /// # Errors
    /// errno of mmap(2).
    pub fn with_flags(len: usize, prot: ProtFlags, flags: MapFlags) -> io::Result<Self> {
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap_anonymous(None, size, prot, flags) }?;
        Ok(Self {
            base: base.cast(),
            len,
        })
    }

    /// `len` bytes of huge pages of 2 MiB, which the kernel must have set aside.
    ///
    /// # Errors
    /// errno of mmap(2): ENOMEM without so many.
    pub fn huge(len: usize) -> io::Result<Self> {
        Self::with_flags(
            len,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_PRIVATE | MapFlags::MAP_HUGETLB,
        )
    }

    /// Asks for pages of this size.
    ///
    /// # Errors
    /// errno of madvise(2): EINVAL if the kernel has no transparent huge pages.
    pub fn advise(&self, size: PageSize) -> io::Result<()> {
        let advice = match size {
            PageSize::Huge => MmapAdvise::MADV_HUGEPAGE,
            PageSize::Small => MmapAdvise::MADV_NOHUGEPAGE,
        };
        // SAFETY: ours, and this advice changes no contents.
        Ok(unsafe { madvise(self.base.cast(), self.len, advice) }?)
    }

    /// Has every page that is there already in the page tables as well.
    ///
    /// # Errors
    /// errno of madvise(2).
    pub fn populate(&self) -> io::Result<()> {
        // SAFETY: ours, and this advice changes no contents.
        Ok(unsafe { madvise(self.base.cast(), self.len, MmapAdvise::MADV_POPULATE_READ) }?)
    }

    /// Forbids all access from byte `from`, the start of a page, to the end. Nothing there may be
    /// touched afterwards.
    ///
    /// # Errors
    /// errno of mprotect(2).
    ///
    /// # Panics
    /// If `from` is beyond the end.
    pub fn protect_none(&self, from: usize) -> io::Result<()> {
        assert!(from <= self.len);
        // SAFETY: ours; an access to it is a signal, not undefined behaviour.
        Ok(unsafe {
            mprotect(
                self.base.byte_add(from).cast(),
                self.len - from,
                ProtFlags::PROT_NONE,
            )
        }?)
    }

    /// `len` bytes of which the first `file_len` are a file without a name; behind it are none.
    ///
    /// # Errors
    /// errno of memfd_create(2), ftruncate(2) or mmap(2).
    pub fn of_file(len: usize, file_len: u64) -> io::Result<Self> {
        let file = File::from(memfd_create(c"DmaBuf", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(file_len)?;
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(None, size, prot, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok(Self {
            base: base.cast(),
            len,
        })
    }

    /// `len` bytes in which a file of `file_len` bytes, in huge pages of 2 MiB, is again and again.
    ///
    /// # Errors
    /// errno of memfd_create(2), ftruncate(2) or mmap(2): ENOMEM without so many huge pages.
    pub fn of_huge_file(len: usize, file_len: u64) -> io::Result<Self> {
        const HUGE: usize = 2 << 20;
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB;
        let file = File::from(memfd_create(c"DmaBuf", flags)?);
        file.set_len(file_len)?;
        // Only the addresses; what is too much is never touched.
        let buf = Self::with_flags(
            len + HUGE,
            ProtFlags::PROT_NONE,
            MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
        )?;
        let head = (buf.addr() as usize).next_multiple_of(HUGE) - buf.addr() as usize;
        // SAFETY: `buf` is longer by `HUGE`.
        let base = unsafe { buf.base.byte_add(head) };
        let mut at = 0;
        while at < len {
            // SAFETY: as above.
            let addr = unsafe { base.byte_add(at) }.addr();
            let size = NonZeroUsize::new((file_len as usize).min(len - at));
            let size = size.ok_or(io::ErrorKind::InvalidInput)?;
            let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
            // SAFETY: replaces a part of `buf`.
            unsafe { mmap(Some(addr), size, prot, flags, &file, 0) }?;
            at += size.get();
        }
        // The ends go back, what is between them is kept.
        std::mem::forget(buf);
        let all = Self { base, len };
        for (from, len) in [
            (base.as_ptr().wrapping_sub(head), head),
            (base.as_ptr().wrapping_add(len), HUGE - head),
        ] {
            let Some(from) = NonNull::new(from).filter(|_| len != 0) else {
                continue;
            };
            // SAFETY: the ends of what was mapped above.
            unsafe { munmap(from.cast(), len) }?;
        }
        Ok(all)
    }

    /// Puts a new page with protection `prot` in the place of the one at byte `at`, or no page at
    /// all. Until it is a page that can be read and written again, nothing there may be touched.
    ///
    /// # Errors
    /// errno of mmap(2) or munmap(2).
    ///
    /// # Panics
    /// If it is beyond the end.
    pub fn replace_page(&self, at: usize, prot: Option<ProtFlags>) -> io::Result<()> {
        const PAGE: usize = 4096;
        assert!(at % PAGE == 0 && at + PAGE <= self.len);
        // SAFETY: in the mapping, checked above.
        let page = unsafe { self.base.byte_add(at) };
        let size = NonZeroUsize::MIN.saturating_add(PAGE - 1);
        match prot {
            Some(prot) => {
                let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED;
                // SAFETY: replaces a page of ours.
                unsafe { mmap_anonymous(Some(page.addr()), size, prot, flags) }?;
            }
            // SAFETY: a page of ours.
            None => unsafe { munmap(page.cast(), PAGE) }?,
        }
        Ok(())
    }

    /// Address in this process.
    #[must_use]
    pub fn addr(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Sets every byte.
    pub fn fill(&self, byte: u8) {
        (0..self.len).for_each(|i| self.set(i, byte));
    }

    /// Writes a pattern that differs from byte to byte and by `seed`.
    pub fn fill_pattern(&self, seed: u8) {
        (0..self.len).for_each(|i| self.set(i, pattern(seed, i)));
    }

    /// Sets one byte.
    ///
    /// # Panics
    /// If `at` is beyond the end.
    pub fn set(&self, at: usize, byte: u8) {
        assert!(at < self.len);
        // SAFETY: inside the mapping, checked above.
        unsafe { self.base.as_ptr().add(at).write_volatile(byte) }
    }

    /// Reads one byte.
    ///
    /// # Panics
    /// If `at` is beyond the end.
    #[must_use]
    pub fn get(&self, at: usize) -> u8 {
        assert!(at < self.len);
        // SAFETY: inside the mapping, checked above.
        unsafe { self.base.as_ptr().add(at).read_volatile() }
    }

    /// A copy of `len` bytes at `at`.
    ///
    /// # Panics
    /// If the range is beyond the end.
    #[must_use]
    pub fn copy(&self, at: usize, len: usize) -> Vec<u8> {
        (at..at + len).map(|i| self.get(i)).collect()
    }

    /// Copies `data` to `at`.
    ///
    /// # Panics
    /// If the range is beyond the end.
    pub fn put(&self, at: usize, data: &[u8]) {
        data.iter()
            .enumerate()
            .for_each(|(i, byte)| self.set(at + i, *byte));
    }

    /// Whether every byte of `at..at + len` is `byte`.
    ///
    /// # Panics
    /// If the range is beyond the end.
    #[must_use]
    pub fn is_filled(&self, at: usize, len: usize, byte: u8) -> bool {
        (at..at + len).all(|i| self.get(i) == byte)
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        // SAFETY: ours alone.
        let _ = unsafe { munmap(self.base.cast(), self.len) };
    }
}

/// Byte `at` of the pattern `seed`.
#[must_use]
pub fn pattern(seed: u8, at: usize) -> u8 {
    (at as u8)
        .wrapping_mul(31)
        .wrapping_add((at >> 8) as u8)
        .wrapping_add(seed)
}
