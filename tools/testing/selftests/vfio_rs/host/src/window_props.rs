// SPDX-License-Identifier: GPL-2.0

//! Windows against a naive model, which counts through all of them.

// A panic is how a test fails.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use crate::{
    iova::IovaRange,
    settings,
    window::{
        entries,
        exchange,
        Limits,
        Windows,
        MAX_ENTRIES, //
    },
};
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

/// Some windows: where they begin, bytes of each, and how many.
fn some() -> impl Strategy<Value = (Windows, u64, u64, u32)> {
    (12u32..40, 0u32..=8, 0u64..8).prop_map(|(bits, count, at)| {
        let (count, size) = (1u32 << count, 1u64 << bits);
        let total = size * u64::from(count);
        let limits = Limits::new(IovaRange::ALL, false);
        let aperture = limits.aperture(at * total, at * total + total - 1).unwrap();
        (aperture.cut(count).unwrap(), at * total, size, count)
    })
}

/// Numbers that are likely to be interesting: near multiples of `unit`.
fn near(unit: u64) -> impl Strategy<Value = u64> {
    let offset = prop_oneof![
        Just(0u64),
        Just(1),
        Just(4096),
        Just(unit / 2),
        Just(u64::MAX),
        Just(0u64.wrapping_sub(4096)),
    ];
    (0u64..300, offset).prop_map(move |(n, offset)| (n * unit).wrapping_add(offset))
}

/// Some windows, an address and a number of bytes.
fn with_range() -> impl Strategy<Value = ((Windows, u64, u64, u32), u64, u64)> {
    some().prop_flat_map(|all| {
        let (_, start, size, _) = all;
        let address = near(size).prop_map(move |offset| start.wrapping_add(offset));
        (Just(all), address, prop_oneof![near(size), near(4096)])
    })
}

proptest! {
    #![proptest_config(settings(2000))]

    #[test]
    fn windows_are_the_aperture((windows, start, size, count) in some()) {
        let mut next = start;
        for index in 0..count {
            let window = windows.window(index).unwrap();
            prop_assert_eq!(window.start(), next);
            prop_assert_eq!(window.size(), Some(size));
            prop_assert!(window.is_aligned(size));
            prop_assert_eq!(windows.index(window.start()), Some(index));
            prop_assert_eq!(windows.index(window.last()), Some(index));
            prop_assert_eq!(windows.at(window.last()), Some(window));
            next = window.last().wrapping_add(1);
        }
        prop_assert_eq!(windows.window(count), None);
        prop_assert_eq!(windows.index(next), None);
        prop_assert_eq!(windows.index(start.wrapping_sub(1)), None);
    }

    #[test]
    fn parts_as_counted(((windows, start, size, count), iova, bytes) in with_range()) {
        let Ok(range) = IovaRange::from_size(iova, bytes) else { return Ok(()) };
        // By the words of the rule: the start of a window, and either a power of two that fits
        // into it, or so many whole ones.
        let first = (0..count).find(|n| start + u64::from(*n) * size == iova);
        let expected = first.and_then(|first| {
            if bytes <= size {
                (bytes >= 4096 && bytes.count_ones() == 1).then_some((first, 1, bytes))
            } else {
                (1..=count - first)
                    .find(|n| u64::from(*n) * size == bytes)
                    .map(|n| (first, n, size))
            }
        });
        let parts = windows.parts(range).map(|p| (p.first, p.count, p.bytes));
        prop_assert_eq!(parts, expected);
        let whole = iova <= start && range.last() >= start + (size * u64::from(count) - 1);
        let unmap = windows.unmapped_by(range);
        if whole {
            prop_assert_eq!(unmap, Some(windows.aperture().range()));
        } else {
            prop_assert_eq!(unmap, expected.map(|_| range));
        }
    }

    #[test]
    fn apertures_by_the_rule(start in any::<u64>(), last in any::<u64>(), bits in 0u32..64, near in any::<bool>()) {
        // Mostly what there cannot be, or almost what there can.
        let start = if near { start >> bits << bits } else { start };
        let last = if near { start.wrapping_add(1u64.wrapping_shl(bits)).wrapping_sub(1) } else { last };
        let all = IovaRange::from_last(0, (1 << 48) - 1).unwrap();
        let aperture = Limits::new(all, false).aperture(start, last);
        let size = u128::from(last) + 1 - u128::from(start.min(last));
        let right = start <= last
            && last < 1 << 48
            && size >= 4096
            && size.count_ones() == 1
            && u128::from(start) % size == 0;
        prop_assert_eq!(aperture.is_some(), right);
    }

    #[test]
    fn last_windows((windows, _, _, count) in some(), banks in 1u32..20) {
        let last = windows.last(banks);
        prop_assert_eq!(last.is_some(), count > banks);
        if let Some(parts) = last {
            prop_assert_eq!(parts.indices(), count - banks..count);
        }
    }

    #[test]
    fn budget(steps in prop::collection::vec((0usize..12, 0u32..=256), 1..200)) {
        let mut used = 0;
        let mut held = [0u32; 12];
        for (who, count) in steps {
            let new = entries(count);
            let others: u32 = held.iter().sum::<u32>() - held[who];
            let next = exchange(used, held[who], new);
            prop_assert_eq!(next.is_some(), others + new <= MAX_ENTRIES);
            if let Some(next) = next {
                held[who] = new;
                used = next;
            }
            prop_assert_eq!(used, held.iter().sum::<u32>());
        }
    }
}
