// SPDX-License-Identifier: GPL-2.0
//! Memory for a device to read and write.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

/// Page-aligned anonymous memory, zeroed, private to this process; given back when dropped.
///
/// A device may write to it behind Rust's back, so it is read and written through volatile copies only.
#[derive(Debug)]
pub struct DmaBuf {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: plain memory, no thread owns it.
unsafe impl Send for DmaBuf {}
// SAFETY: bytes change one at a time by volatile access, as they do when a device writes.
unsafe impl Sync for DmaBuf {}

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

    /// Asks for transparent huge pages, or for none.
    ///
    /// # Errors
    /// errno of madvise(2): EINVAL if the kernel has none.
    pub fn advise_huge(&self, wanted: bool) -> io::Result<()> {
        let advice = if wanted {
            MmapAdvise::MADV_HUGEPAGE
        } else {
            MmapAdvise::MADV_NOHUGEPAGE
        };
        // SAFETY: ours, and this advice changes no contents.
        Ok(unsafe { madvise(self.base.cast(), self.len, advice) }?)
    }

    /// Forbids all access from byte `from`, the start of a page, to the end. Nothing there may be touched afterwards.
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
