// SPDX-License-Identifier: GPL-2.0

//! A range of I/O virtual addresses.
//!
//! Key type: [`IovaRange`], never empty, from its first to its last address.

/// Why there is no range of this start and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeError {
    /// The size is 0.
    Empty,
    /// The end is beyond the last address there is.
    Overflow,
}

/// A range of addresses.
///
/// # Invariants
///
/// `start <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IovaRange {
    start: u64,
    last: u64,
}

impl IovaRange {
    /// All addresses.
    pub const ALL: Self = Self {
        start: 0,
        last: u64::MAX,
    };

    /// `size` bytes from `start`.
    ///
    /// The error says what is wrong; the errno is the caller's, as it differs between ioctls.
    #[inline]
    pub fn from_size(start: u64, size: u64) -> Result<Self, RangeError> {
        let distance = size.checked_sub(1).ok_or(RangeError::Empty)?;
        let last = start.checked_add(distance).ok_or(RangeError::Overflow)?;
        // INVARIANT: The addition did not wrap.
        Ok(Self { start, last })
    }

    /// The addresses from `start` to `last`; `None` if there are none.
    #[inline]
    pub fn from_last(start: u64, last: u64) -> Option<Self> {
        // INVARIANT: Checked here.
        (start <= last).then_some(Self { start, last })
    }

    /// First address.
    #[inline]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Last address.
    #[inline]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Bytes; `None` for [`Self::ALL`], which has one more than 64 bits can tell.
    #[inline]
    pub fn size(&self) -> Option<u64> {
        self.last.wrapping_sub(self.start).checked_add(1)
    }

    /// Whether start and size are multiples of `granule`, a power of two.
    #[inline]
    pub fn is_aligned(&self, granule: u64) -> bool {
        let mask = granule.wrapping_sub(1);
        self.start & mask == 0 && self.last & mask == mask
    }

    /// Whether all of `other` is in this range.
    #[inline]
    pub fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.last <= self.last
    }

    /// Whether the two have an address in common.
    #[inline]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    /// The addresses the two have in common.
    #[inline]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        Self::from_last(self.start.max(other.start), self.last.min(other.last))
    }

    /// The addresses of this range below all of `other`.
    #[inline]
    pub fn below(&self, other: &Self) -> Option<Self> {
        let last = other.start.checked_sub(1)?;
        Self::from_last(self.start, last.min(self.last))
    }

    /// The addresses of this range above all of `other`.
    #[inline]
    pub fn above(&self, other: &Self) -> Option<Self> {
        let start = other.last.checked_add(1)?;
        Self::from_last(start.max(self.start), self.last)
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_iova_range))]
mod tests {
    use super::*;

    /// The range `first..=last`, for short.
    fn range(start: u64, last: u64) -> IovaRange {
        IovaRange { start, last }
    }

    #[test]
    fn sizes_that_are_none() {
        assert_eq!(IovaRange::from_size(0, 0), Err(RangeError::Empty));
        assert_eq!(IovaRange::from_size(u64::MAX, 0), Err(RangeError::Empty));
        assert_eq!(IovaRange::from_size(1, u64::MAX), Ok(range(1, u64::MAX)));
        assert_eq!(IovaRange::from_size(2, u64::MAX), Err(RangeError::Overflow));
        assert_eq!(
            IovaRange::from_size(u64::MAX, 1),
            Ok(range(u64::MAX, u64::MAX))
        );
        assert_eq!(IovaRange::from_size(u64::MAX, 2), Err(RangeError::Overflow));
    }

    #[test]
    fn ends() {
        assert_eq!(IovaRange::from_last(4, 3), None);
        assert_eq!(IovaRange::from_last(4, 4), Some(range(4, 4)));
        assert_eq!(IovaRange::from_last(0, u64::MAX), Some(IovaRange::ALL));
        assert_eq!((range(4, 7).start(), range(4, 7).last()), (4, 7));
    }

    #[test]
    fn size_of_everything_cannot_be_told() {
        assert_eq!(IovaRange::ALL.size(), None);
        assert_eq!(range(1, u64::MAX).size(), Some(u64::MAX));
        assert_eq!(range(7, 7).size(), Some(1));
    }

    #[test]
    fn alignment() {
        assert!(range(0x1000, 0x2fff).is_aligned(0x1000));
        assert!(!range(0x1800, 0x2fff).is_aligned(0x1000));
        assert!(!range(0x1000, 0x2ffe).is_aligned(0x1000));
        assert!(!range(0x1000, 0x2fff).is_aligned(0x2000));
        assert!(range(3, 3).is_aligned(1));
        assert!(IovaRange::ALL.is_aligned(1 << 63));
    }

    #[test]
    fn containment() {
        assert!(range(4, 7).contains(&range(4, 7)));
        assert!(range(4, 7).contains(&range(5, 5)));
        assert!(!range(4, 7).contains(&range(3, 5)));
        assert!(!range(4, 7).contains(&range(7, 8)));
    }

    #[test]
    fn overlap() {
        assert!(range(4, 7).overlaps(&range(7, 9)));
        assert!(range(4, 7).overlaps(&range(0, 4)));
        assert!(range(4, 7).overlaps(&range(0, 9)));
        assert!(!range(4, 7).overlaps(&range(8, 9)));
        assert_eq!(range(4, 7).intersection(&range(6, 9)), Some(range(6, 7)));
        assert_eq!(range(4, 7).intersection(&range(8, 9)), None);
    }

    #[test]
    fn what_is_left() {
        assert_eq!(range(4, 7).below(&range(5, 6)), Some(range(4, 4)));
        assert_eq!(range(4, 7).above(&range(5, 6)), Some(range(7, 7)));
        assert_eq!(range(4, 7).below(&range(4, 9)), None);
        assert_eq!(range(4, 7).above(&range(0, 7)), None);
        assert_eq!(range(4, 7).below(&range(9, 9)), Some(range(4, 7)));
        assert_eq!(range(4, 7).above(&range(1, 2)), Some(range(4, 7)));
        assert_eq!(IovaRange::ALL.below(&range(0, 0)), None);
        assert_eq!(IovaRange::ALL.above(&range(0, u64::MAX)), None);
    }
}
