// SPDX-License-Identifier: GPL-2.0

//! Walks a guest's I/O page table, from the first address of a range to its last.
//!
//! Pure: guest memory is what a [`Visitor`] reads. Each entry is read once for a decision, and the
//! depth is that of the format, so a table that contains itself ends. Tables are walked, not pages:
//! an entry that maps nothing costs the same whatever it spans.

use kernel::prelude::*;

use super::format::{
    EntryAccess,
    Format,
    Level,
    Meaning,
    Reason,
    MAX_LEVELS, //
};
use crate::iova::IovaRange;

/// Entries that are read at a time, at most.
const CHUNK: usize = 16;
/// Bytes of an entry.
const ENTRY: u64 = 8;
/// Guest memory is there or not in pieces of this size.
const GUEST_PAGE: u64 = 4096;

/// A table, and which of a guest's addresses there are.
#[derive(Clone, Copy)]
pub(crate) struct Root {
    /// The address of the table.
    pub(crate) gpa: u64,
    /// Bits that a guest address has.
    pub(crate) gpa_bits: u32,
    /// What devices may do at most.
    pub(crate) access: EntryAccess,
}

/// An entry that maps memory. All that it maps is told, also what lies outside of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) range: IovaRange,
    /// The guest address of the first byte.
    pub(crate) gpa: u64,
    pub(crate) access: EntryAccess,
    /// 1 for an entry for 4 KiB.
    pub(crate) level: u16,
}

/// An entry, or what it says, that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalkFault {
    /// The first address of the range that it concerns.
    pub(crate) iova: u64,
    /// The guest address of the memory or the table that the entry names; of the entry itself if
    /// that is what is wrong.
    pub(crate) gpa: u64,
    pub(crate) reason: Reason,
    /// As in [`Leaf`].
    pub(crate) level: u16,
}

/// What a walk reads from and tells.
pub(crate) trait Visitor {
    /// Reads memory of the guest, all of it in one of its pages. Returns whether it is there.
    ///
    /// # Errors
    ///
    /// Ends the walk, as do those of the others.
    fn read(&mut self, gpa: u64, entries: &mut [u64]) -> Result<bool>;

    /// There is one more entry that says something.
    fn step(&mut self) -> Result;

    /// Memory is mapped; in ascending order.
    fn leaf(&mut self, leaf: Leaf) -> Result;

    /// Something is wrong.
    fn fault(&mut self, fault: WalkFault) -> Result;
}

/// A table on the way down, with entries that were read.
#[derive(Clone, Copy)]
struct Frame {
    table: u64,
    access: EntryAccess,
    /// Which entry the first one is, and how many there are.
    first: u64,
    count: usize,
    entries: [u64; CHUNK],
}

impl Frame {
    const fn new(table: u64, access: EntryAccess) -> Self {
        Self {
            table,
            access,
            first: 0,
            count: 0,
            entries: [0; CHUNK],
        }
    }

    /// The guest address of an entry.
    fn gpa(&self, index: u64) -> u64 {
        self.table.wrapping_add(index.wrapping_mul(ENTRY))
    }

    /// An entry; `None` if it is not in the guest's memory. No more of `wanted` entries are read
    /// with it than needed.
    fn entry<V: Visitor>(
        &mut self,
        index: u64,
        wanted: u64,
        visitor: &mut V,
    ) -> Result<Option<u64>> {
        let known = index
            .checked_sub(self.first)
            .filter(|at| *at < self.count as u64);
        let at = match known {
            Some(at) => at,
            None => {
                let gpa = self.gpa(index);
                let in_page = GUEST_PAGE.wrapping_sub(gpa % GUEST_PAGE) / ENTRY;
                let count = wanted.min(in_page).min(CHUNK as u64) as usize;
                self.first = index;
                self.count = 0;
                let entries = self.entries.get_mut(..count).ok_or(EINVAL)?;
                if !visitor.read(gpa, entries)? {
                    return Ok(None);
                }
                self.count = count;
                0
            }
        };
        Ok(self.entries.get(at as usize).copied())
    }
}

/// Walks `range`, which the format can translate.
///
/// # Errors
///
/// What the visitor says.
pub(crate) fn walk<V: Visitor>(
    format: &Format,
    root: Root,
    range: IovaRange,
    visitor: &mut V,
) -> Result {
    let mut frames = [Frame::new(root.gpa, root.access); MAX_LEVELS];
    let (mut depth, mut at) = (0usize, range.start());
    while let (Some(level), Some(frame)) = (format.levels.get(depth), frames.get_mut(depth)) {
        let number = format.levels.len().saturating_sub(depth) as u16;
        let index = level.index(at);
        let left = level
            .number(range.last().wrapping_sub(at))
            .saturating_add(2);
        let wanted = level.count().wrapping_sub(index).min(left);
        let fault = |gpa, reason| WalkFault {
            iova: at,
            gpa,
            reason,
            level: number,
        };
        let Some(bytes) = frame.entry(index, wanted, visitor)? else {
            // What is left of the table on this page of the guest's.
            let gpa = frame.gpa(index);
            visitor.fault(fault(gpa, Reason::TableOutside))?;
            let on_page = GUEST_PAGE.wrapping_sub(gpa % GUEST_PAGE) / ENTRY;
            let skipped = on_page.min(level.count().wrapping_sub(index));
            let last = last_of(level, at, skipped);
            match next(format, &mut depth, last, range) {
                Some(next) => at = next,
                None => return Ok(()),
            }
            continue;
        };
        let meaning = level.decode(format.entry(bytes), root.gpa_bits);
        if meaning != Meaning::Absent {
            visitor.step()?;
        }
        match meaning {
            Meaning::Absent => {}
            Meaning::Bad(Reason::BeyondGpaBits) => {
                let entry = format.entry(bytes);
                visitor.fault(fault(level.address(entry), Reason::BeyondGpaBits))?;
            }
            Meaning::Bad(reason) => visitor.fault(fault(frame.gpa(index), reason))?,
            Meaning::Table(table, access) => {
                let access = frame.access.and(access);
                // Nothing below it is allowed: as if it were not there.
                if !access.is_none() {
                    depth = depth.wrapping_add(1);
                    if let Some(below) = frames.get_mut(depth) {
                        *below = Frame::new(table, access);
                    }
                    continue;
                }
            }
            Meaning::Leaf(gpa, access) => {
                let access = frame.access.and(access);
                let start = at & !level.span().wrapping_sub(1);
                let leaf = IovaRange::from_last(start, last_of(level, at, 1));
                if let Some(range) = leaf.filter(|_| !access.is_none()) {
                    visitor.leaf(Leaf {
                        range,
                        gpa,
                        access,
                        level: number,
                    })?;
                }
            }
        }
        match next(format, &mut depth, last_of(level, at, 1), range) {
            Some(next) => at = next,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// The last address that the entry for `iova` and the ones behind it, `count` in all, are for.
fn last_of(level: &Level, iova: u64, count: u64) -> u64 {
    let start = iova & !level.span().wrapping_sub(1);
    start
        .wrapping_add(level.span().wrapping_mul(count))
        .wrapping_sub(1)
}

/// The address behind `last`, if it is in `range`, and the table to look into for it.
fn next(format: &Format, depth: &mut usize, last: u64, range: IovaRange) -> Option<u64> {
    let at = last.checked_add(1).filter(|at| *at <= range.last())?;
    // Up, as long as it is the first address of a table.
    while let Some(level) = format.levels.get(*depth).filter(|_| *depth != 0) {
        if level.index(at) != 0 || at & level.span().wrapping_sub(1) != 0 {
            break;
        }
        *depth = depth.wrapping_sub(1);
    }
    Some(at)
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_kvm_walk))]
mod tests {
    use super::{
        super::format::{
            SS3,
            SS4,
            ZPCI_RT, //
        },
        *,
    };

    /// Words of guest memory that are not 0, from the guest address 0 on to `end`.
    struct TestMemory {
        words: KVec<(u64, u64)>,
        end: u64,
        steps: u64,
        leaves: KVec<Leaf>,
        faults: KVec<WalkFault>,
    }

    impl TestMemory {
        fn new(words: &[(u64, u64)]) -> Result<Self> {
            let mut all = KVec::new();
            all.extend_from_slice(words, GFP_KERNEL)?;
            Ok(Self {
                words: all,
                end: 0x10_0000,
                steps: 0,
                leaves: KVec::new(),
                faults: KVec::new(),
            })
        }

        fn walk(&mut self, format: &Format, start: u64, last: u64) -> Result {
            let root = Root {
                gpa: 0x4000,
                gpa_bits: 40,
                access: EntryAccess::ALL,
            };
            let range = IovaRange::from_last(start, last).ok_or(EINVAL)?;
            walk(format, root, range, self)
        }
    }

    impl Visitor for TestMemory {
        fn read(&mut self, gpa: u64, entries: &mut [u64]) -> Result<bool> {
            if gpa >= self.end {
                return Ok(false);
            }
            for (at, entry) in (gpa..).step_by(8).zip(entries) {
                let word = self.words.iter().find(|word| word.0 == at);
                *entry = word.map_or(0, |word| word.1);
            }
            Ok(true)
        }

        fn step(&mut self) -> Result {
            self.steps = self.steps.saturating_add(1);
            if self.steps > 3000 {
                return Err(ENOMEM);
            }
            Ok(())
        }

        fn leaf(&mut self, leaf: Leaf) -> Result {
            Ok(self.leaves.push(leaf, GFP_KERNEL)?)
        }

        fn fault(&mut self, fault: WalkFault) -> Result {
            Ok(self.faults.push(fault, GFP_KERNEL)?)
        }
    }

    fn leaf(start: u64, size: u64, gpa: u64, level: u16) -> Result<Leaf> {
        Ok(Leaf {
            range: IovaRange::from_size(start, size).map_err(|_| EINVAL)?,
            gpa,
            access: EntryAccess::ALL,
            level,
        })
    }

    #[test]
    fn pages_of_all_sizes() -> Result {
        let mut memory = TestMemory::new(&[
            (0x4000, 0x5003),
            (0x5000, 0x6003),
            (0x5008, 0x8000_0083),
            (0x6000, 0x7003),
            (0x6008, 0x40_0083),
            (0x7000, 0x9003),
            (0x7ff8, 0xa003),
        ])?;
        memory.walk(&SS4, 0, SS4.last)?;

        let expected = [
            leaf(0, 0x1000, 0x9000, 1)?,
            leaf(0x1f_f000, 0x1000, 0xa000, 1)?,
            leaf(0x20_0000, 0x20_0000, 0x40_0000, 2)?,
            leaf(0x4000_0000, 0x4000_0000, 0x8000_0000, 3)?,
        ];
        assert!(memory.leaves.iter().eq(&expected));
        assert!(memory.faults.is_empty());
        // Each present entry once.
        assert_eq!(memory.steps, 7);
        Ok(())
    }

    #[test]
    fn part_of_a_large_page_is_told_whole() -> Result {
        let mut memory = TestMemory::new(&[(0x4000, 0x5003), (0x5000, 0x20_0083)])?;
        memory.walk(&SS3, 0x1_0000, 0x1_0fff)?;

        assert!(memory
            .leaves
            .iter()
            .eq(&[leaf(0, 0x20_0000, 0x20_0000, 2)?]));
        Ok(())
    }

    #[test]
    fn a_table_in_itself_ends() -> Result {
        // The last entry says: this table. So the last page that is translated is the table.
        let mut memory = TestMemory::new(&[(0x4ff8, 0x4003)])?;
        memory.walk(&SS4, 0, SS4.last)?;

        assert!(memory
            .leaves
            .iter()
            .eq(&[leaf(SS4.last - 0xfff, 0x1000, 0x4000, 1)?]));
        assert_eq!(memory.steps, 4);
        Ok(())
    }

    #[test]
    fn whoever_counts_ends_it() -> Result {
        let mut memory = TestMemory::new(&[])?;
        for at in 0..512u64 {
            let word = (0x4000 + at * 8, 0x4003);
            memory.words.push(word, GFP_KERNEL)?;
        }
        assert_eq!(memory.walk(&SS4, 0, SS4.last), Err(ENOMEM));
        Ok(())
    }

    #[test]
    fn bad_entries() -> Result {
        let mut memory = TestMemory::new(&[
            (0x4000, 0x5003),
            (0x4008, 0x1083),
            (0x4010, 0x20_0000_0003),
            (0x4018, 1 << 40 | 3),
            (0x5000, 0x20_0000 | 0x83),
        ])?;
        memory.walk(&SS4, 0, SS4.last)?;

        let found = memory
            .faults
            .iter()
            .map(|f| (f.iova, f.gpa, f.reason, f.level));
        let expected = [
            (0, 0x5000, Reason::Misaligned, 3),
            (1 << 39, 0x4008, Reason::Reserved, 4),
            (1 << 40, 0x20_0000_0000, Reason::TableOutside, 3),
            (3 << 39, 1 << 40, Reason::BeyondGpaBits, 4),
        ];
        assert!(found.eq(expected));
        assert!(memory.leaves.is_empty());
        Ok(())
    }

    #[test]
    fn nothing_is_allowed_by_two_that_allow_something() -> Result {
        let mut memory = TestMemory::new(&[(0x4000, 0x5001), (0x5000, 0x40_0082)])?;
        memory.walk(&SS3, 0, SS3.last)?;

        assert!(memory.leaves.is_empty() && memory.faults.is_empty());
        Ok(())
    }

    #[test]
    fn zpci_is_big_endian() -> Result {
        let mut memory = TestMemory::new(&[
            (0x4000 + 8, u64::to_be(0x8007)),
            (0x8000 + 2 * 8, u64::to_be(0xc800)),
            (0xc800 + 3 * 8, u64::to_be(0x7_7000)),
        ])?;
        for at in 0..256u64 {
            if at != 3 {
                let word = (0xc800 + at * 8, u64::to_be(0x400));
                memory.words.push(word, GFP_KERNEL)?;
            }
        }
        let at = (1 << 31) + (2 << 20) + (3 << 12);
        memory.walk(&ZPCI_RT, at - 0x1000, at + 0xfff)?;

        assert!(memory.leaves.iter().eq(&[leaf(at, 0x1000, 0x7_7000, 1)?]));
        Ok(())
    }
}
