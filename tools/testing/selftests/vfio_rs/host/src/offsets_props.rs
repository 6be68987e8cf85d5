// SPDX-License-Identifier: GPL-2.0

//! Offsets of the device's file against sizes of BARs.

// A panic is how a test fails.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use crate::offsets::{
    Offsets,
    Region,
    COUNT,
    WRITE_COMBINING, //
};
use kernel::prelude::EINVAL;

const TIB: u64 = 1 << 40;

fn all() -> impl Iterator<Item = Region> {
    (0..COUNT + 3).map(Region::from_index)
}

#[test]
fn small_ones_are_where_c_has_them() {
    let offsets = Offsets::new([TIB, 0, 4096, 0, TIB - 1, 1]);
    for (index, region) in all().enumerate() {
        assert_eq!(offsets.of(region), (index as u64) << 40);
    }
}

#[test]
fn there_and_back() {
    let sizes = [2 * TIB, 0, TIB + 1, 0, 1 << 51, 0];
    for large in 0..8usize {
        let size = |bar: usize| {
            if large >> (bar / 2) & 1 != 0 {
                sizes[bar]
            } else {
                TIB
            }
        };
        let offsets = Offsets::new([size(0), 16, size(2), 16, size(4), 16]);
        for region in all() {
            let len = match region {
                Region::Bar(bar @ (0 | 2 | 4)) => size(bar as usize),
                _ => TIB,
            };
            for inside in [0, 1, TIB - 1, TIB, TIB + 7, len - 1] {
                if inside < len {
                    let offset = offsets.of(region) + inside;
                    assert_eq!(offset & WRITE_COMBINING, 0);
                    assert!(offset < WRITE_COMBINING);
                    assert!(offsets.at(offset) == Ok((region, inside)));
                }
            }
        }
    }
}

#[test]
fn no_two_places_overlap() {
    let offsets = Offsets::new([1 << 51, TIB, 3 * TIB, 0, 1 << 50, 0]);
    let len = |region| match region {
        Region::Bar(0) => 1 << 51,
        Region::Bar(2) => 3 * TIB,
        Region::Bar(4) => 1 << 50,
        _ => TIB,
    };
    for one in all() {
        for other in all().filter(|other| *other != one) {
            let (start, end) = (offsets.of(one), offsets.of(one) + len(one));
            assert!(offsets.of(other) >= end || offsets.of(other) + len(other) <= start);
        }
    }
}

#[test]
fn nothing_in_between() {
    let none = Offsets::new([TIB; 6]);
    let one = Offsets::new([0, 0, TIB + 1, 0, 0, 0]);
    let second = one.of(Region::Bar(2));
    let large = second & !(2 << 52);
    for (offsets, at) in [
        (none, large),
        (none, second),
        // Where it would be if it were small.
        (one, 2 * TIB),
        (one, 3 * TIB - 1),
        (one, second - 1),
        (one, second + (1 << 52)),
        (one, large),
        (one, large | 6 << 52),
        (one, second | 1 << 61),
        (one, second | WRITE_COMBINING),
        (one, u64::MAX),
    ] {
        assert!(offsets.at(at) == Err(EINVAL));
    }
    assert!(one.at(3 * TIB) == Ok((Region::Bar(3), 0)));
}
