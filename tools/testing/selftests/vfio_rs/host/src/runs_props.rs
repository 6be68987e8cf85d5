// SPDX-License-Identifier: GPL-2.0

//! Runs of page frames against a list of frames.

// A panic is how a test fails.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use crate::{
    runs::{
        Runs,
        MOST, //
    },
    settings, //
};
use kernel::{
    fail,
    prelude::ENOMEM, //
};
use proptest::prelude::{
    prop,
    prop_assert,
    prop_assert_eq,
    proptest, //
};

/// All frames, taken in pieces of at most `most`.
fn frames(runs: &Runs, most: usize) -> Vec<usize> {
    let mut cursor = runs.cursor();
    let mut all = Vec::new();
    while let Some((pfn, npages)) = cursor.take(most) {
        assert!((1..=most).contains(&npages));
        all.extend(pfn..pfn + npages);
    }
    assert!(cursor.take(most).is_none());
    all
}

proptest! {
    #![proptest_config(settings(500))]

    #[test]
    fn frames_come_back_in_order(
        pieces in prop::collection::vec((0usize..50, 1usize..6), 0..60),
        most in 1usize..8,
        expected in 0usize..400,
    ) {
        let mut runs = Runs::new();
        let mut model = Vec::new();
        for (pfn, npages) in pieces {
            let follows = model.last().is_some_and(|last| last + 1 == pfn);
            if follows || model.len() % 2 == 0 {
                runs.push(pfn, npages, expected).unwrap();
            } else {
                runs.append(pfn, npages, expected).unwrap();
            }
            model.extend(pfn..pfn + npages);
            prop_assert_eq!(runs.npages(), model.len());
        }
        runs.trim();
        prop_assert_eq!(frames(&runs, most), model.clone());
        prop_assert_eq!(frames(&runs, usize::MAX), model.clone());
        prop_assert!(runs.cursor().take(0).is_none());
        let mut taken = Vec::new();
        while runs.npages() != 0 {
            prop_assert_eq!(frames(&runs, usize::MAX), &model[taken.len()..]);
            let some = most.min(runs.npages());
            runs.take_each(some, |pfn, npages| taken.extend(pfn..pfn + npages));
            prop_assert_eq!(runs.npages(), model.len() - taken.len());
        }
        prop_assert_eq!(taken, model);
        runs.take_each(1, |_, _| panic!("there is no frame left"));
    }
}

#[test]
fn adjacent_frames_need_no_memory() {
    let (runs, failed) = fail::nth(1, || {
        let mut runs = Runs::new();
        for pfn in 0..1000 {
            runs.push(5 + pfn * 8, 8, 8000)?;
        }
        Ok::<_, kernel::error::Error>(runs)
    });
    assert!(!failed);
    assert_eq!(runs.unwrap().cursor().take(usize::MAX), Some((5, 8000)));
}

#[test]
fn a_run_ends_where_its_number_of_frames_does() {
    let full = (1 << 24) - 1;
    let mut runs = Runs::new();
    let last = (1 << 40) - 1;
    for (pfn, npages) in [(7, full - 1), (6 + full, 1), (7 + full, 1), (last, 1)] {
        runs.push(pfn, npages, 0).unwrap();
    }
    let mut cursor = runs.cursor();
    assert_eq!(cursor.take(usize::MAX), Some((7, full)));
    assert_eq!(cursor.take(usize::MAX), Some((7 + full, 1)));
    assert_eq!(cursor.take(usize::MAX), Some((last, 1)));
    assert_eq!(cursor.take(usize::MAX), None);
}

#[test]
fn without_memory_nothing_is_appended() {
    let mut runs = Runs::new();
    let allocations = fail::sweep(
        || {
            runs = Runs::new();
            for pfn in 0..100 {
                let before = runs.npages();
                if let Err(err) = runs.push(pfn * 2, 1, 100) {
                    assert_eq!(runs.npages(), before);
                    assert_eq!(frames(&runs, 1).len(), before);
                    return Err(err);
                }
            }
            // Can do without.
            runs.trim();
            Ok(())
        },
        |result| assert_eq!(result, Err(ENOMEM)),
    );
    assert!(allocations >= 3, "{allocations} allocations");
    assert_eq!(
        frames(&runs, 9),
        (0..100).map(|pfn| pfn * 2).collect::<Vec<_>>()
    );
}

#[test]
fn room_for_twice_the_runs_at_most() {
    for (scattered, total) in [(9, 100_000), (500, 100_000), (8192, 8192), (20_000, 20_001)] {
        let mut runs = Runs::new();
        for pfn in 0..scattered {
            runs.push(pfn * 2, 1, total).unwrap();
        }
        if total > scattered {
            runs.push(1 << 30, total - scattered, total).unwrap();
        }
        runs.trim();
        let bytes = runs.room() * 8;
        assert!(
            bytes <= 16 * scattered,
            "{bytes} bytes for {scattered} runs"
        );
        assert_eq!(frames(&runs, usize::MAX).len(), total);
    }
}

#[test]
fn room_is_bounded() {
    for total in [0, 100 * MOST] {
        let mut runs = Runs::new();
        let mut count = 0;
        let err = loop {
            if let Err(err) = runs.push(count * 2, 1, total) {
                break err;
            }
            count += 1;
            assert!(count <= 2 * MOST, "{count} runs and no end");
        };
        assert_eq!(err, ENOMEM);
        assert!(count > MOST, "no more than {count} runs");
        assert!(runs.room() < 2 * MOST, "room for {} runs", runs.room());
        // Nothing was appended, and it stays so; what follows on the last run still does.
        assert_eq!(runs.push(7, 1, total), Err(ENOMEM));
        assert_eq!(runs.npages(), count);
        runs.push(count * 2 - 1, 1, total).unwrap();
        let mut cursor = runs.cursor();
        let taken = std::iter::from_fn(|| cursor.take(usize::MAX));
        assert_eq!(taken.map(|(_, npages)| npages).sum::<usize>(), count + 1);
    }
}

#[test]
fn a_single_run_is_taken_as_a_whole() {
    let mut one = Runs::one(7);
    assert_eq!(one.cursor().take_adjacent(2), None);
    assert_eq!(one.cursor().take_adjacent(1), Some(7));
    assert_eq!((one.take_only(2), one.take_only(0)), (None, None));
    assert_eq!((one.take_only(1), one.npages()), (Some(7), 0));

    let mut two = Runs::new();
    two.push(7, 2, 3).unwrap();
    two.push(20, 1, 3).unwrap();
    assert_eq!(two.take_only(3), None);
    let mut cursor = two.cursor();
    let taken = [1, 2, 1, 1, 1].map(|npages| cursor.take_adjacent(npages));
    assert_eq!(taken, [Some(7), None, Some(8), Some(20), None]);
}

/// Runs of these pieces, and their frames.
fn runs_of(pieces: &[(usize, usize)]) -> (Runs, Vec<usize>) {
    let mut runs = Runs::new();
    let mut model = Vec::new();
    for (pfn, npages) in pieces {
        runs.push(*pfn, *npages, 0).unwrap();
        model.extend(*pfn..*pfn + *npages);
    }
    (runs, model)
}

proptest! {
    #![proptest_config(settings(2000))]

    #[test]
    fn parts_and_comparisons(
        first in prop::collection::vec((0usize..6, 1usize..5), 1..20),
        second in prop::collection::vec((0usize..6, 1usize..5), 1..20),
        (at, other_at, most) in (0usize..30, 0usize..30, 1usize..40),
    ) {
        let (runs, model) = runs_of(&first);
        let front = runs.front(at).unwrap();
        prop_assert_eq!(frames(&front, 3), model[..at.min(model.len())].to_vec());
        prop_assert_eq!(front.npages(), at.min(model.len()));

        let (other, other_model) = runs_of(&second);
        let (mut a, mut b) = (runs.cursor(), other.cursor());
        a.skip(at);
        b.skip(other_at);
        let pairs = model.iter().skip(at).zip(other_model.iter().skip(other_at)).take(most);
        let same: Vec<bool> = pairs.map(|(a, b)| a == b).collect();
        let expected = same.iter().take_while(|one| **one == same[0]).count();
        let (is_same, count) = a.compare(b, most);
        prop_assert_eq!(count, expected);
        prop_assert_eq!(is_same, same.first().copied().unwrap_or(false));
    }
}
