// SPDX-License-Identifier: GPL-2.0

//! Claims to ranges against an array of 64 addresses: nobody gets an address that somebody else
//! has, and each comes back.

// A panic is how a test fails.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use crate::{
    iova_props::{
        base,
        ends,
        range, //
    },
    ranges::{
        IovaClaim,
        IovaRange,
        Leaving,
        Left,
        RangeMap,
        Slot,
        SpaceId,
        Starts,
        Value, //
    },
    settings,
};
use proptest::prelude::{
    prop,
    prop_assert,
    prop_assert_eq,
    proptest, //
};
use std::{
    cell::RefCell,
    rc::Rc, //
};

const SPACE: SpaceId = SpaceId(7);

/// Which addresses somebody has.
type Had = Rc<RefCell<[bool; 64]>>;

/// What fills a range, and has its addresses until it is dropped.
#[derive(Debug)]
enum Mapped {
    Busy(u64),
    Pages {
        range: IovaRange,
        base: u64,
        had: Had,
    },
}

impl Mapped {
    fn new(claim: &IovaClaim, base: u64, had: &Had) -> Self {
        let had = had.clone();
        mark(&had, base, claim.range(), true);
        Self::Pages {
            range: claim.range(),
            base,
            had,
        }
    }

    /// Unmaps the first address of several.
    fn shorten(&mut self) -> bool {
        let Self::Pages { range, base, had } = self else {
            return false;
        };
        let first = IovaRange::from_last(range.start(), range.start()).unwrap();
        let Some(rest) = range.above(&first) else {
            return false;
        };
        mark(had, *base, first, false);
        *range = rest;
        true
    }

    /// Gives the claim back.
    fn end(self) -> IovaClaim {
        let (space, range) = self.claim().unwrap();
        drop(self);
        IovaClaim::again(space, range)
    }
}

/// Says who has addresses: nobody had those that somebody gets, and the other way about.
fn mark(had: &Had, base: u64, range: IovaRange, get: bool) {
    let mut had = had.borrow_mut();
    for address in range.start() - base..=range.last() - base {
        assert_eq!(had[address as usize], !get, "address {address}");
        had[address as usize] = get;
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if let Self::Pages { range, base, had } = self {
            mark(had, *base, *range, false);
        }
    }
}

impl Starts for Mapped {
    fn start(&self) -> u64 {
        match self {
            Self::Busy(start) => *start,
            Self::Pages { range, .. } => range.start(),
        }
    }
}

impl Value for Mapped {
    fn busy(start: u64) -> Self {
        Self::Busy(start)
    }

    fn is_busy(&self) -> bool {
        matches!(self, Self::Busy(_))
    }

    fn claim(&self) -> Option<(SpaceId, IovaRange)> {
        match self {
            Self::Busy(_) => None,
            Self::Pages { range, .. } => Some((SPACE, *range)),
        }
    }
}

/// What is outside of the map, each with the range that is not free because of it.
enum Out {
    Claim(IovaRange, IovaClaim),
    Taken(IovaRange, Mapped),
    One(IovaRange, Leaving<Mapped>),
    Several(IovaRange, Vec<Mapped>),
}

impl Out {
    fn range(&self) -> IovaRange {
        match self {
            Self::Claim(range, _)
            | Self::Taken(range, _)
            | Self::One(range, _)
            | Self::Several(range, _) => *range,
        }
    }

    fn leaves(&self) -> bool {
        matches!(self, Self::One(..) | Self::Several(..))
    }
}

/// How many ranges can leave and be told apart.
const KNOWN: usize = 8;

proptest! {
    #![proptest_config(settings(1000))]

    #[test]
    fn nobody_has_an_address_twice(
        base in base(),
        steps in prop::collection::vec((ends(), 0..8u8, 0..64usize), 1..120),
    ) {
        let had = Had::new(RefCell::new([false; 64]));
        let mut map = RangeMap::<Mapped>::new(SPACE);
        let mut out: Vec<Out> = Vec::new();
        let mut many = false;

        for (ends, what, which) in steps {
            let wanted = range(base, ends);
            // From when more leave than can be told apart until none does, nothing may be free.
            let leaving = out.iter().filter(|out| out.leaves()).count();
            many = leaving > KNOWN || many && leaving != 0;
            let met = out.iter().any(|out| out.range().overlaps(&wanted));
            let value = map.map().first_overlap(wanted).is_some_and(|found| {
                map.map().get(found).is_some_and(|value| !value.is_busy())
            });
            prop_assert_eq!(map.busy(), out.len());
            if !many {
                prop_assert_eq!(map.is_busy(wanted), met || wanted == IovaRange::ALL && !out.is_empty());
            } else {
                prop_assert!(map.is_busy(wanted) || !met);
            }

            let picked = (!out.is_empty()).then(|| which % out.len());
            match (what, picked) {
                (0 | 1, _) => match map.free(wanted) {
                    Some(free) => {
                        prop_assert!(!met && !value);
                        let claim = free.claim(Slot::new().unwrap());
                        prop_assert_eq!(claim.range(), wanted);
                        out.push(Out::Claim(wanted, claim));
                    }
                    None => prop_assert!(met || value || many),
                },
                (2, _) => {
                    let first = map.map().first_overlap(wanted);
                    let taken = first.and_then(|found| Some((found, map.take(found)?)));
                    if let Some((found, mut value)) = taken {
                        prop_assert!(!value.is_busy());
                        if which % 3 == 0 {
                            let _ = value.shorten();
                        }
                        out.push(Out::Taken(found, value));
                    }
                }
                (3, _) => {
                    if let Some(found) = map.map().first_overlap(wanted) {
                        if let Some((leaving, _)) = map.leave_exact(found, |_| which % 4 != 0) {
                            out.push(Out::One(found, leaving));
                        }
                    }
                }
                (4, _) => {
                    let mut taken = Vec::new();
                    let all = map.leave_while(wanted, |found, node| {
                        if taken.len() > which % 5 {
                            return false;
                        }
                        taken.push(core::mem::replace(node, Mapped::busy(found.start())));
                        true
                    });
                    prop_assert_eq!(all.is_some(), !taken.is_empty());
                    if let Some((all, _)) = all {
                        out.push(Out::Several(all, taken));
                    }
                }
                (_, Some(at)) => match out.swap_remove(at) {
                    Out::Claim(_, claim) if what == 5 => prop_assert!(map.end(claim)),
                    Out::Claim(_, claim) => {
                        prop_assert!(map.put(Mapped::new(&claim, base, &had)).is_ok());
                    }
                    Out::Taken(_, value) if what == 5 => prop_assert!(map.end(value.end())),
                    Out::Taken(_, value) => prop_assert!(map.put(value).is_ok()),
                    Out::One(_, leaving) => map.left(leaving.leave()),
                    Out::Several(all, taken) => {
                        drop(taken);
                        map.left(Left::new(SPACE, all));
                    }
                },
                _ => (),
            }
        }

        // All comes back.
        for out in out {
            match out {
                Out::Claim(_, claim) => prop_assert!(map.end(claim)),
                Out::Taken(_, value) => prop_assert!(map.end(value.end())),
                Out::One(_, leaving) => map.left(leaving.leave()),
                Out::Several(all, taken) => {
                    drop(taken);
                    map.left(Left::new(SPACE, all));
                }
            }
        }
        prop_assert_eq!(map.busy(), 0);
        let mut left = Vec::new();
        while let Some(found) = map.map().first_overlap(IovaRange::ALL) {
            let (leaving, _) = map.leave_exact(found, |_| true).unwrap();
            left.push(leaving.leave());
        }
        left.into_iter().for_each(|left| map.left(left));
        prop_assert!(map.free(IovaRange::ALL).is_some());
        prop_assert_eq!(*had.borrow(), [false; 64]);
    }
}

/// A claim of a map, to these addresses.
fn claim(map: &mut RangeMap<Mapped>, start: u64, last: u64) -> IovaClaim {
    let free = map.free(range(0, (start, last))).unwrap();
    free.claim(Slot::new().unwrap())
}

#[test]
fn what_belongs_elsewhere_is_refused() {
    let had = Had::new(RefCell::new([false; 64]));
    let mut map = RangeMap::<Mapped>::new(SPACE);
    let mut other = RangeMap::<Mapped>::new(SpaceId(8));
    let mine = claim(&mut map, 8, 15);
    let theirs = claim(&mut other, 8, 15);
    assert!(!map.end(theirs));
    assert!(!other.end(IovaClaim::again(SPACE, mine.range())));

    let value = Mapped::new(&mine, 0, &had);
    let value = other.put(value).unwrap_err();
    assert!(map.put(value).is_ok());
    // Not busy any more: the claim is in the value.
    assert!(!map.end(IovaClaim::again(SPACE, range(0, (8, 15)))));
    assert!(map.free(range(0, (15, 15))).is_none());

    // More than the range has.
    let value = map.take(range(0, (8, 15))).unwrap();
    assert!(!map.end(IovaClaim::again(SPACE, range(0, (7, 15)))));
    assert!(map.put(value).is_ok());

    other.left(Left::new(SPACE, range(0, (8, 15))));
    assert_eq!(other.busy(), 1);
}

#[test]
fn nothing_is_free_while_too_much_leaves() {
    let had = Had::new(RefCell::new([false; 64]));
    let mut map = RangeMap::<Mapped>::new(SPACE);
    let mut leaving = Vec::new();
    for at in 0..=KNOWN as u64 {
        let claim = claim(&mut map, at, at);
        assert!(map.put(Mapped::new(&claim, 0, &had)).is_ok());
    }
    for at in 0..=KNOWN as u64 {
        assert!(map.free(range(0, (40, 40))).is_some());
        leaving.push(map.leave_exact(range(0, (at, at)), |_| true).unwrap().0);
    }
    assert!(map.free(range(0, (40, 40))).is_none());
    // The one that is not known goes, or one that is: either way one fewer is left.
    map.left(leaving.pop().unwrap().leave());
    assert!(map.free(range(0, (40, 40))).is_some());
    assert!(map.free(range(0, (0, 0))).is_none());
    for leaving in leaving {
        map.left(leaving.leave());
    }
    assert!(map.free(IovaRange::ALL).is_some());
    assert_eq!(*had.borrow(), [false; 64]);
}
