// SPDX-License-Identifier: GPL-2.0

//! Page frames in the order in which a device sees them, as runs of adjacent ones.
//!
//! Pure: knows no kernel type but the vector. A run takes 8 bytes, and the vector has room for no
//! more than twice the runs that are in it: 16 bytes per run at most. The first run has a place of
//! its own, so a mapping that is one run allocates nothing.

use kernel::prelude::*;

/// Adjacent frames: the number of the first one in the upper 40 bits, how many in the lower 24.
/// No machine has more: physical addresses have 52 bits.
#[derive(Clone, Copy)]
struct Run(u64);

impl Run {
    const LEN_BITS: u32 = 24;
    /// Frames that a run can have: 64 GiB less one page.
    const MAX_LEN: usize = (1 << Self::LEN_BITS) - 1;

    fn new(pfn: usize, npages: usize) -> Self {
        Self((pfn as u64) << Self::LEN_BITS | npages as u64)
    }

    fn pfn(self) -> usize {
        (self.0 >> Self::LEN_BITS) as usize
    }

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
    rest: Option<KVVec<Run>>,
    npages: usize,
}

/// Room for runs when the second one comes.
const FIRST_ROOM: usize = 8;
/// Room for runs that is taken at once because so many more are to be expected.
const MOST_ROOM: usize = 1 << 16;

impl Runs {
    /// No frames.
    pub(crate) fn new() -> Self {
        Self {
            first: Run(0),
            rest: None,
            npages: 0,
        }
    }

    /// How many frames these are.
    pub(crate) fn npages(&self) -> usize {
        self.npages
    }

    /// Appends `npages` adjacent frames, less than 2^24, of which `pfn` is the first. `total` is how
    /// many frames there will be in the end: it only helps to guess how much room is needed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; then nothing is appended.
    pub(crate) fn push(&mut self, pfn: usize, npages: usize, total: usize) -> Result {
        let last = self.rest.as_mut().and_then(|rest| rest.last_mut());
        let last = last.unwrap_or(&mut self.first);
        let run = Run::new(pfn, npages);
        let run = if self.npages == 0 {
            Some(run)
        } else {
            last.joined(run)
        };
        match run {
            Some(run) => *last = run,
            None => return self.append(pfn, npages, total),
        }
        self.npages = self.npages.wrapping_add(npages);
        Ok(())
    }

    /// As [`push`](Self::push), for frames known not to follow on the last one.
    #[inline]
    pub(crate) fn append(&mut self, pfn: usize, npages: usize, total: usize) -> Result {
        let run = Run::new(pfn, npages);
        let done = match &mut self.rest {
            Some(rest) => rest.push_within_capacity(run).is_ok(),
            None => false,
        };
        if !done {
            self.grow(total)?.push(run, GFP_KERNEL_ACCOUNT)?;
        }
        self.npages = self.npages.wrapping_add(npages);
        Ok(())
    }

    /// Makes room: for as many runs as there will be if the rest is like what is here.
    #[cold]
    fn grow(&mut self, total: usize) -> Result<&mut KVVec<Run>> {
        let left = total.saturating_sub(self.npages).max(1);
        if self.rest.is_none() {
            let room = KVVec::with_capacity(left.min(FIRST_ROOM), GFP_KERNEL_ACCOUNT)?;
            return Ok(self.rest.insert(room));
        }
        let rest = self.rest.as_mut().ok_or(ENOMEM)?;
        let expected = rest.len().saturating_mul(left);
        let expected = expected.checked_div(self.npages).unwrap_or(0);
        let room = expected.clamp(rest.len(), rest.len().max(MOST_ROOM));
        rest.reserve(room.min(left), GFP_KERNEL_ACCOUNT)?;
        Ok(rest)
    }

    /// Gives back room if there is more than the module's documentation promises.
    pub(crate) fn trim(&mut self) {
        let Some(rest) = &self.rest else { return };
        if rest.capacity() <= FIRST_ROOM || rest.capacity() / 2 <= rest.len() {
            return;
        }
        // Without memory for less, more has to do.
        if let Ok(mut exact) = KVVec::with_capacity(rest.len(), GFP_KERNEL_ACCOUNT) {
            if exact.extend_from_slice(rest, GFP_KERNEL_ACCOUNT).is_ok() {
                self.rest = Some(exact);
            }
        }
    }

    /// How many runs there is room for.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| rest.capacity())
    }

    /// All frames, to be taken in order.
    #[inline]
    pub(crate) fn cursor(&self) -> Cursor<'_> {
        Cursor {
            run: self.first,
            rest: self.rest.as_ref().map_or(&[], |rest| rest.as_slice()),
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
