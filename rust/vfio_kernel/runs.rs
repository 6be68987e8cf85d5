// SPDX-License-Identifier: GPL-2.0

//! Page frames in the order in which a device sees them, as runs of adjacent ones.
//!
//! Pure: knows no kernel type but box and vector. A run takes 8 bytes, and the vector has room for
//! no more than twice the runs that are in it: 16 bytes per run at most. The first run has a place
//! of its own, so a mapping that is one run allocates nothing, and all of it takes 16 bytes.

use kernel::prelude::*;

use crate::user_sized;

/// Adjacent frames: the number of the first one in the upper 40 bits, how many in the lower 24.
/// No machine has more: physical addresses have 52 bits.
#[derive(Clone, Copy)]
struct Run(u64);

impl Run {
    const LEN_BITS: u32 = 24;
    /// Frames that a run can have: 64 GiB less one page.
    const MAX_LEN: usize = (1 << Self::LEN_BITS) - 1;

    #[inline]
    fn new(pfn: usize, npages: usize) -> Self {
        Self((pfn as u64) << Self::LEN_BITS | npages as u64)
    }

    #[inline]
    fn pfn(self) -> usize {
        (self.0 >> Self::LEN_BITS) as usize
    }

    #[inline]
    fn npages(self) -> usize {
        self.0 as usize & Self::MAX_LEN
    }

    /// The run that has the frames of `next` behind its own, if there can be one.
    fn joined(self, next: Self) -> Option<Self> {
        let npages = self.npages().wrapping_add(next.npages());
        let adjacent = self.pfn().wrapping_add(self.npages()) == next.pfn();
        (adjacent && npages <= Self::MAX_LEN).then(|| Self::new(self.pfn(), npages))
    }
}

/// See the module's documentation.
pub(crate) struct Runs {
    first: Run,
    rest: Option<KBox<Rest>>,
}

/// What there is besides the first run.
struct Rest {
    runs: KVVec<Run>,
    /// How many of `runs` were taken out.
    taken: usize,
    /// How many frames there are in all, those of the first run among them.
    npages: usize,
}

/// Room for runs when the second one comes.
const FIRST_ROOM: usize = 8;
/// Room for runs that is taken at once because so many more are to be expected.
const MOST_ROOM: usize = 1 << 16;
/// With so many runs behind the first, room does not double any more: `kvmalloc()` gives less than
/// 2 GiB. As single pages they are 512 GiB.
#[cfg(not(test))]
const MOST: usize = 1 << 27;
#[cfg(test)]
pub(crate) const MOST: usize = 1 << 17;

impl Runs {
    /// No frames.
    pub(crate) const fn new() -> Self {
        Self {
            first: Run(0),
            rest: None,
        }
    }

    /// One frame.
    #[inline]
    pub(crate) fn one(pfn: usize) -> Self {
        Self {
            first: Run::new(pfn, 1),
            rest: None,
        }
    }

    /// How many frames these are.
    #[inline]
    pub(crate) fn npages(&self) -> usize {
        match &self.rest {
            None => self.first.npages(),
            Some(rest) => rest.npages,
        }
    }

    /// Appends `npages` adjacent frames, less than 2^24, of which `pfn` is the first. `total` is
    /// how many frames there will be in the end: it only helps to guess how much room is needed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also if there are too many runs; then nothing is appended.
    #[inline]
    pub(crate) fn push(&mut self, pfn: usize, npages: usize, total: usize) -> Result {
        let run = Run::new(pfn, npages);
        let (last, all) = match self.rest.as_deref_mut() {
            None if self.first.npages() == 0 => {
                self.first = run;
                return Ok(());
            }
            None => (&mut self.first, None),
            Some(Rest { runs, npages, .. }) => {
                (runs.last_mut().unwrap_or(&mut self.first), Some(npages))
            }
        };
        let Some(joined) = last.joined(run) else {
            return self.append(pfn, npages, total);
        };
        *last = joined;
        if let Some(all) = all {
            *all = all.wrapping_add(npages);
        }
        Ok(())
    }

    /// As [`push`](Self::push), for frames known not to follow on the last one, of which there is
    /// one.
    #[inline]
    pub(crate) fn append(&mut self, pfn: usize, npages: usize, total: usize) -> Result {
        let run = Run::new(pfn, npages);
        if let Some(rest) = &mut self.rest {
            if rest.runs.push_within_capacity(run).is_ok() {
                rest.npages = rest.npages.wrapping_add(npages);
                return Ok(());
            }
        }
        let rest = self.grow(total)?;
        rest.runs.push(run, user_sized::gfp())?;
        rest.npages = rest.npages.wrapping_add(npages);
        Ok(())
    }

    /// Makes room: for as many runs as there will be if the rest is like what is here.
    #[cold]
    fn grow(&mut self, total: usize) -> Result<&mut Rest> {
        let npages = self.npages();
        let left = total.saturating_sub(npages).max(1);
        if self.rest.is_none() {
            let rest = Rest {
                runs: KVVec::with_capacity(left.min(FIRST_ROOM), user_sized::gfp())?,
                taken: 0,
                npages,
            };
            return Ok(self.rest.insert(KBox::new(rest, user_sized::gfp())?));
        }
        let rest = self.rest.as_mut().ok_or(ENOMEM)?;
        let runs = &mut rest.runs;
        if runs.len() >= MOST {
            return Err(ENOMEM);
        }
        let expected = runs.len().saturating_mul(left);
        let expected = expected.checked_div(npages).unwrap_or(0);
        let room = expected.clamp(runs.len(), runs.len().max(MOST_ROOM));
        runs.reserve(room.min(left), user_sized::gfp())?;
        Ok(rest)
    }

    /// Gives back room if there is more than the module's documentation promises.
    pub(crate) fn trim(&mut self) {
        let Some(rest) = &mut self.rest else { return };
        let runs = &mut rest.runs;
        if runs.capacity() <= FIRST_ROOM || runs.capacity() / 2 <= runs.len() {
            return;
        }
        // Without memory for less, more has to do.
        if let Ok(mut exact) = KVVec::with_capacity(runs.len(), user_sized::gfp()) {
            if exact.extend_from_slice(runs, user_sized::gfp()).is_ok() {
                *runs = exact;
            }
        }
    }

    /// How many runs there is room for.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| rest.runs.capacity())
    }

    /// All frames, to be taken in order.
    #[inline]
    pub(crate) fn cursor(&self) -> Cursor<'_> {
        let rest = self.rest.as_ref();
        Cursor {
            run: self.first,
            rest: rest
                .and_then(|rest| rest.runs.get(rest.taken..))
                .unwrap_or(&[]),
        }
    }

    /// The first `npages` frames, or all if there are fewer, as runs of their own.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn front(&self, npages: usize) -> Result<Self> {
        let mut front = Self::new();
        let mut cursor = self.cursor();
        let mut left = npages;
        while let Some((pfn, count)) = cursor.take(left) {
            front.push(pfn, count, npages)?;
            left = left.wrapping_sub(count);
        }
        Ok(front)
    }

    /// Takes all frames out if they are `npages` adjacent ones, and returns the first.
    #[inline]
    pub(crate) fn take_only(&mut self, npages: usize) -> Option<usize> {
        if npages == 0 || self.rest.is_some() || self.first.npages() != npages {
            return None;
        }
        let pfn = self.first.pfn();
        self.first = Run(0);
        Some(pfn)
    }

    /// Takes the first `npages` frames out. `f` gets them run by run, as [`Cursor::take`] returns
    /// them. Nothing may be appended afterwards.
    #[inline]
    pub(crate) fn take_each(&mut self, npages: usize, mut f: impl FnMut(usize, usize)) {
        let mut cursor = self.cursor();
        let mut left = npages;
        while let Some((pfn, npages)) = cursor.take(left) {
            f(pfn, npages);
            left = left.wrapping_sub(npages);
        }
        let (next, behind) = (cursor.run, cursor.rest.len());
        self.first = next;
        if let Some(rest) = &mut self.rest {
            rest.taken = rest.runs.len().wrapping_sub(behind);
            rest.npages = rest.npages.wrapping_sub(npages.wrapping_sub(left));
        }
    }
}

/// Frames that are still to be taken.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    run: Run,
    rest: &'a [Run],
}

impl Cursor<'_> {
    /// Takes the next `npages` frames if they are adjacent, and tells the first.
    #[inline]
    pub(crate) fn take_adjacent(&mut self, npages: usize) -> Option<usize> {
        if self.run.npages() < npages {
            return None;
        }
        self.take(npages).map(|(pfn, _)| pfn)
    }

    /// Leaves the next `npages` frames out.
    pub(crate) fn skip(&mut self, npages: usize) {
        let mut left = npages;
        while let Some((_, count)) = self.take(left) {
            left = left.wrapping_sub(count);
        }
    }

    /// Compares with `other`, frame by frame: whether the first ones are the same, and of how many
    /// pairs that is true, of `most` at most and as many as there are.
    pub(crate) fn compare(mut self, mut other: Self, most: usize) -> (bool, usize) {
        let mut same = false;
        let mut done = 0usize;
        loop {
            let count = self.run.npages().min(other.run.npages());
            let count = count.min(most.wrapping_sub(done));
            let (Some((mine, _)), Some((theirs, _))) = (self.take(count), other.take(count)) else {
                break;
            };
            // Adjacent frames either all are the same ones or none is.
            if done == 0 {
                same = mine == theirs;
            } else if same != (mine == theirs) {
                break;
            }
            done = done.wrapping_add(count);
        }
        (same, done)
    }

    /// Takes the next run, or as much of it as `most` frames: its first frame and their number.
    /// `None` after the last one.
    #[inline]
    pub(crate) fn take(&mut self, most: usize) -> Option<(usize, usize)> {
        let (pfn, npages) = (self.run.pfn(), self.run.npages());
        if npages > most {
            self.run = Run::new(pfn.wrapping_add(most), npages.wrapping_sub(most));
            return (most != 0).then_some((pfn, most));
        }
        match self.rest.split_first() {
            Some((next, rest)) => (self.run, self.rest) = (*next, rest),
            None => self.run = Run(0),
        }
        (npages != 0).then_some((pfn, npages))
    }
}
