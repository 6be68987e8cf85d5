// SPDX-License-Identifier: GPL-2.0

//! The map of ranges with the runs of frames in it, as type1 keeps them, against a naive model;
//! each step is tried with every one of its allocations failing before it is done.

// A panic is how a test fails.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::BTreeMap;

use crate::{
    iova_props::{
        base,
        ends,
        range, //
    },
    ranges::{
        IovaRange,
        Map,
        Slot,
        Starts, //
    },
    runs::Runs,
    settings,
};
use kernel::{
    fail,
    prelude::*, //
};
use proptest::prelude::{
    prop,
    prop_assert,
    prop_assert_eq,
    prop_oneof,
    proptest,
    Just,
    Strategy, //
};

/// Numbers of frames, in order.
type Frames = Vec<usize>;

/// A mapping: where it starts, and its frames.
struct Mapped(u64, Runs);

impl Starts for Mapped {
    fn start(&self) -> u64 {
        self.0
    }
}

/// One step of a user.
#[derive(Clone, Debug)]
enum Step {
    /// Map these pieces, each some adjacent frames, at the range.
    Map((u64, u64), Vec<(usize, usize)>),
    /// Unmap what lies in the range, if it cuts nothing; stop after so many, as when killed.
    Unmap((u64, u64), usize),
}

fn step() -> impl Strategy<Value = Step> {
    // Some pieces follow on the one before.
    let pieces = prop::collection::vec((0usize..30, 1usize..5), 1..40);
    prop_oneof![
        (ends(), pieces).prop_map(|(at, pieces)| Step::Map(at, pieces)),
        ends().prop_map(|at| Step::Map(at, vec![(7, 1)])),
        (ends(), 0usize..4).prop_map(|(at, most)| Step::Unmap(at, most)),
        Just(Step::Unmap((0, 63), 64)),
    ]
}

fn frames_of(pieces: &[(usize, usize)]) -> Frames {
    let all = pieces.iter().flat_map(|(pfn, n)| *pfn..pfn + n);
    all.collect()
}

/// What one map does: everything that needs memory before anything changes.
fn map_step(map: &mut Map<Mapped>, at: IovaRange, pieces: &[(usize, usize)]) -> Result {
    let slot = Slot::new()?;
    if map.first_overlap(at).is_some() {
        return Err(EEXIST);
    }
    let total = pieces.iter().map(|(_, n)| n).sum();
    let mut runs = Runs::new();
    for (pfn, npages) in pieces {
        runs.push(*pfn, *npages, total)?;
    }
    runs.trim();
    map.insert(at.last(), Mapped(at.start(), runs), slot);
    Ok(())
}

/// What one unmap does, which needs no memory.
fn unmap_step(map: &mut Map<Mapped>, at: IovaRange, most: usize) -> Result {
    if map.cuts(at) {
        return Err(EINVAL);
    }
    let mut left = most;
    let _spare = map.take_while(at, |_, _| {
        let leaves = left > 0;
        left = left.saturating_sub(1);
        leaves
    });
    Ok(())
}

/// All that the map has, by first and last address.
fn content(map: &Map<Mapped>) -> BTreeMap<(u64, u64), Frames> {
    let frames = |runs: &Runs| {
        let mut cursor = runs.cursor();
        let mut all = Frames::new();
        while let Some((pfn, npages)) = cursor.take(3) {
            all.extend(pfn..pfn + npages);
        }
        all
    };
    map.iter()
        .map(|(at, mapped)| ((at.start(), at.last()), frames(&mapped.1)))
        .collect()
}

proptest! {
    #![proptest_config(settings(200))]

    #[test]
    fn a_store_is_its_model(base in base(), steps in prop::collection::vec(step(), 1..40)) {
        let mut map = Map::new();
        let mut model: BTreeMap<(u64, u64), Frames> = BTreeMap::new();
        let mut allocations = 0;

        for step in steps {
            let (Step::Map(at, _) | Step::Unmap(at, _)) = &step;
            let at = range(base, *at);
            let key = (at.start(), at.last());
            let overlaps = |(start, last): &(u64, u64)| *start <= key.1 && key.0 <= *last;
            let inside = |(start, last): &(u64, u64)| key.0 <= *start && *last <= key.1;
            let met: Vec<_> = model.keys().copied().filter(overlaps).collect();
            let expected = match &step {
                Step::Map(_, pieces) if met.is_empty() => {
                    model.insert(key, frames_of(pieces));
                    Ok(())
                }
                Step::Map(..) => Err(EEXIST),
                _ if !met.iter().all(inside) => Err(EINVAL),
                Step::Unmap(_, most) => {
                    met.iter().take(*most).for_each(|at| drop(model.remove(at)));
                    Ok(())
                }
            };

            let before = content(&map);
            for nth in 1.. {
                let (result, failed) = fail::nth(nth, || match &step {
                    Step::Map(_, pieces) => map_step(&mut map, at, pieces),
                    Step::Unmap(_, most) => unmap_step(&mut map, at, *most),
                });
                if failed && result == Err(ENOMEM) {
                    allocations += 1;
                    prop_assert_eq!(content(&map), before.clone());
                    continue;
                }
                // Trimming can do without memory, and a map that is refused needs none of it.
                prop_assert_eq!(result, expected);
                break;
            }
            prop_assert_eq!(content(&map), model.clone());
        }
        let maps = model.values().filter(|frames| !frames.is_empty()).count();
        prop_assert!(allocations >= maps, "{allocations} failures for {maps} maps");
    }
}
