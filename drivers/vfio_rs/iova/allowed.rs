// SPDX-License-Identifier: GPL-2.0

//! Which addresses a container may map: what its IOMMU domains can translate, less what is
//! reserved in one of its groups.
//!
//! Key type: [`Allowed`]. It is what a mapping is checked against and what the IOVA_RANGE
//! capability reports. Computed anew from all groups when one is attached or detached; stands for
//! the `vfio_iommu_aper_*()` and `vfio_iommu_resv_*()` functions of
//! drivers/vfio/vfio_iommu_type1.c, which change a list in place.

use super::IovaRange;
use kernel::prelude::*;

/// The addresses that may be mapped.
///
/// # Invariants
///
/// Not empty. Sorted; between two ranges is at least one address that is in neither.
#[derive(Debug)]
pub(crate) struct Allowed {
    ranges: KVec<IovaRange>,
}

impl Allowed {
    /// All of `aperture` but the `reserved` ranges, which may be in any order, overlap, and lie
    /// outside. Direct mappings that the kernel may drop (`IOMMU_RESV_DIRECT_RELAXABLE`) do not
    /// belong to them.
    ///
    /// # Errors
    ///
    /// `EINVAL` if nothing is left, as `vfio_iommu_resv_exclude()`; `ENOMEM`.
    pub(crate) fn new(aperture: IovaRange, reserved: &[IovaRange]) -> Result<Self> {
        // Each of them leaves no more than one range below it.
        let most = reserved.len().saturating_add(1);
        let mut ranges = KVec::with_capacity(most, GFP_KERNEL)?;
        let mut left = Some(aperture);
        while let Some(rest) = left {
            let in_rest = reserved.iter().filter(|range| range.overlaps(&rest));
            let Some(first) = in_rest.min_by_key(|range| range.start()) else {
                ranges.push(rest, GFP_KERNEL)?;
                break;
            };
            if let Some(free) = rest.below(first) {
                ranges.push(free, GFP_KERNEL)?;
            }
            left = rest.above(first);
        }
        Self::from_ranges(ranges)
    }

    /// The addresses that are allowed by both.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are none, as `vfio_iommu_aper_conflict()`; `ENOMEM`.
    pub(crate) fn intersection(&self, other: &Self) -> Result<Self> {
        let most = self.ranges.len().saturating_add(other.ranges.len());
        let mut ranges = KVec::with_capacity(most, GFP_KERNEL)?;
        let (mut mine, mut theirs) = (self.ranges.iter(), other.ranges.iter());
        let (mut left, mut right) = (mine.next(), theirs.next());
        while let (Some(a), Some(b)) = (left, right) {
            if let Some(common) = a.intersection(b) {
                ranges.push(common, GFP_KERNEL)?;
            }
            // The one that ends first has nothing in common with what follows.
            if a.last() <= b.last() {
                left = mine.next();
            } else {
                right = theirs.next();
            }
        }
        Self::from_ranges(ranges)
    }

    /// The addresses that are allowed by all; `None` if there is nobody to ask.
    ///
    /// # Errors
    ///
    /// As [`intersection`](Self::intersection).
    pub(crate) fn by_all<'a>(each: impl Iterator<Item = &'a Self>) -> Result<Option<Self>> {
        let mut all: Option<Self> = None;
        for allowed in each {
            let so_far = all.as_ref().unwrap_or(allowed);
            all = Some(so_far.intersection(allowed)?);
        }
        Ok(all)
    }

    /// Whether all of `range` may be mapped.
    pub(crate) fn contains(&self, range: &IovaRange) -> bool {
        // There are few: two on most PCs.
        self.ranges.iter().any(|allowed| allowed.contains(range))
    }

    /// Whether all that `other` allows may be mapped.
    pub(crate) fn contains_all(&self, other: &Self) -> bool {
        other.ranges.iter().all(|range| self.contains(range))
    }

    /// The addresses as a sorted list, at least one range.
    pub(crate) fn ranges(&self) -> &[IovaRange] {
        &self.ranges
    }

    fn from_ranges(ranges: KVec<IovaRange>) -> Result<Self> {
        // ERRNO: EINVAL, as `vfio_iommu_type1_attach_group()`.
        if ranges.is_empty() {
            return Err(EINVAL);
        }
        // INVARIANT: Not empty. Both callers cut ranges that were sorted and apart.
        Ok(Self { ranges })
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_iova_allowed))]
mod tests {
    use super::*;

    fn range(start: u64, last: u64) -> Result<IovaRange> {
        IovaRange::from_last(start, last).ok_or(ERANGE)
    }

    /// Whether `allowed` has exactly these ranges.
    fn is(allowed: &Allowed, expected: &[(u64, u64)]) -> bool {
        let pairs = |range: &IovaRange| (range.start(), range.last());
        allowed
            .ranges()
            .iter()
            .map(pairs)
            .eq(expected.iter().copied())
    }

    #[test]
    fn nothing_reserved() -> Result {
        let allowed = Allowed::new(IovaRange::ALL, &[])?;

        assert!(is(&allowed, &[(0, u64::MAX)]));
        assert!(allowed.contains(&IovaRange::ALL));
        Ok(())
    }

    #[test]
    fn contains_all_of_another() -> Result {
        let all = Allowed::new(IovaRange::ALL, &[])?;
        let some = Allowed::new(range(0, 0xffff)?, &[range(0x1000, 0x1fff)?])?;
        let more = Allowed::new(range(0, 0xffff)?, &[range(0x1000, 0x17ff)?])?;

        assert!(all.contains_all(&all) && all.contains_all(&some));
        assert!(more.contains_all(&some) && some.contains_all(&some));
        assert!(!some.contains_all(&more) && !some.contains_all(&all));
        Ok(())
    }

    #[test]
    fn as_on_x86() -> Result {
        let reserved = [
            range(0xfee0_0000, 0xfeef_ffff)?,
            range(0x80_0000, 0xff_ffff)?,
        ];
        let allowed = Allowed::new(range(0, 0x7f_ffff_ffff)?, &reserved)?;
        let expected = [
            (0, 0x7f_ffff),
            (0x100_0000, 0xfedf_ffff),
            (0xfef0_0000, 0x7f_ffff_ffff),
        ];

        assert!(is(&allowed, &expected));
        assert!(allowed.contains(&range(0x100_0000, 0xfedf_ffff)?));
        assert!(!allowed.contains(&range(0x100_0000, 0xfee0_0000)?));
        assert!(!allowed.contains(&range(0xfee0_0000, 0xfee0_0fff)?));
        assert!(!allowed.contains(&range(0, 0x100_0fff)?));
        assert!(!allowed.contains(&range(0x7f_ffff_f000, 0x80_0000_0000)?));
        Ok(())
    }

    #[test]
    fn reservations_at_the_ends_and_twice() -> Result {
        let reserved = [range(0, 9)?, range(90, 200)?, range(5, 12)?, range(0, 9)?];
        let allowed = Allowed::new(range(0, 99)?, &reserved)?;

        assert!(is(&allowed, &[(13, 89)]));
        Ok(())
    }

    #[test]
    fn reservations_elsewhere_do_not_matter() -> Result {
        let allowed = Allowed::new(range(10, 20)?, &[range(0, 9)?, range(21, 30)?])?;

        assert!(is(&allowed, &[(10, 20)]));
        Ok(())
    }

    #[test]
    fn all_reserved() -> Result {
        for reserved in [range(0, 99)?, range(0, u64::MAX)?] {
            let allowed = Allowed::new(range(0, 99)?, &[reserved]);
            assert_eq!(allowed.err(), Some(EINVAL));
        }
        Ok(())
    }

    #[test]
    fn one_address_between() -> Result {
        let allowed = Allowed::new(range(0, 99)?, &[range(0, 49)?, range(51, 99)?])?;

        assert!(is(&allowed, &[(50, 50)]));
        assert!(allowed.contains(&range(50, 50)?));
        assert!(!allowed.contains(&range(50, 51)?));
        Ok(())
    }

    #[test]
    fn two_groups() -> Result {
        let first = Allowed::new(range(0, 99)?, &[range(20, 29)?])?;
        let second = Allowed::new(range(10, 199)?, &[range(25, 39)?, range(70, 79)?])?;
        let expected = [(10, 19), (40, 69), (80, 99)];

        assert!(is(&first.intersection(&second)?, &expected));
        assert!(is(&second.intersection(&first)?, &expected));
        Ok(())
    }

    #[test]
    fn any_number_of_groups() -> Result {
        let groups = [
            Allowed::new(range(0, 99)?, &[range(20, 29)?])?,
            Allowed::new(range(10, 199)?, &[])?,
            Allowed::new(range(0, 49)?, &[])?,
            Allowed::new(range(50, 59)?, &[])?,
        ];
        let (most, none) = (groups.iter().take(3), groups.iter().take(0));

        assert!(Allowed::by_all(most)?.is_some_and(|all| is(&all, &[(10, 19), (30, 49)])));
        assert!(Allowed::by_all(none)?.is_none());
        assert_eq!(Allowed::by_all(groups.iter()).err(), Some(EINVAL));
        Ok(())
    }

    #[test]
    fn groups_without_anything_in_common() -> Result {
        let first = Allowed::new(range(0, 99)?, &[])?;
        let second = Allowed::new(range(100, 199)?, &[])?;

        assert_eq!(first.intersection(&second).err(), Some(EINVAL));
        Ok(())
    }
}
