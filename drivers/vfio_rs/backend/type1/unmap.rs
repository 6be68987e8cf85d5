// SPDX-License-Identifier: GPL-2.0

//! `VFIO_IOMMU_UNMAP_DMA`: takes memory away from devices and unpins it.

use kernel::{
    prelude::*,
    sync::atomic::Relaxed, //
};
use vfio_kernel::{
    argsz::UserArg,
    iommu::{
        Departures,
        MixedMapping,
        RangeSlot, //
    },
    ranges::IovaClaim,
    sched::{
        self,
        Stop, //
    },
};

use super::{
    dirty::UserBitmap,
    maps::{
        Guard,
        MapContent,
        MapEntry,
        Maps, //
    },
    mixed::{
        More,
        NotFilled, //
    },
    turn::Turn,
    Type1,
    Version, //
};
use crate::{iova::IovaRange, uapi::dma::UnmapDma};

impl Type1 {
    /// The ioctl; tells in `size` how many bytes were unmapped.
    ///
    /// # Errors
    ///
    /// In this order, as vfio_dma_do_unmap(): `EFAULT`, `EINVAL` (size of the struct, flags, not
    /// aligned, no bytes), `EOVERFLOW` (wraps), `EINVAL` (v2: cuts a mapping in two). A range
    /// without mappings is no error. With a bitmap of dirty pages also `EFAULT`, and `EINTR` if the
    /// task is being killed; then some mappings may be gone, and the first part of one.
    pub(super) fn unmap_dma(&self, arg: UserArg) -> Result {
        const SERVED: u32 = UnmapDma::BITMAP | UnmapDma::ALL | UnmapDma::VADDR;

        let unmap = UnmapDma::read(arg, SERVED)?;
        let (iova, size, all) = (unmap.iova(), unmap.size(), unmap.all);
        let bytes = match (unmap.vaddr, unmap.bitmap) {
            (true, _) => self.invalidate_vaddr(iova, size, all)?,
            (false, None) => self.unmap(iova, size, all, None)?,
            (false, Some(bitmap)) => {
                let bitmap = UserBitmap::new(bitmap, size)?;
                self.unmap(iova, size, all, Some(bitmap))?
            }
        };
        unmap.answer(arg, bytes)
    }

    /// Drops all mappings but those that others are at work on; nobody attaches groups any more.
    pub(in crate::backend) fn unmap_all(&self) {
        let _ = self.drop_mapped(None, self.maps.lock(), IovaRange::ALL, None, Stop::Never);
    }

    /// Drops what is mapped in `range`, which cuts nothing in two; returns the bytes.
    ///
    /// # Errors
    ///
    /// As for the ioctl.
    pub(in crate::backend) fn unmap_range(&self, range: IovaRange) -> Result<u64> {
        self.unmap(range.start(), range.size().ok_or(EINVAL)?, false, None)
    }

    /// Drops what is mapped in `range` as a whole, but for what others are at work on: waits for
    /// nobody.
    pub(in crate::backend) fn drop_range(&self, range: IovaRange) {
        let _ = self.drop_mapped(None, self.maps.lock(), range, None, Stop::Never);
    }

    fn unmap(&self, iova: u64, size: u64, all: bool, bitmap: Option<UserBitmap>) -> Result<u64> {
        if bitmap.is_none() && !all {
            // A mapping is aligned, so the errors below cannot be.
            let exactly = IovaRange::from_size(iova, size);
            if exactly.is_ok_and(|range| self.drop_exact(range)) {
                return Ok(size);
            }
        }
        let (turn, maps, range) = self.claim(iova, size, all)?;
        if bitmap.is_some_and(|bitmap| !maps.dirty || !bitmap.fits(&maps)) {
            return Err(EINVAL);
        }
        self.drop_mapped(Some(turn), maps, range, bitmap, Stop::WhenKilled)
    }

    /// Checks a range that the user wants something done with all of, and takes it for that.
    ///
    /// # Errors
    ///
    /// `EINVAL` (not aligned, no bytes), `EOVERFLOW` (wraps), `EINVAL` (v2: cuts a mapping in two);
    /// `EINTR` if the task is being killed.
    pub(super) fn claim(
        &self,
        iova: u64,
        size: u64,
        all: bool,
    ) -> Result<(Turn<'_>, Guard<'_>, IovaRange)> {
        let maps = self.lock_to_wait();
        if !maps.aligned(iova) {
            return Err(EINVAL);
        }
        let range = if all {
            if iova != 0 || size != 0 {
                return Err(EINVAL);
            }
            IovaRange::ALL
        } else {
            if size == 0 || !maps.aligned(size) {
                return Err(EINVAL);
            }
            IovaRange::from_size(iova, size).map_err(|_| EOVERFLOW)?
        };
        let (turn, maps) = self.turn(maps, range)?;
        if self.version == Version::V2 && maps.ranges.cuts(range) {
            return Err(EINVAL);
        }
        Ok((turn, maps, range))
    }

    /// Drops the mappings in `range`, without the lock; returns their bytes.
    ///
    /// # Errors
    ///
    /// `EFAULT` if a mapping's bits do not fit into `bitmap`; it and those behind it stay. `EINTR`
    /// if the task is being killed and `stop` says that this matters: what was not reached stays,
    /// as does what is left of a mapping of several GiB, or of much memory between BARs.
    fn drop_mapped<'a>(
        &'a self,
        mut turn: Option<Turn<'a>>,
        mut maps: Guard<'a>,
        range: IovaRange,
        bitmap: Option<UserBitmap>,
        stop: Stop,
    ) -> Result<u64> {
        let mut unmapped = 0u64;
        let mut left = range;
        let mut departures = Departures::none();
        // Ends the turn with the lock held, as that is held anyway.
        let mut done = |mut maps: Guard<'a>, unmapped| {
            if let Some(turn) = turn.take() {
                turn.end(&mut maps);
            }
            Ok(unmapped)
        };
        loop {
            let gone = match bitmap {
                None => self.choose(&mut maps, range, left, &mut departures),
                Some(_) => None,
            };
            let found = match gone {
                Some(span) => span,
                None => match maps.ranges.first_overlap(left) {
                    Some(found) => found,
                    None => return done(maps, unmapped),
                },
            };
            let next = left.above(&found);
            if gone.is_none() && !self.version.takes(range, found) {
                // v1: so does all behind it. v2: it was made meanwhile, and is not this call's
                // business.
                left = match (self.version, next) {
                    (Version::V2, Some(next)) => next,
                    _ => return done(maps, unmapped),
                };
                continue;
            }
            if gone.is_some() {
                let count = departures.count() as u32;
                drop(maps);
                let _held = self.hold();
                unmapped = unmapped.wrapping_add(departures.size() as u64);
                let gone = departures.leave();
                maps = self.maps.lock();
                maps.avail = maps.avail.saturating_add(count);
                if let Some(gone) = gone {
                    maps.ranges.left(gone);
                }
                self.wake(&maps);
            } else {
                let dropped = self.drop_one(maps, found, range.start(), bitmap, stop)?;
                unmapped = unmapped.wrapping_add(dropped);
                maps = self.maps.lock();
            }
            left = match next {
                Some(next) => next,
                None => return done(maps, unmapped),
            };
            drop(maps);
            sched::cond_resched();
            stop.check()?;
            maps = self.maps.lock();
        }
    }

    /// Takes mappings out that can leave together, the first ones in what is `left` of `range`, and
    /// notes that they are about to: it returns from the first of them to the last one.
    #[inline]
    fn choose(
        &self,
        maps: &mut Maps,
        range: IovaRange,
        left: IovaRange,
        departures: &mut Departures,
    ) -> Option<IovaRange> {
        let mut no_vaddr = 0usize;
        let (all, spare) = maps.ranges.leave_together(left, departures, |found, io| {
            let leaves = self.version.takes(range, found);
            no_vaddr = no_vaddr.wrapping_add(usize::from(leaves && io.mark()));
            leaves
        })?;
        maps.vaddr_invalid = maps.vaddr_invalid.saturating_sub(no_vaddr);
        self.keep_spare(maps, spare);
        Some(all)
    }

    /// Keeps memory of a range for the next one, if there is none yet.
    #[inline]
    fn keep_spare(&self, maps: &mut Maps, spare: Option<RangeSlot<More>>) {
        if maps.spare.is_none() {
            maps.spare = spare;
            self.has_spare.store(true, Relaxed);
        }
    }

    /// Drops the mapping that is exactly `range`, as most users ask for: no other can be in the
    /// range, and none is cut. Returns `false` if it must be done in some other way.
    #[inline]
    fn drop_exact(&self, range: IovaRange) -> bool {
        let mut maps = self.maps.lock();
        let leaving = maps.ranges.leave_exact(range, |entry| match entry {
            MapEntry::Pages(io) => !io.mark() && io.is_short(),
            MapEntry::Other(_) => {
                !entry.mark() && entry.as_mixed().is_some_and(MixedMapping::is_short)
            }
        });
        let Some((leaving, spare)) = leaving else {
            return false;
        };
        self.keep_spare(&mut maps, spare);
        drop(maps);
        let _held = self.hold();
        let gone = leaving.leave();
        let mut maps = self.maps.lock();
        maps.avail = maps.avail.saturating_add(1);
        maps.ranges.left(gone);
        self.wake(&maps);
        true
    }

    /// Drops one mapping, without the lock; returns its bytes. One that somebody is just making
    /// stays.
    ///
    /// # Errors
    ///
    /// As [`drop_mapped`](Self::drop_mapped).
    fn drop_one(
        &self,
        mut maps: Guard<'_>,
        range: IovaRange,
        base: u64,
        bitmap: Option<UserBitmap>,
        stop: Stop,
    ) -> Result<u64> {
        let Some(content) = maps.ranges.take(range) else {
            return Ok(0);
        };
        drop(maps);
        let _held = self.hold();
        let no_vaddr = content.mark();
        let told = bitmap.map_or(Ok(()), |bitmap| bitmap.set(base, range));
        let emptied = match told {
            Ok(()) => empty(content, stop),
            Err(err) => Err((err, content)),
        };
        let mut maps = self.maps.lock();
        let result = match emptied {
            Ok(claim) => {
                maps.ranges.end(claim);
                maps.avail = maps.avail.saturating_add(1);
                maps.vaddr_invalid = maps.vaddr_invalid.saturating_sub(no_vaddr.into());
                Ok(range.size().unwrap_or(0))
            }
            Err((err, content)) => {
                maps.ranges.put(content);
                Err(err)
            }
        };
        self.wake(&maps);
        result
    }
}

/// Takes away what is in a range; returns the claim to it.
///
/// # Errors
///
/// `EINTR` if that was stopped, with what is left.
fn empty(mut content: MapContent, stop: Stop) -> Result<IovaClaim, (Error, MapContent)> {
    while content.shorten() {
        sched::cond_resched();
        if let Err(err) = stop.check() {
            return Err((err, content));
        }
    }
    Ok(content.end())
}

/// Takes away what a range was filled with, because of `err`. The range keeps what is left if the
/// task is being killed meanwhile.
pub(in crate::backend) fn give_up(
    content: MapContent,
    err: Error,
) -> Result<MapContent, NotFilled> {
    match empty(content, Stop::WhenKilled) {
        Ok(claim) => Err(NotFilled::Empty((err, claim))),
        Err((_, content)) => Ok(content),
    }
}
