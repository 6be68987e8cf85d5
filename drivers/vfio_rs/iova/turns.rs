// SPDX-License-Identifier: GPL-2.0

//! Whose turn it is: who waits for ranges of addresses, or works in one, in the order of their
//! coming.
//!
//! Nobody overtakes those that came before and want one of the same addresses, so nobody waits for
//! ever. Takes no lock.

use super::IovaRange;

/// How many can wait or work at a time; whoever comes next is told so.
const PLACES: usize = 32;

/// A number that is larger the later it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

impl Ticket {
    /// Before all others, for who waits for nobody.
    pub(crate) const FIRST: Self = Self(0);
    /// That of who has not come yet.
    pub(crate) const NONE: Self = Self(u64::MAX);
}

/// See the module's documentation.
pub(crate) struct Turns {
    places: [Option<(Ticket, IovaRange)>; PLACES],
    count: usize,
    next: u64,
}

impl Turns {
    /// Nobody is here.
    pub(crate) const fn new() -> Self {
        Self {
            places: [None; PLACES],
            count: 0,
            next: 1,
        }
    }

    /// Comes, for `range`. `None` if there is no place.
    pub(crate) fn enter(&mut self, range: IovaRange) -> Option<Ticket> {
        let place = self.places.iter_mut().find(|place| place.is_none())?;
        let ticket = Ticket(self.next);
        *place = Some((ticket, range));
        self.count = self.count.saturating_add(1);
        // Not in a thousand years.
        self.next = self.next.saturating_add(1);
        Some(ticket)
    }

    /// Goes.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        for place in &mut self.places {
            if place.is_some_and(|(of, _)| of == ticket) {
                *place = None;
                self.count = self.count.saturating_sub(1);
            }
        }
    }

    /// Whether nobody who came before wants an address in `range`.
    #[inline]
    pub(crate) fn is_first(&self, ticket: Ticket, range: IovaRange) -> bool {
        self.count == 0
            || self
                .places
                .iter()
                .flatten()
                .all(|(of, wanted)| *of >= ticket || !wanted.overlaps(&range))
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_iova_turns))]
mod tests {
    use super::*;

    fn range(start: u64, last: u64) -> IovaRange {
        IovaRange::from_last(start, last).unwrap_or(IovaRange::ALL)
    }

    /// Comes, which must work.
    fn enter(turns: &mut Turns, wanted: IovaRange) -> Ticket {
        let ticket = turns.enter(wanted);
        assert!(ticket.is_some());
        ticket.unwrap_or(Ticket::NONE)
    }

    #[test]
    fn in_order_where_they_overlap() {
        let mut turns = Turns::new();
        assert!(turns.is_first(Ticket::NONE, IovaRange::ALL));
        let low = enter(&mut turns, range(0, 9));
        let high = enter(&mut turns, range(20, 29));
        let all = enter(&mut turns, IovaRange::ALL);
        let late = enter(&mut turns, range(9, 20));
        assert!(turns.is_first(low, range(0, 9)));
        assert!(turns.is_first(Ticket::FIRST, IovaRange::ALL));
        assert!(turns.is_first(high, range(20, 29)));
        assert!(!turns.is_first(all, IovaRange::ALL));
        assert!(!turns.is_first(late, range(9, 20)));
        turns.leave(low);
        assert!(!turns.is_first(all, IovaRange::ALL));
        turns.leave(high);
        assert!(turns.is_first(all, IovaRange::ALL));
        assert!(!turns.is_first(late, range(9, 20)));
        turns.leave(all);
        assert!(turns.is_first(late, range(9, 20)));
        assert!(!turns.is_first(Ticket::NONE, range(0, 9)));
        assert!(turns.is_first(Ticket::NONE, range(0, 8)));
        turns.leave(late);
        assert!(turns.is_first(Ticket::NONE, IovaRange::ALL));
    }

    #[test]
    fn places_come_back_and_order_stays() {
        let mut turns = Turns::new();
        let first = enter(&mut turns, range(0, 0));
        let mut second = enter(&mut turns, range(0, 0));
        for _ in 2..PLACES {
            assert!(turns.enter(range(5, 5)).is_some());
        }
        assert_eq!(turns.enter(range(7, 7)), None);
        turns.leave(first);
        // Takes the first place, and is the last all the same.
        let last = enter(&mut turns, range(0, 0));
        assert!(turns.is_first(second, range(0, 0)));
        assert!(!turns.is_first(last, range(0, 0)));
        turns.leave(second);
        // Again: nothing is left of it.
        turns.leave(second);
        second = enter(&mut turns, range(0, 0));
        assert!(turns.is_first(last, range(0, 0)));
        assert!(!turns.is_first(second, range(0, 0)));
    }
}
