// SPDX-License-Identifier: GPL-2.0

//! Guests' I/O page tables against a model that looks at each page alone, and shadows against a
//! model that is an array of pages.

// A panic is how a test fails.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use crate::{
    iova::{
        nested::{
            diff::{
                self,
                Change,
                Compared,
                Extent,
                FoundExtent,
                Pages,
                Unit, //
            },
            format::{
                EntryAccess,
                Format,
                Meaning,
                Reason,
                SS3,
                SS4,
                ZPCI_RF,
                ZPCI_RS,
                ZPCI_RT,
                ZPCI_ST, //
            },
            walk::{
                walk,
                Leaf,
                Root,
                Visitor,
                WalkFault, //
            },
        },
        IovaRange,
        Map,
        Starts, //
    },
    settings,
};
use kernel::{
    error::Result,
    fail,
    prelude::*, //
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

const PAGE: u64 = 4096;
const FORMATS: [&Format; 6] = [&SS4, &SS3, &ZPCI_ST, &ZPCI_RT, &ZPCI_RS, &ZPCI_RF];
/// Pages of guest memory.
const GUEST: u64 = 24;

/// A guest's memory, of which some pages are missing, and what was told of its tables.
#[derive(Debug)]
struct Guest {
    words: Vec<u64>,
    missing: Vec<bool>,
    budget: usize,
    leaves: Vec<Leaf>,
    faults: Vec<WalkFault>,
}

impl Visitor for Guest {
    fn read(&mut self, gpa: u64, entries: &mut [u64]) -> Result<bool> {
        assert_eq!(gpa / PAGE, (gpa + entries.len() as u64 * 8 - 1) / PAGE);
        let page = (gpa / PAGE) as usize;
        if self.missing.get(page).is_none_or(|missing| *missing) {
            return Ok(false);
        }
        let at = (gpa / 8) as usize;
        entries.copy_from_slice(&self.words[at..at + entries.len()]);
        Ok(true)
    }

    fn step(&mut self) -> Result {
        self.budget = self.budget.checked_sub(1).ok_or(ENOMEM)?;
        Ok(())
    }

    fn leaf(&mut self, leaf: Leaf) -> Result {
        self.leaves.push(leaf);
        Ok(())
    }

    fn fault(&mut self, fault: WalkFault) -> Result {
        self.faults.push(fault);
        Ok(())
    }
}

impl Guest {
    /// What the hardware would do with one address, step by step.
    fn translate(&self, format: &Format, root: Root, iova: u64) -> Translated {
        let (mut table, mut access) = (root.gpa, root.access);
        for (depth, level) in format.levels.iter().enumerate() {
            let number = (format.levels.len() - depth) as u16;
            let at = table + level.index(iova) * 8;
            let page = (at / PAGE) as usize;
            if self.missing.get(page).is_none_or(|missing| *missing) {
                return Translated::Fault(Reason::TableOutside, number);
            }
            let entry = format.entry(self.words[(at / 8) as usize]);
            match level.decode(entry, root.gpa_bits) {
                Meaning::Absent => return Translated::Nothing,
                Meaning::Bad(reason) => return Translated::Fault(reason, number),
                Meaning::Table(next, allowed) => {
                    (table, access) = (next, access.and(allowed));
                }
                Meaning::Leaf(gpa, allowed) => {
                    access = access.and(allowed);
                    if access.is_none() {
                        return Translated::Nothing;
                    }
                    let offset = iova & (level.span() - 1) & !(PAGE - 1);
                    return Translated::Page(gpa + offset, access, number);
                }
            }
            if access.is_none() {
                return Translated::Nothing;
            }
        }
        unreachable!()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Translated {
    Nothing,
    Page(u64, EntryAccess, u16),
    Fault(Reason, u16),
}

/// Entries that mostly mean something in `format`: tables and pages of the guest's memory.
fn entry(format: &'static Format) -> impl Strategy<Value = u64> {
    let vtd = prop_oneof![
        4 => (0..GUEST, 1u64..4).prop_map(|(page, access)| (page * PAGE) | access),
        1 => (0..GUEST + 3, 0u64..8, any::<bool>())
            .prop_map(|(page, low, large)| (page * PAGE) | low | (u64::from(large) << 7)),
        1 => (0u64..8, 1u64..4).prop_map(|(at, access)| (at << 21) | access | (1 << 7)),
        1 => Just((1 << 41) | 3),
        1 => any::<u64>(),
        2 => Just(0),
    ];
    let zpci = prop_oneof![
        4 => (0..GUEST / 4, 0u64..4, any::<bool>(), 0u64..3).prop_map(|(at, kind, protected, half)| {
            let table = at * 4 * PAGE;
            match kind {
                0 => (table + half * 2048) | (u64::from(protected) << 9),
                kind => table | (kind << 2) | 3 | (u64::from(protected) << 9),
            }
        }),
        2 => (0..GUEST, any::<bool>()).prop_map(|(page, no)| (page * PAGE) | (u64::from(no) << 10)),
        1 => any::<u64>(),
        3 => Just(0x420),
    ];
    match format.big_endian {
        true => zpci.prop_map(u64::to_be).boxed(),
        false => vtd.prop_map(u64::to_le).boxed(),
    }
}

/// Memory full of tables, most of their entries empty.
fn guest() -> impl Strategy<Value = (&'static Format, Guest)> {
    prop::sample::select(&FORMATS[..]).prop_flat_map(|format| {
        let at = (0..GUEST, prop_oneof![Just(0u64), Just(511), 0u64..512]);
        let words = prop::collection::vec((at, entry(format)), 1..120);
        let missing = prop::collection::vec(prop::bool::weighted(0.1), GUEST as usize);
        (words, missing).prop_map(move |(some, missing)| {
            let empty = if format.big_endian {
                0x420u64.to_be()
            } else {
                0
            };
            let mut words = vec![empty; (GUEST * 512) as usize];
            for ((page, index), entry) in some {
                words[(page * 512 + index) as usize] = entry;
            }
            let guest = Guest {
                words,
                missing,
                budget: 3000,
                leaves: Vec::new(),
                faults: Vec::new(),
            };
            (format, guest)
        })
    })
}

/// An address that has small numbers as indices, or large ones.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..1 << 25,
        any::<u64>(),
        (0u32..64).prop_map(|bit| 1 << bit),
        (0u32..64).prop_map(|bit| (1 << bit) - 1),
    ]
}

proptest! {
    #![proptest_config(settings(2000))]

    #[test]
    fn walks_are_what_the_hardware_does(
        (format, mut guest) in guest(),
        (a, b) in (address(), address()),
        probes in prop::collection::vec(address(), 40),
        (read, write) in (any::<bool>(), any::<bool>()),
    ) {
        let (a, b) = (a & format.last, b & format.last);
        let range = IovaRange::from_last(a.min(b) & !(PAGE - 1), a.max(b) | (PAGE - 1)).unwrap();
        let root = Root { gpa: 0, gpa_bits: 40, access: EntryAccess { read, write: write || !read } };
        let done = walk(format, root, range, &mut guest);
        prop_assert!(done == Ok(()) || (done == Err(ENOMEM) && guest.budget == 0));
        // In order, apart, and each with an address in the range.
        for (one, next) in guest.leaves.iter().zip(&guest.leaves[guest.leaves.len().min(1)..]) {
            prop_assert!(one.range.last() < next.range.start());
        }
        prop_assert!(guest.leaves.iter().all(|leaf| leaf.range.overlaps(&range)));
        for (one, next) in guest.faults.iter().zip(&guest.faults[guest.faults.len().min(1)..]) {
            prop_assert!(one.iova < next.iova);
        }
        prop_assert!(guest.faults.iter().all(|f| range.start() <= f.iova && f.iova <= range.last()));
        if done.is_err() {
            return Ok(());
        }
        // The faults themselves, the edges of all leaves, and addresses here and there.
        let mut all: Vec<u64> = probes.iter().map(|at| at & format.last).collect();
        for leaf in &guest.leaves {
            let (start, last) = (leaf.range.start(), leaf.range.last());
            all.extend([start, last, last.wrapping_add(1), start.wrapping_sub(1)]);
        }
        all.extend(guest.faults.iter().map(|fault| fault.iova));
        for iova in all {
            if iova < range.start() || iova > range.last() {
                continue;
            }
            let leaf = guest.leaves.iter().find(|leaf| {
                leaf.range.start() <= iova && iova <= leaf.range.last()
            });
            let expected = guest.translate(format, root, iova);
            if let Some(leaf) = leaf {
                let gpa = leaf.gpa + (iova - leaf.range.start()) / PAGE * PAGE;
                prop_assert_eq!(expected, Translated::Page(gpa, leaf.access, leaf.level));
            } else {
                prop_assert!(!matches!(expected, Translated::Page(..)));
            }
            // A fault is told once, where it begins.
            for fault in guest.faults.iter().filter(|fault| fault.iova == iova) {
                prop_assert_eq!(expected, Translated::Fault(fault.reason, fault.level));
            }
        }
    }
}

/// Frames, an access, and where they may be cut: what the kernel pins.
#[derive(Clone, Debug)]
struct Frames {
    frames: Vec<u64>,
    class: u8,
}

impl Pages for Frames {
    fn cut_front(&mut self, npages: usize) -> Result<Self> {
        assert!(npages != 0 && npages < self.frames.len());
        assert_ne!(UNITS[usize::from(self.class)], u64::MAX);
        KBox::new((), GFP_KERNEL)?;
        Ok(Self {
            frames: self.frames.drain(..npages).collect(),
            class: self.class,
        })
    }
}

#[derive(Debug)]
struct Mapped {
    start: u64,
    frames: Frames,
}

/// Pages of the units of each class.
const UNITS: [u64; 4] = [1, 1, 4, u64::MAX];

impl Starts for Mapped {
    fn start(&self) -> u64 {
        self.start
    }
}

impl Extent for Mapped {
    type New = Frames;

    fn unit(&self) -> Unit {
        match UNITS[usize::from(self.frames.class)] {
            u64::MAX => Unit::Whole,
            pages => Unit::Bytes(pages * PAGE),
        }
    }

    fn cut_front(&mut self, npages: usize) -> Result<Self> {
        let unit = UNITS[usize::from(self.frames.class)];
        assert_eq!((self.start / PAGE + npages as u64) % unit, 0);
        let front = Self {
            start: self.start,
            frames: self.frames.cut_front(npages)?,
        };
        self.start += npages as u64 * PAGE;
        Ok(front)
    }

    fn compare(&self, at: usize, new: &Frames, new_at: usize, most: usize) -> Compared {
        if UNITS[usize::from(self.frames.class)] == u64::MAX {
            // As a whole or not at all.
            let all = (at, new_at, most) == (0, 0, new.frames.len());
            return match all && new.class == self.frames.class && new.frames == self.frames.frames {
                true => Compared::Same(most),
                false => Compared::Other(most),
            };
        }
        let (old, class) = (&self.frames.frames[at..at + most], self.frames.class);
        let new_frames = &new.frames[new_at..new_at + most];
        let same = |i: usize| class == new.class && old[i] == new_frames[i];
        let first = same(0);
        let count = (1..most).find(|i| same(*i) != first).unwrap_or(most);
        match first {
            true => Compared::Same(count),
            false => Compared::Other(count),
        }
    }
}

/// I/O pages of the model.
const IO: usize = 48;

/// What a walk finds: runs of pages and gaps.
fn found() -> impl Strategy<Value = Vec<(usize, Frames)>> {
    let run = (0usize..6, prop::collection::vec(0u64..3, 1..9), 0u8..4);
    prop::collection::vec(run, 0..8).prop_map(|runs| {
        let mut at = 0;
        let mut all = Vec::new();
        for (gap, frames, class) in runs {
            at += gap;
            let len = frames.len();
            all.push((at, Frames { frames, class }));
            at += len;
        }
        all
    })
}

fn pages(start: usize, count: usize) -> IovaRange {
    IovaRange::from_size(start as u64 * PAGE, count as u64 * PAGE).unwrap()
}

/// What each page shows.
fn shown(record: &Map<Mapped>) -> Vec<Option<(u64, u8)>> {
    let mut all = vec![None; IO];
    for (range, mapped) in record.iter() {
        let first = (range.start() / PAGE) as usize;
        assert_eq!(diff::npages(range), mapped.frames.frames.len());
        for (i, frame) in mapped.frames.frames.iter().enumerate() {
            assert_eq!(all[first + i], None);
            all[first + i] = Some((*frame, mapped.frames.class));
        }
    }
    all
}

/// Has the record be what was found. Tells which pages were mapped anew.
fn apply(record: &mut Map<Mapped>, change: Change<Mapped>) -> Vec<bool> {
    for range in &change.leaving {
        let left = record.remove(*range).unwrap();
        assert_eq!(left.start, range.start());
        assert_eq!(left.frames.frames.len(), diff::npages(*range));
    }
    let mut anew = vec![false; IO];
    for entering in change.entering {
        assert!(record.first_overlap(entering.range).is_none());
        assert_eq!(entering.pages.frames.len(), diff::npages(entering.range));
        let first = (entering.range.start() / PAGE) as usize;
        anew[first..first + entering.pages.frames.len()].fill(true);
        let mapped = Mapped {
            start: entering.range.start(),
            frames: entering.pages,
        };
        record.insert(entering.range.last(), mapped, entering.slot);
    }
    anew
}

proptest! {
    #![proptest_config(settings(300))]

    #[test]
    fn shadows_show_what_was_found(steps in prop::collection::vec(
        (found(), 0usize..IO, 1usize..IO, any::<bool>()), 1..12))
    {
        let mut record = Map::new();
        for (all, start, count, skip) in steps {
            let asked = pages(start, count.min(IO - start));
            let range = diff::widened(&record, asked);
            prop_assert!(range.contains(&asked));
            prop_assert_eq!(diff::widened(&record, range), range);
            let before = shown(&record);
            // What the walk finds of the range.
            let mut target = before.clone();
            let (first, last) = (range.start() / PAGE, range.last() / PAGE);
            target[first as usize..=last as usize].fill(None);
            let mut items = Vec::new();
            for (at, mut frames) in all {
                let Some(part) = pages(at, frames.frames.len()).intersection(&range) else {
                    continue;
                };
                let offset = (part.start() / PAGE) as usize - at;
                frames.frames = frames.frames[offset..][..diff::npages(part)].to_vec();
                for (i, frame) in frames.frames.iter().enumerate() {
                    target[(part.start() / PAGE) as usize + i] = Some((*frame, frames.class));
                }
                let same = diff::is_same(&record, part, &frames);
                if same {
                    prop_assert_eq!(
                        &before[(part.start() / PAGE) as usize..][..diff::npages(part)],
                        &target[(part.start() / PAGE) as usize..][..diff::npages(part)]
                    );
                }
                let found = if same && skip { FoundExtent::Same } else { FoundExtent::New(frames) };
                items.push((part, found));
            }
            // Each of its allocations fails once.
            let nth = |nth| {
                let items = items.iter().map(|(part, found)| (*part, match found {
                    FoundExtent::Same => FoundExtent::Same,
                    FoundExtent::New(frames) => FoundExtent::New(frames.clone()),
                }));
                (nth, items.collect::<Vec<_>>())
            };
            let mut count = 1;
            let change = loop {
                let (n, items) = nth(count);
                match fail::nth(n, || Change::of(&mut record, range, items)) {
                    (Err(err), true) => prop_assert_eq!(err, ENOMEM),
                    (done, _) => break done.unwrap(),
                }
                prop_assert_eq!(&shown(&record), &before);
                count += 1;
            };
            let anew = apply(&mut record, change);
            prop_assert_eq!(&shown(&record), &target);
            // What did not change was not touched, where pages can be cut apart.
            for page in 0..IO {
                let unit = |shown: &Option<(u64, u8)>| shown.is_some_and(|s| UNITS[usize::from(s.1)] == 1);
                if anew[page] && before[page] == target[page] {
                    prop_assert!(!unit(&before[page]));
                }
            }
        }
    }
}
