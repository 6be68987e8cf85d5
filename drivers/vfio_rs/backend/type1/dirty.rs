// SPDX-License-Identifier: GPL-2.0

//! `VFIO_IOMMU_DIRTY_PAGES`: which pages devices may have written to.
//!
//! Every mapped page counts as dirty, each time anew: all of it is pinned for devices that nobody
//! watches. (C would say less only for groups that pin page by page, which are mediated devices.)
//! So there is nothing to collect, and a bitmap is written straight to the user: of each mapping in
//! the range the words that have a bit of it, and no others. No lock is held meanwhile. Of small
//! mappings the words are put together first, so that each is written once.

use kernel::prelude::*;
use vfio_kernel::{
    argsz::UserArg,
    sched,
    uapi, //
};

use super::{
    maps::Maps,
    Type1,
    Version, //
};
use crate::iova::{
    bits::{
        BitChunk,
        BitRun, //
    },
    IovaRange, //
};

/// How many pages one bitmap can tell of, `DIRTY_BITMAP_PAGES_MAX` of C: the largest `int`.
const PAGES_MAX: u64 = i32::MAX as u64;
/// Bytes of the largest bitmap.
pub(super) const BITMAP_MAX: u64 = bitmap_bytes(PAGES_MAX);

/// Bytes of a bitmap of whole words for `pages` pages.
const fn bitmap_bytes(pages: u64) -> u64 {
    // No more than 2^61.
    pages.div_ceil(64).wrapping_mul(8)
}

/// A user's bitmap, `struct vfio_bitmap`.
#[derive(Clone, Copy)]
pub(super) struct UserBitmap {
    /// Bytes that a bit stands for, as the user has it.
    pgsize: u64,
    data: UserArg,
}

impl UserBitmap {
    /// Bytes of the struct.
    pub(super) const SIZE: usize = 24;

    /// Takes `pgsize`, `size` and `data` for a range of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the memory cannot be the user's, or is too small or too large for the range.
    pub(super) fn new([pgsize, size, data]: [u64; 3], bytes: u64) -> Result<Self> {
        let data = UserArg::new(data.try_into()?);
        if !data.access_ok(size.try_into()?) {
            return Err(EINVAL);
        }
        // Any page size but the smallest is refused later, and so is none.
        let pages = bytes.checked_shr(pgsize.trailing_zeros()).ok_or(EINVAL)?;
        if pages == 0 || size == 0 || size > BITMAP_MAX || size < bitmap_bytes(pages) {
            return Err(EINVAL);
        }
        Ok(Self { pgsize, data })
    }

    /// Whether the bitmap has a bit for each page of the smallest size.
    pub(super) fn fits(&self, maps: &Maps) -> bool {
        self.pgsize == maps.granule()
    }

    /// Which bits are those of `mapping`, in a bitmap whose first bit is for `base`.
    #[inline]
    fn run(&self, base: u64, mapping: IovaRange) -> BitRun {
        let shift = self.pgsize.trailing_zeros();
        let bit = |address: u64| address.wrapping_sub(base).wrapping_shr(shift);
        let first = bit(mapping.start());
        BitRun::new(
            first,
            bit(mapping.last()).wrapping_sub(first).wrapping_add(1),
        )
    }

    /// Where a word of it is.
    fn word(&self, number: u64) -> UserArg {
        self.data.at(number.wrapping_mul(8) as usize)
    }

    /// Sets the bits of `mapping`, in a bitmap whose first bit is for `base`. Holds no lock.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the user's memory is not there.
    pub(super) fn set(&self, base: u64, mapping: IovaRange) -> Result {
        let run = self.run(base, mapping);
        let (first, count) = (run.first_word(), run.words());
        // A word that begins before the mapping is added to, as it may have bits of others.
        let kept = match run.begins_a_word() {
            true => 0,
            false => self.word(first).read_min::<u64>(8)?,
        };
        self.word(first).write_prefix(&(run.word(0) | kept), 8)?;
        // All but the last word are whole.
        let mut done = 1u64;
        while let Some(left) = count.checked_sub(done).filter(|left| *left > 1) {
            let words = left.wrapping_sub(1).min(ONES.len() as u64);
            let at = self.word(first.wrapping_add(done));
            at.write_prefix(&ONES, words.wrapping_mul(8) as usize)?;
            done = done.wrapping_add(words);
            sched::cond_resched();
        }
        if done < count {
            let at = self.word(first.wrapping_add(done));
            at.write_prefix(&run.word(done), 8)?;
        }
        Ok(())
    }

    /// Sets the bits of a chunk, which is empty then. Holds no lock.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    fn set_chunk(&self, chunk: &mut BitChunk) -> Result {
        chunk.take(|first, words| {
            let len = words.len().wrapping_mul(8);
            // As in `set`: a word is new if its first bit is a mapping's.
            if words.iter().any(|word| word & 1 == 0) {
                let kept = self.word(first).read_min::<[u64; BitChunk::WORDS]>(len)?;
                for (word, kept) in words.iter_mut().zip(kept) {
                    if *word & 1 == 0 {
                        *word |= kept;
                    }
                }
            }
            let mut whole = [0; BitChunk::WORDS];
            for (to, from) in whole.iter_mut().zip(words) {
                *to = *from;
            }
            self.word(first).write_prefix(&whole, len)
        })
    }
}

/// What most of a large mapping's bits are.
static ONES: [u64; 512] = [u64::MAX; 512];

/// How many mappings are looked at while the lock is held once.
const AT_ONCE: u32 = 512;

impl Type1 {
    /// The ioctl.
    ///
    /// # Errors
    ///
    /// In this order, as vfio_iommu_type1_dirty_pages(): `EACCES` (type1v1), `EFAULT`, `EINVAL`
    /// (size of the struct, flags, not exactly one of them); to start, `EINVAL` (a mapping has too
    /// many pages); to get, see [`dirty_bitmap`](Self::dirty_bitmap).
    pub(super) fn dirty_pages(&self, arg: UserArg) -> Result {
        const MIN: usize = 8;

        if self.version == Version::V1 {
            return Err(EACCES);
        }
        let [argsz, flags] = arg.read_min::<[u32; 2]>(MIN)?;
        if (argsz as usize) < MIN {
            return Err(EINVAL);
        }
        match flags {
            uapi::VFIO_IOMMU_DIRTY_PAGES_FLAG_START => {
                let mut maps = self.maps.lock();
                if !maps.dirty && maps.ranges.iter().any(|(range, _)| too_large(&maps, range)) {
                    return Err(EINVAL);
                }
                maps.dirty = true;
                Ok(())
            }
            uapi::VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP => {
                self.maps.lock().dirty = false;
                Ok(())
            }
            uapi::VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP => {
                self.dirty_bitmap(arg.at(MIN), (argsz as usize).saturating_sub(MIN))
            }
            _ => Err(EINVAL),
        }
    }

    /// Tells which pages of a range are dirty; `arg` is what follows the header, of `len` bytes.
    ///
    /// # Errors
    ///
    /// In this order: `EINVAL` (`len`), `EFAULT`, `EINVAL` (no bytes), `EOVERFLOW` (wraps),
    /// `EINVAL` (bitmap; not aligned, or for other pages than the smallest; not tracking; cuts a
    /// mapping), `EFAULT`; `EINTR` if the task is being killed.
    fn dirty_bitmap(&self, arg: UserArg, len: usize) -> Result {
        const GET: usize = 16usize.wrapping_add(UserBitmap::SIZE);

        if len < GET {
            return Err(EINVAL);
        }
        let [iova, size, bitmap @ ..] = arg.read_min::<[u64; 5]>(GET)?;
        if size == 0 {
            return Err(EINVAL);
        }
        let range = IovaRange::from_size(iova, size).map_err(|_| EOVERFLOW)?;
        let bitmap = UserBitmap::new(bitmap, size)?;

        let maps = self.lock_to_wait();
        if !bitmap.fits(&maps) || !range.is_aligned(maps.granule()) || !maps.dirty {
            return Err(EINVAL);
        }
        let (turn, mut maps) = self.turn(maps, range)?;
        turn.end(&mut maps);
        if maps.ranges.cuts(range) {
            return Err(EINVAL);
        }
        let mut chunk = BitChunk::new();
        let mut next = Some(range);
        while let Some(left) = next {
            let large = collect(&mut maps, range, &bitmap, left, &mut next, &mut chunk);
            drop(maps);
            bitmap.set_chunk(&mut chunk)?;
            if let Some(large) = large {
                bitmap.set(range.start(), large)?;
            }
            sched::pause()?;
            maps = self.maps.lock();
        }
        Ok(())
    }
}

/// Adds the bits of mappings in `left` of `range` to `chunk`, from the first one on, as far as
/// there is room. Says in `next` what is to be looked at then, and returns a mapping that is too
/// large for any chunk and comes after these.
fn collect(
    maps: &mut Maps,
    range: IovaRange,
    bitmap: &UserBitmap,
    left: IovaRange,
    next: &mut Option<IovaRange>,
    chunk: &mut BitChunk,
) -> Option<IovaRange> {
    let mut large = None;
    let mut count = 0u32;
    *next = None;
    maps.ranges.each_in(left, |found| {
        count = count.wrapping_add(1);
        if count > AT_ONCE {
            *next = IovaRange::from_last(found.start(), range.last());
            return false;
        }
        // One that is cut was made meanwhile.
        if !range.contains(&found) {
            return true;
        }
        let run = bitmap.run(range.start(), found);
        if chunk.add(&run) {
            return true;
        }
        *next = match run.words() > BitChunk::WORDS as u64 {
            true => {
                large = Some(found);
                range.above(&found)
            }
            false => IovaRange::from_last(found.start(), range.last()),
        };
        false
    });
    large
}

/// Whether a range has more pages than can be told of.
fn too_large(maps: &Maps, range: IovaRange) -> bool {
    range
        .size()
        .is_none_or(|size| size >> maps.granule().trailing_zeros() > PAGES_MAX)
}
