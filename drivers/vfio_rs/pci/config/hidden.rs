// SPDX-License-Identifier: GPL-2.0

//! What hidden capabilities own: read-only, as the host set them up and a user is not to undo that.
//!
//! A hidden capability is taken out of the user's chain, but its registers are where they were, and
//! who knows the device knows where. Its bytes are the device's own and cannot be written. How many
//! they are is in a table for each kind of chain (`caps.rs`, `ext.rs`); where nobody can say, all
//! up to the next capability are taken for it. What another capability shows stays that one's.
//!
//! C passes writes of them to the device.

use super::{
    layout::Cap,
    perm,
    regs::*,
    walk::{
        Marks,
        Walker, //
    },
    Hardware, //
};
use kernel::prelude::*;

/// How many bytes a hidden capability has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HiddenExtent {
    /// So many.
    Bytes(u16),
    /// So many at most, but no more than there are up to the next capability.
    UpTo(u16),
}

/// All up to the next capability.
pub(super) const UNKNOWN: HiddenExtent = HiddenExtent::UpTo(u16::MAX);

/// What a table says of an id. Ids that it does not have are newer than it.
pub(super) fn extent(table: &[(u16, HiddenExtent)], id: u16) -> HiddenExtent {
    let entry = table.iter().find(|entry| entry.0 == id);
    entry.map_or(UNKNOWN, |entry| entry.1)
}

impl<H: Hardware> Walker<'_, H> {
    /// Notes that bytes from `start` on are a hidden capability's.
    pub(super) fn hide(&mut self, start: u16, extent: HiddenExtent) -> Result {
        Ok(self.hidden.push((start, extent), GFP_KERNEL)?)
    }

    /// Makes them read-only, once all that is shown is known.
    pub(super) fn seal(&mut self) -> Result {
        let mut sealed = Marks::default();
        for &(start, extent) in &self.hidden {
            for at in (start..self.end_of(start, extent)).step_by(4) {
                sealed.add(at);
            }
        }
        let mut run = None;
        for at in (STD_HEADER_SIZE..=self.size).step_by(4) {
            let is_sealed = at < self.size && sealed.has(at) && !self.claimed.has(at);
            match run {
                None if is_sealed => run = Some(at),
                Some(start) if !is_sealed => {
                    run = None;
                    self.show(Cap {
                        start,
                        end: at,
                        perm: &perm::HIDDEN,
                    })?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where a hidden capability ends.
    fn end_of(&self, start: u16, extent: HiddenExtent) -> u16 {
        let space = if start < CFG_SPACE_SIZE {
            self.size.min(CFG_SPACE_SIZE)
        } else {
            self.size
        };
        let end = match extent {
            HiddenExtent::Bytes(bytes) => start.saturating_add(bytes),
            HiddenExtent::UpTo(bytes) => {
                let max = start.saturating_add(bytes).min(space);
                let mut behind = (start.saturating_add(4)..max).step_by(4);
                behind.find(|at| self.seen.has(*at)).unwrap_or(max)
            }
        };
        end.min(space)
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_config_hidden))]
mod tests {
    use super::super::{
        mock::{
            Mock,
            User, //
        },
        Facts,
        Width, //
    };
    use super::*;

    /// Whether the user can change the byte at `at`.
    fn writable(user: &mut User<'_>, at: u16) -> Result<bool> {
        let old = user.hw.get(at, Width::Byte);
        user.write(at, Width::Byte, !old & 0xff)?;
        let changed = user.hw.get(at, Width::Byte) != old;
        user.hw.set(at, Width::Byte, old);
        Ok(changed)
    }

    /// The bytes among `range` that the user can change: the first of them, and how many.
    fn open_bytes(user: &mut User<'_>, range: core::ops::Range<u16>) -> Result<(u16, u16)> {
        let (mut first, mut count) = (0, 0u16);
        for at in range {
            if writable(user, at)? {
                first = if count == 0 { at } else { first };
                count = count.saturating_add(1);
            }
        }
        Ok((first, count))
    }

    #[test]
    fn as_long_as_it_is() -> Result {
        // Debug port, then nothing.
        let mock = Mock::with_caps(256, &[(0x0a, 0x40), (0x01, 0x60)])?;
        let mut user = mock.open()?;
        assert_eq!(open_bytes(&mut user, 0x40..0x60)?, (0x44, 0x1c));
        Ok(())
    }

    #[test]
    fn up_to_the_next_capability() -> Result {
        // Enhanced Allocation, and one that nobody knows; between them one that is shown.
        let mock = Mock::with_caps(256, &[(0x14, 0x40), (0x77, 0xc0), (0x01, 0x60)])?;
        let mut user = mock.open()?;
        assert_eq!(open_bytes(&mut user, 0x40..0x60)?, (0, 0));
        assert_eq!(open_bytes(&mut user, 0x68..0xc0)?, (0x68, 0x58));
        assert_eq!(open_bytes(&mut user, 0xc0..0x100)?, (0, 0));
        Ok(())
    }

    #[test]
    fn reads_are_the_devices() -> Result {
        let mock = Mock::with_caps(256, &[(0x14, 0x40)])?;
        let mut user = mock.open()?;
        mock.set(0x48, Width::Dword, 0x1234_5678);
        user.write(0x48, Width::Dword, 0)?;
        assert_eq!(user.read(0x48, Width::Dword)?, 0x1234_5678);
        Ok(())
    }

    #[test]
    fn the_standard_space_ends_where_it_ends() -> Result {
        let mock = Mock::with_caps(4096, &[(0x10, 0x40), (0x14, 0xf0)])?;
        let mut user = mock.open()?;
        assert_eq!(open_bytes(&mut user, 0xf0..0x100)?, (0, 0));
        // No extended capabilities: a gap.
        assert!(writable(&mut user, 0x100)?);
        Ok(())
    }

    #[test]
    fn extended() -> Result {
        let mock = Mock::with_caps(4096, &[(0x10, 0x40)])?;
        // PASID as anchor, lane margining, data object exchange, IDE, and one that is shown.
        mock.add_ext(&[
            (0x1b, 0x100),
            (0x27, 0x110),
            (0x2e, 0x140),
            (0x30, 0x180),
            (0x03, 0x400),
        ]);
        let mut user = mock.open()?;
        assert_eq!(open_bytes(&mut user, 0x100..0x110)?, (0x108, 8));
        assert_eq!(open_bytes(&mut user, 0x110..0x140)?, (0, 0));
        assert_eq!(open_bytes(&mut user, 0x140..0x180)?, (0x158, 0x28));
        assert_eq!(open_bytes(&mut user, 0x180..0x400)?, (0, 0));
        assert!(writable(&mut user, 0x40c)?);
        Ok(())
    }

    #[test]
    fn what_is_shown_stays_as_it_is() -> Result {
        let mock = Mock::with_caps(4096, &[(0x10, 0x40)])?;
        // The vendor's own begins inside of what physical layers may have.
        mock.add_ext(&[(0x2a, 0x100), (0x0b, 0x120)]);
        mock.set(0x124, Width::Dword, 0x0100_0000);
        let mut user = mock.open()?;
        assert_eq!(open_bytes(&mut user, 0x104..0x120)?, (0, 0));
        assert_eq!(open_bytes(&mut user, 0x120..0x140)?, (0x124, 0x1c));
        Ok(())
    }

    #[test]
    fn tables_of_virtual_channels() -> Result {
        let mock = Mock::with_caps(4096, &[(0x10, 0x40)])?;
        mock.add_ext(&[(0x08, 0x100), (0x03, 0x200)]);
        mock.set(0x104, Width::Dword, 1);
        // The arbitration table of the second channel.
        mock.set(0x11c, Width::Dword, 0x0400_0000);
        let mut user = mock.open()?;
        assert_eq!(open_bytes(&mut user, 0x100..0x140)?, (0x128, 0x18));
        assert_eq!(open_bytes(&mut user, 0x140..0x200)?, (0, 0));
        Ok(())
    }

    #[test]
    fn msix_that_is_not_to_be_used() -> Result {
        let mock = Mock::with_caps(256, &[(0x11, 0x40), (0x01, 0x60)])?;
        let facts = Facts {
            no_msix: true,
            ..mock.facts()
        };
        let mut user = mock.open_as(&facts)?;
        assert_eq!(user.read(0x34, Width::Byte)?, 0x60);
        assert_eq!(open_bytes(&mut user, 0x40..0x60)?, (0x4c, 0x14));
        let user = mock.open()?;
        assert_eq!(user.read(0x34, Width::Byte)?, 0x40);
        Ok(())
    }

    #[test]
    fn an_empty_one_of_a_vendor_keeps_its_header() -> Result {
        let mock = Mock::with_caps(4096, &[(0x10, 0x40), (0x09, 0x80)])?;
        mock.add_ext(&[(0x0b, 0x100), (0x23, 0x140)]);
        let mut user = mock.open()?;
        assert_eq!(open_bytes(&mut user, 0x80..0x90)?, (0x84, 0xc));
        assert_eq!(open_bytes(&mut user, 0x100..0x110)?, (0x108, 8));
        assert_eq!(open_bytes(&mut user, 0x140..0x150)?, (0x148, 8));
        Ok(())
    }
}
