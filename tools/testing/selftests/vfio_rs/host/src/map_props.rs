// SPDX-License-Identifier: GPL-2.0

//! The map of address ranges against an array of 64 addresses.

// A panic is how a test fails.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use crate::{
    iova::{
        IovaRange,
        Map,
        Slot, //
    },
    iova_props::{
        base,
        ends,
        range, //
    },
    settings,
};
use kernel::fail;
use proptest::prelude::{
    any,
    prop,
    prop_assert_eq,
    proptest, //
};

/// Which mapping each address belongs to.
type Model = [Option<u8>; 64];

/// First and last address of the mapping that has the address.
fn mapping_at(model: &Model, address: usize) -> Option<(u64, u64)> {
    let id = model[address]?;
    let first = model.iter().position(|at| *at == Some(id))?;
    let last = model.iter().rposition(|at| *at == Some(id))?;
    Some((first as u64, last as u64))
}

proptest! {
    #![proptest_config(settings(500))]

    #[test]
    fn a_map_is_an_array(
        base in base(),
        steps in prop::collection::vec((ends(), any::<bool>()), 1..100),
    ) {
        let mut map = Map::new();
        let mut model: Model = [None; 64];

        for (id, (ends, remove)) in (0u8..).zip(steps) {
            let wanted = range(base, ends);
            let (first, last) = (ends.0 as usize, ends.1 as usize);
            let overlap = (first..=last).find_map(|address| mapping_at(&model, address));
            let cut = [first, last].into_iter().any(|address| {
                mapping_at(&model, address).is_some_and(|at| at.0 < ends.0 || at.1 > ends.1)
            });

            prop_assert_eq!(map.first_overlap(wanted), overlap.map(|at| range(base, at)));
            prop_assert_eq!(map.cuts(wanted), cut);
            match overlap {
                None => {
                    map.insert(wanted, id, Slot::new().unwrap());
                    model[first..=last].fill(Some(id));
                }
                Some(found) if remove => {
                    let expected = model[found.0 as usize];
                    let found_range = range(base, found);
                    prop_assert_eq!(map.get(found_range).copied(), expected);
                    prop_assert_eq!(map.get_mut(found_range).copied(), expected);
                    let seen = map.look_at_first(found_range, |id| Some(*id));
                    prop_assert_eq!(seen, Some((found_range, expected)));
                    let taken = map.take(found_range).unwrap();
                    prop_assert_eq!(map.first_overlap(found_range), None);
                    map.put_back(taken);
                    prop_assert_eq!(map.remove(found_range), expected);
                    model[found.0 as usize..=found.1 as usize].fill(None);
                }
                Some(_) => (),
            }
        }

        let mut expected = Vec::new();
        let mut address = 0;
        while address < 64 {
            if let Some(at) = mapping_at(&model, address) {
                expected.push((range(base, at), model[address]));
                address = at.1 as usize;
            }
            address += 1;
        }
        let found: Vec<_> = map.iter().map(|(range, id)| (range, Some(*id))).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn only_the_slot_needs_memory() {
    let (slot, failed) = fail::nth(1, Slot::<u8>::new);
    assert!(failed && slot.is_err());

    let slot = Slot::new();
    let (_, failed) = fail::nth(1, || {
        let mut map = Map::new();
        if let Ok(slot) = slot {
            map.insert(IovaRange::ALL, 1, slot);
        }
        map.remove(IovaRange::ALL)
    });
    assert!(!failed);
}
