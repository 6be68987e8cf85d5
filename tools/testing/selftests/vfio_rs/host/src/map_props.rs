// SPDX-License-Identifier: GPL-2.0

//! The map of address ranges against an array of 64 addresses.

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
        IovaRange,
        Map,
        Slot,
        Starts, //
    },
    settings,
};
use kernel::fail;
use proptest::prelude::{
    prop,
    prop_assert_eq,
    proptest, //
};

/// A mapping: where it starts, and its number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Numbered(u64, u8);

impl Starts for Numbered {
    fn start(&self) -> u64 {
        self.0
    }
}

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
        steps in prop::collection::vec((ends(), 0..4u8), 1..100),
    ) {
        let mut map = Map::new();
        let mut model: Model = [None; 64];

        for (id, (ends, what)) in (0u8..).zip(steps) {
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
                    let value = Numbered(wanted.start(), id);
                    map.insert(wanted.last(), value, Slot::new().unwrap());
                    model[first..=last].fill(Some(id));
                }
                Some(found) if what == 1 => {
                    let number = model[found.0 as usize];
                    let found_range = range(base, found);
                    let expected = number.map(|number| Numbered(found_range.start(), number));
                    prop_assert_eq!(map.get(found_range).copied(), expected);
                    let mut taken = None;
                    let mut take = |range, leaves| {
                        let spare = map.take_exact(range, |value| {
                            taken = Some(*value);
                            leaves
                        });
                        (spare.is_some(), taken.take())
                    };
                    if wanted != found_range {
                        prop_assert_eq!(take(wanted, true), (false, None));
                    }
                    prop_assert_eq!(take(found_range, false), (false, expected));
                    if id % 2 == 0 {
                        prop_assert_eq!(take(found_range, true), (true, expected));
                    } else {
                        prop_assert_eq!(map.remove(found_range), expected);
                    }
                    model[found.0 as usize..=found.1 as usize].fill(None);
                }
                // It loses its first address.
                Some(found) if what == 2 && found.0 < found.1 => {
                    let value = map.get_mut(range(base, found)).unwrap();
                    value.0 = range(base, (found.0 + 1, found.1)).start();
                    model[found.0 as usize] = None;
                }
                // All but those of numbers that can be divided by three, and what comes behind.
                Some(_) if what == 3 => {
                    let mut taken = Vec::new();
                    let spare = map.take_while(wanted, |found, value| {
                        if value.1 % 3 == 0 {
                            return false;
                        }
                        taken.push((found, value.1));
                        true
                    });
                    prop_assert_eq!(spare.is_some(), !taken.is_empty());
                    let mut expected = Vec::new();
                    for address in first..=last {
                        let Some(at) = mapping_at(&model, address) else { continue };
                        let number = model[address].unwrap();
                        if number % 3 == 0 {
                            break;
                        }
                        expected.push((range(base, at), number));
                        model[at.0 as usize..=at.1 as usize].fill(None);
                    }
                    prop_assert_eq!(taken, expected);
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
        let found: Vec<_> = map.iter().map(|(range, value)| (range, Some(value.1))).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn only_the_slot_needs_memory() {
    let (slot, failed) = fail::nth(1, Slot::<Numbered>::new);
    assert!(failed && slot.is_err());

    let slot = Slot::new();
    let (_, failed) = fail::nth(1, || {
        let mut map = Map::new();
        if let Ok(slot) = slot {
            map.insert(u64::MAX, Numbered(0, 1), slot);
        }
        map.take_while(IovaRange::ALL, |_, _| true).is_some()
    });
    assert!(!failed);
}
