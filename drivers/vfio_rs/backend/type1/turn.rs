// SPDX-License-Identifier: GPL-2.0

//! Who waits for whom.
//!
//! A task that fills or empties a range has the claim to it, and the range is busy, in
//! [`Maps`](super::maps::Maps). A task that needs a range for itself, to unmap it or to attach a
//! group, takes a [`Turn`] there and waits until no address in it is busy. While it waits and works
//! nobody else begins anything in the range: new mappings wait too, in the order in which they
//! came.
//!
//! What makes a range busy may wait for user memory, for as long as the user likes. So whoever
//! waits here holds no lock, and can be killed.

use kernel::prelude::*;
use vfio_kernel::lockdep::Held;

use super::{
    maps::Guard,
    Type1, //
};
use crate::{
    backend::Refused,
    iova::{
        turns::Ticket,
        IovaRange, //
    },
};

/// A range that somebody waits for, or has alone, until dropped, which takes `Type1::maps`.
pub(super) struct Turn<'a> {
    space: &'a Type1,
    ticket: Ticket,
    ended: bool,
}

impl Turn<'_> {
    /// Ends it.
    pub(super) fn end(mut self, maps: &mut Guard<'_>) {
        self.leave(maps);
    }

    fn leave(&mut self, maps: &mut Guard<'_>) {
        self.ended = true;
        maps.turns.leave(self.ticket);
        self.space.wake(maps);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.leave(&mut self.space.maps.lock());
        }
    }
}

impl Type1 {
    /// The current thread is about to have busy ranges.
    #[inline]
    pub(in crate::backend) fn hold(&self) -> Held<'_> {
        self.ranges.hold()
    }

    /// The lock, for who may wait then by [`turn`](Self::turn), for which no other may be held.
    pub(super) fn lock_to_wait(&self) -> Guard<'_> {
        self.ranges.may_wait();
        self.maps.lock()
    }

    /// Takes `range` when nobody before wants any of it, and no part of it is busy.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is being killed meanwhile.
    pub(super) fn turn<'a>(
        &'a self,
        maps: Guard<'a>,
        range: IovaRange,
    ) -> Result<(Turn<'a>, Guard<'a>)> {
        let (turn, mut maps) = self.enter(maps, range)?;
        while maps.ranges.is_busy(range) || !maps.turns.is_first(turn.ticket, range) {
            maps = self.wait(maps)?;
        }
        Ok((turn, maps))
    }

    /// Gets into line for `range`.
    fn enter<'a>(&'a self, mut maps: Guard<'a>, range: IovaRange) -> Result<(Turn<'a>, Guard<'a>)> {
        loop {
            if let Some(ticket) = maps.turns.enter(range) {
                let turn = Turn {
                    space: self,
                    ticket,
                    ended: false,
                };
                return Ok((turn, maps));
            }
            maps = self.wait(maps)?;
        }
    }

    /// Has `reserve` make something busy in `range`, which it does not if it is
    /// [contended](super::maps::Maps::is_contended) with the ticket that it gets: then waits and
    /// has it try again.
    ///
    /// # Errors
    ///
    /// Those of `reserve`; `EINTR` if the task is being killed.
    #[inline(always)]
    pub(in crate::backend) fn in_turn<T>(
        &self,
        range: IovaRange,
        mut reserve: impl FnMut(&Held<'_>, Ticket) -> Result<T, Refused>,
    ) -> Result<(Held<'_>, T)> {
        let held = self.hold();
        match reserve(&held, Ticket::NONE) {
            Ok(reserved) => Ok((held, reserved)),
            Err(Refused::Failed(err)) => Err(err),
            Err(Refused::Busy) => {
                drop(held);
                self.wait_to_reserve(range, &mut reserve)
            }
        }
    }

    #[cold]
    fn wait_to_reserve<T>(
        &self,
        range: IovaRange,
        reserve: &mut dyn FnMut(&Held<'_>, Ticket) -> Result<T, Refused>,
    ) -> Result<(Held<'_>, T)> {
        let (turn, mut maps) = self.enter(self.lock_to_wait(), range)?;
        loop {
            while maps.is_contended(turn.ticket, range) {
                maps = self.wait(maps)?;
            }
            drop(maps);
            let held = self.hold();
            match reserve(&held, turn.ticket) {
                Ok(reserved) => return Ok((held, reserved)),
                Err(Refused::Failed(err)) => return Err(err),
                Err(Refused::Busy) => drop(held),
            }
            maps = self.lock_to_wait();
        }
    }

    /// Runs `then` when nothing is busy, nor begins to be, but for what ends soon. If it says that
    /// it met that, waits and runs it again.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is being killed.
    pub(in crate::backend) fn when_idle(&self, then: &mut dyn FnMut() -> bool) -> Result {
        let (_turn, mut maps) = self.turn(self.lock_to_wait(), IovaRange::ALL)?;
        loop {
            drop(maps);
            let held = self.hold();
            let again = then();
            drop(held);
            if !again {
                return Ok(());
            }
            maps = self.lock_to_wait();
            while maps.ranges.is_busy(IovaRange::ALL) {
                maps = self.wait(maps)?;
            }
        }
    }

    /// Waits until something has changed.
    fn wait<'a>(&'a self, mut maps: Guard<'a>) -> Result<Guard<'a>> {
        maps.waiting = maps.waiting.saturating_add(1);
        let woken = self.idle.wait_killable(maps);
        let (mut maps, killed) = match woken {
            Ok(maps) => (maps, Ok(())),
            Err(err) => (self.maps.lock(), Err(err)),
        };
        maps.waiting = maps.waiting.saturating_sub(1);
        killed.map(|()| maps)
    }

    /// Wakes who waits: a range is no longer busy, or a turn ended.
    pub(super) fn wake(&self, maps: &Guard<'_>) {
        if maps.waiting != 0 {
            self.idle.wake_all();
        }
    }
}
