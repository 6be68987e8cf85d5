// SPDX-License-Identifier: GPL-2.0

//! Apertures, and the windows they are cut into.
//!
//! Pure: knows no kernel type. Takes no lock. All sizes are powers of two, as PAMU has them: an
//! aperture begins at a multiple of its size, and so does each window. What is mapped in a window
//! begins where the window does.

use crate::iova::IovaRange;

/// Bytes of the smallest aperture and the smallest window.
pub(crate) const MIN_SIZE: u64 = 4096;
/// Windows that an aperture can have.
pub(crate) const MAX_WINDOWS: u32 = 256;
/// Entries for windows that all apertures together can have, as PAMU's table SPAACT.
pub(crate) const MAX_ENTRIES: u32 = 2048;
/// Bytes that PAMU's addresses reach.
const PAMU_SPACE: u64 = 1 << 36;

/// What apertures there can be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    translated: IovaRange,
    max_aperture: u64,
}

impl Limits {
    /// For IOMMUs that translate `translated`; no more than what PAMU has if `strict`.
    pub(crate) fn new(translated: IovaRange, strict: bool) -> Self {
        let size = translated.size().unwrap_or(u64::MAX);
        // The largest power of two that is not larger; no range is empty.
        let largest = 1u64.wrapping_shl(size.checked_ilog2().unwrap_or(0));
        Self {
            translated,
            max_aperture: if strict {
                largest.min(PAMU_SPACE)
            } else {
                largest
            },
        }
    }

    /// Bytes of the largest aperture.
    pub(crate) fn max_aperture(&self) -> u64 {
        self.max_aperture
    }

    /// What counts as the aperture as long as none was set.
    pub(crate) fn default_aperture(&self) -> IovaRange {
        IovaRange::from_size(0, PAMU_SPACE)
            .ok()
            .and_then(|all| all.intersection(&self.translated))
            .unwrap_or(self.translated)
    }

    /// The aperture from `start` to `last`, if there can be one.
    pub(crate) fn aperture(&self, start: u64, last: u64) -> Option<Aperture> {
        let range = IovaRange::from_last(start, last)?;
        let size = range.size()?;
        let fits = size.is_power_of_two()
            && (MIN_SIZE..=self.max_aperture).contains(&size)
            && range.is_aligned(size)
            && self.translated.contains(&range);
        fits.then_some(Aperture { range })
    }
}

/// Addresses that can be cut into windows.
///
/// # Invariants
///
/// The size is a power of two, at least [`MIN_SIZE`], and the start a multiple of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aperture {
    range: IovaRange,
}

impl Aperture {
    /// All its addresses.
    pub(crate) fn range(&self) -> IovaRange {
        self.range
    }

    /// The aperture cut into `count` windows, if it can be.
    pub(crate) fn cut(self, count: u32) -> Option<Windows> {
        if !count.is_power_of_two() || count > MAX_WINDOWS {
            return None;
        }
        let size = self.range.size()?.checked_div(count.into())?;
        (size >= MIN_SIZE).then_some(Windows {
            aperture: self,
            count,
            size,
        })
    }
}

/// An aperture with windows.
///
/// # Invariants
///
/// `count` windows of `size` bytes are the aperture; `size` is a power of two, at least
/// [`MIN_SIZE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    aperture: Aperture,
    count: u32,
    size: u64,
}

impl Windows {
    /// What was cut.
    pub(crate) fn aperture(&self) -> Aperture {
        self.aperture
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The window of number `index`.
    pub(crate) fn window(&self, index: u32) -> Option<IovaRange> {
        if index >= self.count {
            return None;
        }
        let offset = self.size.checked_mul(index.into())?;
        let start = self.aperture.range.start().checked_add(offset)?;
        IovaRange::from_size(start, self.size).ok()
    }

    /// The window that has `address`.
    pub(crate) fn at(&self, address: u64) -> Option<IovaRange> {
        self.index(address).and_then(|index| self.window(index))
    }

    /// The number of the window that has `address`.
    pub(crate) fn index(&self, address: u64) -> Option<u32> {
        let offset = address.checked_sub(self.aperture.range.start())?;
        let index = offset.checked_div(self.size)?;
        u32::try_from(index).ok().filter(|at| *at < self.count)
    }

    /// The windows that a mapping of `range` would take: one in part or several as a whole. It
    /// begins where a window does, and its size is a power of two or a multiple of a window's.
    pub(crate) fn parts(&self, range: IovaRange) -> Option<WindowParts> {
        let size = range.size()?;
        let first = self.index(range.start())?;
        if self.window(first)?.start() != range.start() {
            return None;
        }
        let (count, bytes) = if size <= self.size {
            if size < MIN_SIZE || !size.is_power_of_two() {
                return None;
            }
            (1, size)
        } else {
            if size & self.size.wrapping_sub(1) != 0 {
                return None;
            }
            let count = u32::try_from(size.checked_div(self.size)?).ok()?;
            (count, self.size)
        };
        let end = first.checked_add(count)?;
        (end <= self.count).then_some(WindowParts {
            first,
            count,
            bytes,
        })
    }

    /// The addresses that an unmap of `range` is about: windows as for [`parts`](Self::parts), or
    /// all that there are if all of them are in it.
    pub(crate) fn unmapped_by(&self, range: IovaRange) -> Option<IovaRange> {
        if range.contains(&self.aperture.range) {
            return Some(self.aperture.range);
        }
        self.parts(range).map(|_| range)
    }

    /// The last `count` windows, if at least one is left beside them.
    pub(crate) fn last(&self, count: u32) -> Option<WindowParts> {
        let first = self.count.checked_sub(count)?;
        (first != 0).then_some(WindowParts {
            first,
            count,
            bytes: MIN_SIZE,
        })
    }
}

/// Some windows side by side, and how much is mapped in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowParts {
    /// The first one.
    pub(crate) first: u32,
    /// How many.
    pub(crate) count: u32,
    /// Bytes that are mapped in each, from its start on.
    pub(crate) bytes: u64,
}

impl WindowParts {
    /// The numbers of the windows.
    pub(crate) fn indices(&self) -> core::ops::Range<u32> {
        self.first..self.first.saturating_add(self.count)
    }

    /// Whether a window is in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (self.indices(), other.indices());
        a.start < b.end && b.start < a.end
    }
}

/// What is known of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PamuGeometry {
    /// Nothing.
    Unset,
    /// Where it is.
    Aperture(Aperture),
    /// Where it is and how it is cut: memory can be mapped.
    Windows(Windows),
}

impl PamuGeometry {
    /// The aperture, if it was set.
    pub(crate) fn aperture(&self) -> Option<Aperture> {
        match self {
            Self::Unset => None,
            Self::Aperture(aperture) => Some(*aperture),
            Self::Windows(windows) => Some(windows.aperture()),
        }
    }

    /// The windows, if there are any.
    pub(crate) fn windows(&self) -> Option<Windows> {
        match self {
            Self::Windows(windows) => Some(*windows),
            _ => None,
        }
    }
}

/// Entries of PAMU's table that `count` windows take: the first window needs none.
pub(crate) fn entries(count: u32) -> u32 {
    count.saturating_sub(1)
}

/// How many entries are in use when `old` of the `used` ones are given back and `new` taken; `None`
/// if that is too many.
pub(crate) fn exchange(used: u32, old: u32, new: u32) -> Option<u32> {
    let used = used.checked_sub(old)?.checked_add(new)?;
    (used <= MAX_ENTRIES).then_some(used)
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_window))]
mod tests {
    use super::*;
    use kernel::prelude::*;

    /// Of an IOMMU with 48 bits.
    fn limits() -> Limits {
        let all = IovaRange::from_last(0, (1 << 48) - 1).unwrap_or(IovaRange::ALL);
        Limits::new(all, false)
    }

    /// `count` windows in `size` bytes from `start` on.
    fn windows(start: u64, size: u64, count: u32) -> Result<Windows> {
        let last = start.wrapping_add(size).wrapping_sub(1);
        let aperture = limits().aperture(start, last).ok_or(EINVAL)?;
        aperture.cut(count).ok_or(EINVAL)
    }

    fn parts(windows: &Windows, start: u64, size: u64) -> Option<(u32, u32, u64)> {
        let range = IovaRange::from_size(start, size).ok()?;
        let parts = windows.parts(range)?;
        Some((parts.first, parts.count, parts.bytes))
    }

    #[test]
    fn apertures_that_are_none() {
        let aperture = |start, last| limits().aperture(start, last);
        assert!(aperture(0, 0x0fff).is_some());
        assert!(aperture(0, (1 << 48) - 1).is_some());
        assert!(aperture(0x1000, 0x0fff).is_none());
        assert!(aperture(0x2000, 0x0fff).is_none());
        assert!(aperture(0, 0x07ff).is_none());
        assert!(aperture(0, 0x2fff).is_none());
        assert!(aperture(0x1000, 0x2fff).is_none());
        assert!(aperture(0, (1 << 49) - 1).is_none());
        assert!(aperture(0, u64::MAX).is_none());
        assert!(aperture(1 << 48, (1 << 49) - 1).is_none());
        assert!(aperture(u64::MAX - 0xfff, u64::MAX).is_none());
    }

    #[test]
    fn limits_of_what_is_translated() {
        assert_eq!(limits().max_aperture(), 1 << 48);
        assert_eq!(Limits::new(IovaRange::ALL, false).max_aperture(), 1 << 63);
        assert_eq!(Limits::new(IovaRange::ALL, true).max_aperture(), 1 << 36);
        let default = limits().default_aperture();
        assert_eq!((default.start(), default.last()), (0, (1 << 36) - 1));
        if let Some(odd) = IovaRange::from_last(0x1000, 0x5fff) {
            assert_eq!(Limits::new(odd, false).max_aperture(), 0x4000);
            assert_eq!(Limits::new(odd, true).default_aperture(), odd);
        }
    }

    #[test]
    fn numbers_of_windows() {
        for count in [0, 3, 255, 512, 1 << 31] {
            assert!(windows(0, 1 << 29, count).is_err());
        }
        for count in [1, 2, 8, 256] {
            assert!(windows(0, 1 << 29, count).is_ok());
        }
        assert!(windows(0, 0x1000, 1).is_ok());
        assert!(windows(0, 0x1000, 2).is_err());
        assert!(windows(0, 0x10_0000, 256).is_ok());
        assert!(windows(0, 0x8_0000, 256).is_err());
    }

    #[test]
    fn example_of_the_document() -> Result {
        let all = windows(0, 512 << 20, 8)?;
        const MIB: u64 = 1 << 20;
        assert_eq!(all.window(3).map(|w| w.start()), Some(0x0c00_0000));
        assert_eq!(all.window(8), None);
        assert_eq!(all.index(0x1c00_0000), Some(7));
        assert_eq!(all.index(0x2000_0000), None);
        assert_eq!(parts(&all, 0x0400_0000, 64 * MIB), Some((1, 1, 64 * MIB)));
        assert_eq!(parts(&all, 0x1000_0000, 0x1000), Some((4, 1, 0x1000)));
        assert_eq!(parts(&all, 0, 192 * MIB), Some((0, 3, 64 * MIB)));
        assert_eq!(all.last(3).map(|p| p.first), Some(5));
        assert_eq!(all.last(8), None);
        let three = all.last(3).ok_or(EINVAL)?;
        let two = all.last(2).ok_or(EINVAL)?;
        assert_eq!(all.count(), 8);
        assert!(three.overlaps(&two));
        assert!(!two.overlaps(&WindowParts { first: 4, ..two }));
        Ok(())
    }

    #[test]
    fn geometries() -> Result {
        let all = windows(0, 512 << 20, 8)?;
        assert_eq!(PamuGeometry::Unset.aperture(), None);
        let aperture = PamuGeometry::Aperture(all.aperture());
        assert_eq!(aperture.aperture(), Some(all.aperture()));
        assert_eq!(aperture.windows(), None);
        assert_eq!(PamuGeometry::Windows(all).aperture(), Some(all.aperture()));
        assert_eq!(PamuGeometry::Windows(all).windows(), Some(all));
        Ok(())
    }

    #[test]
    fn mappings_that_do_not_fit() -> Result {
        let all = windows(0x8000, 0x8000, 4)?;
        assert_eq!(parts(&all, 0x8000, 0x2000), Some((0, 1, 0x2000)));
        assert_eq!(parts(&all, 0x8000, 0x8000), Some((0, 4, 0x2000)));
        // Below, above, in the middle of a window.
        assert_eq!(parts(&all, 0x6000, 0x2000), None);
        assert_eq!(parts(&all, 0x1_0000, 0x2000), None);
        assert_eq!(parts(&all, 0x9000, 0x1000), None);
        // Too much, a window and a half, less than a page, no power of two.
        assert_eq!(parts(&all, 0xa000, 0x8000), None);
        assert_eq!(parts(&all, 0x8000, 0x3000), None);
        assert_eq!(parts(&all, 0x8000, 0x800), None);
        assert_eq!(parts(&all, 0x8000, 0x1800), None);
        assert_eq!(parts(&all, 0x8000, 1 << 40), None);
        Ok(())
    }

    #[test]
    fn unmaps() -> Result {
        let all = windows(0x8000, 0x8000, 4)?;
        let range = all.aperture().range();
        let unmap = |range| all.unmapped_by(range);
        assert_eq!(unmap(IovaRange::ALL), Some(range));
        assert_eq!(unmap(range), Some(range));
        let half = IovaRange::from_last(0x8000, 0x8fff);
        assert_eq!(half.and_then(unmap), half);
        let uneven = IovaRange::from_last(0x8000, 0xafff);
        assert_eq!(uneven.and_then(unmap), None);
        Ok(())
    }

    #[test]
    fn the_table_for_all() {
        assert_eq!((entries(0), entries(1), entries(256)), (0, 0, 255));
        let mut used = 0;
        for _ in 0..8 {
            used = exchange(used, 0, entries(256)).unwrap_or(u32::MAX);
        }
        assert_eq!(used, 2040);
        assert_eq!(exchange(used, 0, entries(256)), None);
        assert_eq!(exchange(used, 0, 8), Some(2048));
        assert_eq!(exchange(used, 255, 263), Some(2048));
        assert_eq!(exchange(used, 255, 0), Some(1785));
        assert_eq!(exchange(3, 4, 0), None);
    }
}
