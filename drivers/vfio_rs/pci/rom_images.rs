// SPDX-License-Identifier: GPL-2.0

//! How much of its window an expansion ROM fills, by what it says of its images.
//!
//! The PCI core would tell as well (`pci_map_rom()`), but with a line in the log each time that it
//! sees no image, and users ask as often as they like. Layout: PCI Firmware Specification 3.3, 5.1.

/// Each image begins at a multiple of this.
const SECTOR: u64 = 512;

/// The header of an image: its signature, bytes, and where it says where its data structure is.
const SIGNATURE: u16 = 0xaa55;
const HEADER: u64 = 0x1a;
const POINTER: u64 = 0x18;

/// The data structure: its signature, how many bytes it must have, and where it has its own length,
/// that of the image in sectors, and whether the image is the last, in a byte's highest bit.
const DATA_SIGNATURE: [u16; 2] = [0x4350, 0x5249];
const DATA_LEAST: u16 = 0x18;
const DATA_LEN: u64 = 0x0a;
const IMAGE_LEN: u64 = 0x10;
const INDICATOR: u64 = 0x14;
const LAST: u16 = 0x8000;

/// An image that is whole.
struct Image {
    /// Bytes.
    len: u64,
    last: bool,
}

impl Image {
    /// The one at `start` of a window of `size` bytes; `None` if there is none.
    fn at(start: u64, size: u64, read: &impl Fn(u64) -> Option<u16>) -> Option<Self> {
        let inside = |at: u64, len: u64| at.checked_add(len).is_some_and(|end| end <= size);
        if !inside(start, HEADER) || read(start)? != SIGNATURE {
            return None;
        }
        let data = start.checked_add(read(start.checked_add(POINTER)?)?.into())?;
        let field = |at: u64| read(data.checked_add(at)?);
        if data & 3 != 0 || !inside(data, DATA_LEN.checked_add(2)?) {
            return None;
        }
        let data_len = field(DATA_LEN)?;
        if [field(0)?, field(2)?] != DATA_SIGNATURE
            || !(DATA_LEAST..u16::MAX).contains(&data_len)
            || !inside(data, data_len.into())
        {
            return None;
        }
        Some(Self {
            len: u64::from(field(IMAGE_LEN)?).checked_mul(SECTOR)?,
            last: field(INDICATOR)? & LAST != 0,
        })
    }
}

/// How many bytes the images at the beginning of a window of `size` bytes fill; 0 if there are
/// none. `read` reads two of them.
pub(super) fn filled(size: u64, read: impl Fn(u64) -> Option<u16>) -> u64 {
    let mut end = 0u64;
    while let Some(image) = Image::at(end, size, &read) {
        end = end.saturating_add(image.len);
        if image.last || image.len == 0 {
            break;
        }
    }
    // Some claim to be longer than their window.
    end.min(size)
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_rom_images))]
mod tests {
    use super::*;

    /// A sector of an image of `sectors`, whose data structure is at `data`.
    fn half(at: u64, data: u16, sectors: u16, last: bool) -> u16 {
        let there = u64::from(data);
        match at {
            0 => SIGNATURE,
            POINTER => data,
            _ if at == there => DATA_SIGNATURE[0],
            _ if at == there.wrapping_add(2) => DATA_SIGNATURE[1],
            _ if at == there.wrapping_add(DATA_LEN) => DATA_LEAST,
            _ if at == there.wrapping_add(IMAGE_LEN) => sectors,
            _ if at == there.wrapping_add(INDICATOR) && last => LAST,
            _ => 0,
        }
    }

    /// Images of one sector each, the last of them `last`, in a window of `size`.
    fn rom(size: u64, last: u64) -> impl Fn(u64) -> Option<u16> {
        move |at| {
            (at < size.saturating_sub(1)).then(|| half(at % SECTOR, 0x1c, 1, at / SECTOR == last))
        }
    }

    #[test]
    fn up_to_the_last() {
        assert!(filled(0x10000, rom(0x10000, 0)) == 512);
        assert!(filled(0x10000, rom(0x10000, 4)) == 5 * 512);
        // None is.
        assert!(filled(0x1000, rom(0x1000, 99)) == 0x1000);
    }

    #[test]
    fn longer_than_the_window() {
        assert!(filled(0x800, |at| Some(half(at, 0x1c, 0x7fff, true))) == 0x800);
        assert!(filled(0x800, |at| Some(half(at, 0x1c, 0, false))) == 0);
    }

    #[test]
    fn nothing_answers() {
        assert!(filled(0x10000, |_| Some(0xffff)) == 0);
        assert!(filled(0x10000, |_| Some(0)) == 0);
        assert!(filled(0x10000, |_| None) == 0);
        assert!(filled(0, rom(0, 0)) == 0);
        assert!(filled(0x19, rom(0x1000, 0)) == 0);
    }

    #[test]
    fn data_structure_astray() {
        for data in [0x1e, 0x1d, 0xfff0, 0xfffc, 0x7f8] {
            assert!(filled(0x800, |at| Some(half(at, data, 1, true))) == 0);
        }
        assert!(filled(0x800, |at| Some(half(at, 0x7e8, 1, true))) == 512);
    }

    #[test]
    fn every_field_counts() {
        let whole = rom(0x10000, 0);
        for at in [0, 0x1c, 0x1e, 0x26] {
            let bad = |here| if here == at { Some(0x17) } else { whole(here) };
            assert!(filled(0x10000, bad) == 0);
        }
    }
}
