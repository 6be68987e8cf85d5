// SPDX-License-Identifier: GPL-2.0

//! Where regions are in a device's file: region and place in it to an offset, and back.
//!
//! Users ask for the offset of a region. As in C, each has 1 TiB, at its index; but for BARs that
//! are larger, which C does not offer beyond that: they are above all others, with room for
//! whatever a BAR can have. All that takes or gives an offset of the file goes by this: info, read,
//! write, maps, ioeventfds.
//!
//! Pure.

use kernel::prelude::*;

/// Bits of the offsets in a region, `include/linux/vfio_pci_core.h`.
const SHIFT: u32 = 40;

/// Where BARs are that do not fit there, each with `LARGE_SHIFT` bits: physical addresses have no
/// more.
const LARGE: u64 = 1 << 60;
const LARGE_SHIFT: u32 = 52;

/// In an offset of the file: the same place, for write-combining maps.
pub(super) const WRITE_COMBINING: u64 = 1 << 62;

/// Indices of the regions that every PCI device has, `include/uapi/linux/vfio.h`.
pub(super) const BARS: u32 = 6;
pub(super) const ROM: u32 = 6;
pub(super) const CONFIG: u32 = 7;
pub(super) const VGA: u32 = 8;
pub(super) const COUNT: u32 = 9;

/// A region. Every PCI device has all but the last kind, though maybe of size 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    /// BAR 0 to 5.
    Bar(u32),
    /// Expansion ROM.
    Rom,
    /// Configuration space.
    Config,
    /// The legacy ranges of a display, at their own addresses.
    Vga,
    /// The device's own, by a number that may be too large.
    Specific(u32),
}

impl Region {
    /// The region of an index.
    pub(crate) fn from_index(index: u32) -> Self {
        match index {
            0..BARS => Self::Bar(index),
            ROM => Self::Rom,
            CONFIG => Self::Config,
            VGA => Self::Vga,
            _ => Self::Specific(index.saturating_sub(COUNT)),
        }
    }

    fn index(self) -> u32 {
        match self {
            Self::Bar(bar) => bar,
            Self::Rom => ROM,
            Self::Config => CONFIG,
            Self::Vga => VGA,
            Self::Specific(number) => COUNT.saturating_add(number),
        }
    }
}

/// See the module's documentation.
#[derive(Clone, Copy)]
pub(super) struct Offsets {
    /// The BARs that are larger than 1 TiB, one bit each.
    large: u32,
}

impl Offsets {
    /// For BARs of these sizes.
    pub(super) fn new(sizes: [u64; BARS as usize]) -> Self {
        let bit = |(bar, size): (u32, u64)| u32::from(size > 1 << SHIFT).wrapping_shl(bar);
        Self {
            large: (0u32..).zip(sizes).map(bit).fold(0, |all, bit| all | bit),
        }
    }

    #[inline]
    fn is_large(self, bar: u32) -> bool {
        self.large.wrapping_shr(bar) & 1 != 0
    }

    /// Where a region is.
    pub(super) fn of(self, region: Region) -> u64 {
        match region {
            Region::Bar(bar) if self.is_large(bar) => {
                LARGE | u64::from(bar).wrapping_shl(LARGE_SHIFT)
            }
            _ => u64::from(region.index()).wrapping_shl(SHIFT),
        }
    }

    /// The region at an offset, and the offset in the region.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there can be none.
    #[inline]
    pub(super) fn at(self, offset: u64) -> Result<(Region, u64)> {
        let index: u32 = (offset >> SHIFT).try_into().map_err(|_| EINVAL)?;
        if index >= BARS {
            if offset >= LARGE {
                return self.at_large(offset);
            }
        } else if self.is_large(index) {
            return Err(EINVAL);
        }
        Ok((Region::from_index(index), offset & low_bits(SHIFT)))
    }

    fn at_large(self, offset: u64) -> Result<(Region, u64)> {
        let number = (offset & !LARGE) >> LARGE_SHIFT;
        match u32::try_from(number) {
            Ok(bar) if bar < BARS && self.is_large(bar) => {
                Ok((Region::Bar(bar), offset & low_bits(LARGE_SHIFT)))
            }
            _ => Err(EINVAL),
        }
    }
}

fn low_bits(count: u32) -> u64 {
    1u64.wrapping_shl(count).wrapping_sub(1)
}
