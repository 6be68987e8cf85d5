// SPDX-License-Identifier: GPL-2.0

//! Address ranges against sets of addresses.
//!
//! The address space of these tests has 64 addresses, put at its bottom, in the middle, or at the
//! top of the real one; a set of them is the bits of a number.

// A panic is how a test fails.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use crate::{
    iova::{
        Allowed,
        IovaRange, //
    },
    settings,
};
use kernel::prelude::*;
use proptest::prelude::{
    any,
    prop,
    prop_assert,
    prop_assert_eq,
    prop_oneof,
    proptest,
    Just,
    Strategy, //
};

/// Where the 64 addresses are.
pub(crate) fn base() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(0xfee0_0000), Just(u64::MAX - 63)]
}

/// First and last of some addresses.
pub(crate) fn ends() -> impl Strategy<Value = (u64, u64)> {
    (0..64u64, 0..64u64).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

/// The range of some addresses.
pub(crate) fn range(base: u64, (start, last): (u64, u64)) -> IovaRange {
    IovaRange::from_last(base + start, base + last).unwrap_or(IovaRange::ALL)
}

/// The addresses as a set.
fn set((start, last): (u64, u64)) -> u64 {
    (start..=last).fold(0, |set, address| set | 1 << address)
}

/// A range as a set.
fn set_of(base: u64, range: Option<IovaRange>) -> u64 {
    range.map_or(0, |range| set((range.start() - base, range.last() - base)))
}

/// A list of ranges as a set, if it is a proper list.
fn set_of_all(base: u64, allowed: &Allowed) -> Option<u64> {
    let mut all = 0;
    let mut previous: Option<IovaRange> = None;
    for range in allowed.ranges() {
        let apart = previous.is_none_or(|previous| previous.last() + 1 < range.start());
        if !apart {
            return None;
        }
        all |= set_of(base, Some(*range));
        previous = Some(*range);
    }
    Some(all)
}

proptest! {
    #![proptest_config(settings(2000))]

    #[test]
    fn ranges_are_sets(base in base(), a in ends(), b in ends()) {
        let (x, y) = (range(base, a), range(base, b));
        let (s, t) = (set(a), set(b));

        prop_assert_eq!(set_of(base, x.intersection(&y)), s & t);
        prop_assert_eq!(set_of(base, x.below(&y)) | set_of(base, x.above(&y)), s & !t);
        prop_assert_eq!(x.overlaps(&y), s & t != 0);
        prop_assert_eq!(x.contains(&y), t & !s == 0);
        let first = IovaRange::from_last(y.start(), y.start());
        prop_assert_eq!(first.is_some_and(|first| x.contains(&first)), s >> b.0 & 1 == 1);
        prop_assert_eq!(x.size(), Some(u64::from(s.count_ones())));
    }

    #[test]
    fn sizes_are_checked(start in any::<u64>(), size in prop_oneof![0..4u64, any::<u64>()]) {
        let wide = u128::from(start) + u128::from(size);
        match IovaRange::from_size(start, size) {
            Ok(range) => {
                prop_assert_eq!(range.start(), start);
                prop_assert_eq!(range.size(), Some(size));
                prop_assert_eq!(u128::from(range.last()) + 1, wide);
            }
            Err(error) => {
                let expected = if size == 0 { "Empty" } else { "Overflow" };
                prop_assert_eq!(format!("{error:?}"), expected);
                prop_assert!(size == 0 || wide > 1 << 64);
            }
        }
    }

    #[test]
    fn alignment_is_of_both_ends(a in ends(), shift in 0..6u32) {
        let granule = 1 << shift;
        let expected = a.0 % granule == 0 && (a.1 + 1) % granule == 0;
        prop_assert_eq!(range(0, a).is_aligned(granule), expected);
    }

    #[test]
    fn allowed_is_aperture_less_reserved(
        base in base(),
        aperture in ends(),
        reserved in prop::collection::vec(ends(), 0..6),
    ) {
        let expected = reserved.iter().fold(set(aperture), |left, &ends| left & !set(ends));
        let ranges: Vec<_> = reserved.iter().map(|&ends| range(base, ends)).collect();
        match Allowed::new(range(base, aperture), &ranges) {
            Ok(allowed) => prop_assert_eq!(set_of_all(base, &allowed), Some(expected)),
            Err(error) => prop_assert_eq!((error, expected), (EINVAL, 0)),
        }
    }

    #[test]
    fn what_is_allowed_is_contained(
        base in base(),
        aperture in ends(),
        reserved in prop::collection::vec(ends(), 0..6),
        wanted in ends(),
    ) {
        let ranges: Vec<_> = reserved.iter().map(|&ends| range(base, ends)).collect();
        if let Ok(allowed) = Allowed::new(range(base, aperture), &ranges) {
            let all = set_of_all(base, &allowed).unwrap_or(0);
            let expected = set(wanted) & !all == 0;
            prop_assert_eq!(allowed.contains(&range(base, wanted)), expected);
        }
    }

    #[test]
    fn several_groups_allow_what_each_does(
        base in base(),
        apertures in (ends(), ends()),
        first in prop::collection::vec(ends(), 0..4),
        second in prop::collection::vec(ends(), 0..4),
    ) {
        let ranges = |list: &[_]| -> Vec<_> { list.iter().map(|&e| range(base, e)).collect() };
        let a = Allowed::new(range(base, apertures.0), &ranges(&first));
        let b = Allowed::new(range(base, apertures.1), &ranges(&second));
        if let (Ok(a), Ok(b)) = (a, b) {
            let expected = set_of_all(base, &a).zip(set_of_all(base, &b)).map(|(a, b)| a & b);
            match a.intersection(&b) {
                Ok(both) => prop_assert_eq!(set_of_all(base, &both), expected),
                Err(error) => prop_assert_eq!((error, expected), (EINVAL, Some(0))),
            }
        }
    }
}
