// SPDX-License-Identifier: GPL-2.0

//! Formats of guests' I/O page tables, as tables of masks and shifts.
//!
//! Pure. What an entry means is decided by [`Level::decode`] on a value that was read once; no
//! format has code of its own.
//!
//! | format   | after                                                               |
//! |----------|---------------------------------------------------------------------|
//! | `SS3`, `SS4` | Intel VT-d, second stage, three and four levels                 |
//! | `ZPCI_*` | s390, from a segment table or a region third, second or first table |

/// What devices may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryAccess {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl EntryAccess {
    /// Everything.
    pub(crate) const ALL: Self = Self {
        read: true,
        write: true,
    };

    /// What both allow.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            read: self.read && other.read,
            write: self.write && other.write,
        }
    }

    /// Whether nothing is allowed.
    pub(crate) fn is_none(self) -> bool {
        !self.read && !self.write
    }
}

/// Why an entry, or what it says, cannot be used: `fault_reason` of `struct vfio_kvm_walk_result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Reason {
    /// A table is not in the guest's memory.
    TableOutside = 1,
    /// The memory that is mapped is not the guest's.
    TargetOutside = 2,
    /// Writing is allowed to memory that the guest may only read.
    ReadOnly = 3,
    /// Bits are set that must not be.
    Reserved = 4,
    /// The address of a large page is not a multiple of its size.
    Misaligned = 5,
    /// The memory cannot be pinned.
    NotPinned = 6,
    /// The I/O address is reserved, or not translated by some group's IOMMU.
    ReservedIova = 7,
    /// The table is one for another level.
    WrongType = 8,
    /// The address has more bits than the guest's addresses have.
    BeyondGpaBits = 9,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Nothing is mapped.
    Absent,
    /// It cannot be used.
    Bad(Reason),
    /// There is a table below, at this guest address.
    Table(u64, EntryAccess),
    /// Memory is mapped, from this guest address on.
    Leaf(u64, EntryAccess),
}

/// Some bits of an entry, and what they are to be.
#[derive(Clone, Copy, Debug)]
struct BitTest {
    mask: u64,
    value: u64,
}

impl BitTest {
    const fn set(mask: u64) -> Self {
        Self { mask, value: mask }
    }

    const fn clear(mask: u64) -> Self {
        Self { mask, value: 0 }
    }

    const fn are(self, entry: u64) -> bool {
        entry & self.mask == self.value
    }
}

/// The entries of one level's tables.
#[derive(Debug)]
pub(crate) struct Level {
    /// Entries are for `1 << shift` bytes.
    shift: u32,
    /// A table has `1 << bits` entries.
    bits: u32,
    /// How entries are that map nothing.
    absent: BitTest,
    /// How those are of this level, and not of another one.
    kind: BitTest,
    /// How bits are that mean nothing else.
    fixed: BitTest,
    /// How an entry is that maps memory.
    leaf: BitTest,
    /// How an entry is that allows reading.
    read: BitTest,
    /// The same for writing.
    write: BitTest,
    /// The address of a table.
    table: u64,
    /// The address of memory.
    target: u64,
}

impl Level {
    /// Bytes that an entry is for.
    pub(crate) const fn span(&self) -> u64 {
        1u64.wrapping_shl(self.shift)
    }

    /// How many entries are for so many bytes.
    pub(crate) const fn number(&self, bytes: u64) -> u64 {
        bytes.wrapping_shr(self.shift)
    }

    /// Which entry of its table is for `iova`.
    pub(crate) const fn index(&self, iova: u64) -> u64 {
        self.number(iova) & self.count().wrapping_sub(1)
    }

    /// How many entries a table has.
    pub(crate) const fn count(&self) -> u64 {
        1u64.wrapping_shl(self.bits)
    }

    /// The guest address that an entry names, of memory or a table.
    pub(crate) fn address(&self, entry: u64) -> u64 {
        let is_leaf = self.leaf.are(entry);
        entry & if is_leaf { self.target } else { self.table }
    }

    /// What an entry says, in a guest whose addresses have `gpa_bits` bits.
    pub(crate) fn decode(&self, entry: u64, gpa_bits: u32) -> Meaning {
        if self.absent.are(entry) {
            return Meaning::Absent;
        }
        if !self.kind.are(entry) {
            return Meaning::Bad(Reason::WrongType);
        }
        if !self.fixed.are(entry) {
            return Meaning::Bad(Reason::Reserved);
        }
        let access = EntryAccess {
            read: self.read.are(entry),
            write: self.write.are(entry),
        };
        let is_leaf = self.leaf.are(entry);
        let address = self.address(entry);
        if address.checked_shr(gpa_bits).unwrap_or(0) != 0 {
            return Meaning::Bad(Reason::BeyondGpaBits);
        }
        if !is_leaf {
            return Meaning::Table(address, access);
        }
        if address & self.span().wrapping_sub(1) != 0 {
            return Meaning::Bad(Reason::Misaligned);
        }
        Meaning::Leaf(address, access)
    }
}

/// A format of page tables.
#[derive(Debug)]
pub(crate) struct Format {
    /// From the root down; the last one maps pages of 4 KiB.
    pub(crate) levels: &'static [Level],
    /// Whether entries are big-endian.
    pub(crate) big_endian: bool,
    /// What the address of the root must be a multiple of.
    pub(crate) root_align: u64,
    /// The last I/O address that a table translates.
    pub(crate) last: u64,
}

/// Levels that a format has at most.
pub(crate) const MAX_LEVELS: usize = 5;

impl Format {
    /// An entry as a number, of eight bytes that were read from memory.
    pub(crate) fn entry(&self, bytes: u64) -> u64 {
        match self.big_endian {
            true => u64::from_be(bytes),
            false => u64::from_le(bytes),
        }
    }
}

/// A level of VT-d's second stage. Bits that the hardware ignores, or that change what is cached
/// only, are not looked at.
const fn vtd(number: u32) -> Level {
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    const READ: u64 = 1 << 0;
    const WRITE: u64 = 1 << 1;
    const LARGE: u64 = 1 << 7;
    Level {
        shift: 9u32.wrapping_mul(number).wrapping_add(3),
        bits: 9,
        absent: BitTest::clear(READ | WRITE),
        kind: BitTest::clear(0),
        // There are large pages of 2 MiB and of 1 GiB.
        fixed: BitTest::clear(if number == 4 { LARGE } else { 0 }),
        leaf: match number {
            1 => BitTest::clear(0),
            _ => BitTest::set(LARGE),
        },
        read: BitTest::set(READ),
        write: BitTest::set(WRITE),
        table: ADDRESS,
        target: ADDRESS,
    }
}

/// VT-d, second stage, four levels.
pub(crate) static SS4: Format = vtd_format(&[vtd(4), vtd(3), vtd(2), vtd(1)], 48);
/// VT-d, second stage, three levels.
pub(crate) static SS3: Format = vtd_format(&[vtd(3), vtd(2), vtd(1)], 39);

const fn vtd_format(levels: &'static [Level], bits: u32) -> Format {
    Format {
        levels,
        big_endian: false,
        root_align: 1 << 12,
        last: below(bits),
    }
}

/// The last of the addresses with so many bits.
const fn below(bits: u32) -> u64 {
    match bits {
        64.. => u64::MAX,
        bits => 1u64.wrapping_shl(bits).wrapping_sub(1),
    }
}

const ZPCI_INVALID: u64 = 0x20;
const ZPCI_PAGE_INVALID: u64 = 0x400;
const ZPCI_PROTECTED: u64 = 0x200;
const ZPCI_TYPE: u64 = 0xc;
/// Offset and length of the table below: all of it is there.
const ZPCI_EXTENT: BitTest = BitTest {
    mask: 0xc3,
    value: 0x03,
};

/// A level of s390's region and segment tables.
const fn zpci(shift: u32, kind: u64, fixed: BitTest, table: u64) -> Level {
    Level {
        shift,
        bits: 11,
        absent: BitTest::set(ZPCI_INVALID),
        kind: BitTest {
            mask: ZPCI_TYPE,
            value: kind,
        },
        fixed,
        // No entry is so: of no bits, one cannot be set.
        leaf: BitTest { mask: 0, value: 1 },
        read: BitTest::clear(0),
        write: BitTest::clear(ZPCI_PROTECTED),
        table,
        target: 0,
    }
}

const ZPCI_REGION: u64 = !0x3fff;
const ZPCI_SEGMENT: Level = zpci(20, 0x0, BitTest::clear(0), !0x7ff);
const ZPCI_THIRD: Level = zpci(31, 0x4, ZPCI_EXTENT, ZPCI_REGION);
const ZPCI_SECOND: Level = zpci(42, 0x8, ZPCI_EXTENT, ZPCI_REGION);
const ZPCI_FIRST: Level = zpci(53, 0xc, ZPCI_EXTENT, ZPCI_REGION);
const ZPCI_PAGE: Level = Level {
    shift: 12,
    bits: 8,
    absent: BitTest::set(ZPCI_PAGE_INVALID),
    kind: BitTest::clear(0),
    fixed: BitTest::clear(0),
    leaf: BitTest::clear(0),
    read: BitTest::clear(0),
    write: BitTest::clear(ZPCI_PROTECTED),
    table: 0,
    target: !0xfff,
};

/// s390, from a segment table.
pub(crate) static ZPCI_ST: Format = zpci_format(&[ZPCI_SEGMENT, ZPCI_PAGE], 31);
/// s390, from a region third table.
pub(crate) static ZPCI_RT: Format = zpci_format(&[ZPCI_THIRD, ZPCI_SEGMENT, ZPCI_PAGE], 42);
/// s390, from a region second table.
pub(crate) static ZPCI_RS: Format =
    zpci_format(&[ZPCI_SECOND, ZPCI_THIRD, ZPCI_SEGMENT, ZPCI_PAGE], 53);
/// s390, from a region first table.
pub(crate) static ZPCI_RF: Format = zpci_format(
    &[ZPCI_FIRST, ZPCI_SECOND, ZPCI_THIRD, ZPCI_SEGMENT, ZPCI_PAGE],
    64,
);

const fn zpci_format(levels: &'static [Level], bits: u32) -> Format {
    Format {
        levels,
        big_endian: true,
        root_align: 1 << 14,
        last: below(bits),
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_kvm_format))]
mod tests {
    use super::*;

    const RO: EntryAccess = EntryAccess {
        read: true,
        write: false,
    };
    const WO: EntryAccess = EntryAccess {
        read: false,
        write: true,
    };

    fn says(format: &Format, level: usize, entry: u64) -> Option<Meaning> {
        Some(format.levels.get(level)?.decode(entry, 52))
    }

    #[test]
    fn levels_meet() {
        for format in [&SS3, &SS4, &ZPCI_ST, &ZPCI_RT, &ZPCI_RS, &ZPCI_RF] {
            assert!(format.levels.len() <= MAX_LEVELS);
            let mut shift = 12;
            for level in format.levels.iter().rev() {
                assert_eq!(level.shift, shift);
                shift += level.bits;
            }
            assert_eq!(format.last, below(shift));
            let entries = format.levels.first().map(Level::count);
            assert_eq!(entries, Some(format.root_align / 8));
        }
    }

    #[test]
    fn reasons_have_the_numbers_of_the_header() {
        let all = [
            Reason::TableOutside,
            Reason::TargetOutside,
            Reason::ReadOnly,
            Reason::Reserved,
            Reason::Misaligned,
            Reason::NotPinned,
            Reason::ReservedIova,
            Reason::WrongType,
            Reason::BeyondGpaBits,
        ];
        assert!(all.iter().map(|reason| *reason as u16).eq(1..=9));
    }

    #[test]
    fn second_stage() {
        use Meaning::*;

        let at = |level, entry| says(&SS4, level, entry);
        // Neither read nor write: the rest does not matter.
        assert_eq!(at(0, !3), Some(Absent));
        assert_eq!(at(3, !3), Some(Absent));
        assert_eq!(at(0, 0x1003), Some(Table(0x1000, EntryAccess::ALL)));
        assert_eq!(at(1, 0x1001), Some(Table(0x1000, RO)));
        assert_eq!(at(2, 0x1002), Some(Table(0x1000, WO)));
        assert_eq!(at(0, 0x1083), Some(Bad(Reason::Reserved)));
        assert_eq!(
            at(1, 0x4000_0083),
            Some(Leaf(0x4000_0000, EntryAccess::ALL))
        );
        assert_eq!(at(1, 0x4020_0083), Some(Bad(Reason::Misaligned)));
        assert_eq!(
            at(2, 0x4020_0083),
            Some(Leaf(0x4020_0000, EntryAccess::ALL))
        );
        assert_eq!(at(2, 0x4020_1083), Some(Bad(Reason::Misaligned)));
        // Bits for software and caches, and the one that is for large pages further up.
        assert_eq!(at(3, 0xfff0_0000_0000_1ffd), Some(Leaf(0x1000, RO)));
        assert_eq!(
            SS4.levels.get(3).map(|level| level.decode(1 << 40 | 3, 40)),
            Some(Bad(Reason::BeyondGpaBits))
        );
        assert_eq!(at(3, 1 << 51 | 3), Some(Leaf(1 << 51, EntryAccess::ALL)));
    }

    #[test]
    fn zpci_tables() {
        use Meaning::*;

        let at = |level, entry| says(&ZPCI_RF, level, entry);
        assert_eq!(at(0, 0x4000 | 0x2f), Some(Absent));
        assert_eq!(at(0, 0x4000 | 0xf), Some(Table(0x4000, EntryAccess::ALL)));
        assert_eq!(at(0, 0x4000 | 0xb), Some(Bad(Reason::WrongType)));
        assert_eq!(at(1, 0x4000 | 0xb), Some(Table(0x4000, EntryAccess::ALL)));
        assert_eq!(at(2, 0x4000 | 0x7), Some(Table(0x4000, EntryAccess::ALL)));
        assert_eq!(at(2, 0x4000 | 0x207), Some(Table(0x4000, RO)));
        assert_eq!(at(2, 0x4000 | 0x6), Some(Bad(Reason::Reserved)));
        assert_eq!(at(2, 0x4000 | 0x47), Some(Bad(Reason::Reserved)));
        assert_eq!(at(3, 0x4800), Some(Table(0x4800, EntryAccess::ALL)));
        assert_eq!(at(3, 0x4804), Some(Bad(Reason::WrongType)));
        assert_eq!(at(4, 0x5000), Some(Leaf(0x5000, EntryAccess::ALL)));
        assert_eq!(at(4, 0x5200), Some(Leaf(0x5000, RO)));
        assert_eq!(at(4, 0x5400), Some(Absent));
        assert_eq!(at(4, 1 << 52), Some(Bad(Reason::BeyondGpaBits)));
        let bytes = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0x52, 0]);
        assert_eq!(ZPCI_RF.entry(bytes), 0x5200);
    }
}
