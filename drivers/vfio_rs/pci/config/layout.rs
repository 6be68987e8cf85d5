// SPDX-License-Identifier: GPL-2.0

//! Which capability owns which bytes of configuration space.
//!
//! Key type: [`Layout`], built once by `walk.rs`, asked at each access by `access.rs`.

use super::{
    perm::{
        Perm,
        HEADER, //
    },
    regs::STD_HEADER_SIZE,
    Width, //
};
use kernel::prelude::*;

/// A capability and the bytes it owns. The header is one too.
#[derive(Clone, Copy)]
pub(super) struct Cap {
    /// Offset of the first byte, a multiple of 4.
    pub(super) start: u16,
    /// Offset after the last byte.
    pub(super) end: u16,
    /// Treatment.
    pub(super) perm: &'static Perm,
}

impl Cap {
    /// The header.
    pub(super) const HEADER: Self = Self {
        start: 0,
        end: STD_HEADER_SIZE,
        perm: &HEADER,
    };
}

/// The capabilities of a function.
///
/// # Invariants
///
/// Sorted by `start`; no two own the same dword.
pub(super) struct Layout {
    caps: KVec<Cap>,
    /// Treatment of bytes nobody owns.
    gap: &'static Perm,
}

impl Layout {
    /// Takes capabilities in any order, that do not overlap.
    pub(super) fn new(mut caps: KVec<Cap>, gap: &'static Perm) -> Self {
        // INVARIANT: Sorted here; `walk.rs` claims each dword once. By insertion, as there are few
        // and the sorts of `core` have panicking paths that objtool takes for missing returns.
        for end in 1..caps.len() {
            for at in (1..=end).rev() {
                match caps.get_mut(at.wrapping_sub(1)..=at) {
                    Some([before, cap]) if before.start > cap.start => core::mem::swap(before, cap),
                    _ => break,
                }
            }
        }
        Self { caps, gap }
    }

    /// The owner of the byte at `offset`. In a gap the dword stands for the capability.
    #[inline]
    pub(super) fn owner(&self, offset: u16) -> Cap {
        match self.caps.first() {
            // The header, mostly.
            Some(first) if (first.start..first.end).contains(&offset) => *first,
            _ => self.owner_behind(offset),
        }
    }

    fn owner_behind(&self, offset: u16) -> Cap {
        let after = self.caps.partition_point(|cap| cap.start <= offset);
        let before = after.checked_sub(1).and_then(|index| self.caps.get(index));
        match before {
            Some(cap) if offset < cap.end => *cap,
            _ => {
                let start = offset & !3;
                Cap {
                    start,
                    end: start.saturating_add(4),
                    perm: self.gap,
                }
            }
        }
    }
}

/// The widest aligned access at `offset` that ends at or before `end`.
pub(super) fn widest(offset: u16, end: u16) -> Width {
    let room = end.saturating_sub(offset);
    if room >= 4 && offset & 3 == 0 {
        Width::Dword
    } else if room >= 2 && offset & 1 == 0 {
        Width::Word
    } else {
        Width::Byte
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_config_layout))]
mod tests {
    use super::super::perm;
    use super::*;

    fn layout() -> Result<Layout> {
        let mut caps = KVec::new();
        for (start, end) in [(0x60, 0x66), (0x40, 0x48), (0x48, 0x50)] {
            let perm = &perm::READ_ONLY;
            caps.push(Cap { start, end, perm }, GFP_KERNEL)?;
        }
        caps.push(Cap::HEADER, GFP_KERNEL)?;
        Ok(Layout::new(caps, &perm::GAP))
    }

    #[test]
    fn each_byte_has_its_owner() -> Result {
        let layout = layout()?;
        let owner = |offset| layout.owner(offset).start;

        assert_eq!((owner(0), owner(0x3f)), (0, 0));
        assert_eq!((owner(0x40), owner(0x47)), (0x40, 0x40));
        assert_eq!((owner(0x48), owner(0x4f)), (0x48, 0x48));
        assert_eq!((owner(0x60), owner(0x65)), (0x60, 0x60));
        Ok(())
    }

    #[test]
    fn gaps_are_nobodys() -> Result {
        let layout = layout()?;
        let gap = |offset| core::ptr::eq(layout.owner(offset).perm, &perm::GAP);

        assert!(gap(0x50) && gap(0x5f));
        assert!(gap(0x66) && gap(0x67));
        assert!(gap(0xfff));
        assert!(!gap(0x65));
        Ok(())
    }

    #[test]
    fn accesses_are_aligned_and_stay_inside() {
        assert_eq!(widest(0x60, 0x66), Width::Dword);
        assert_eq!(widest(0x64, 0x66), Width::Word);
        assert_eq!(widest(0x62, 0x66), Width::Word);
        assert_eq!(widest(0x61, 0x66), Width::Byte);
        assert_eq!(widest(0x65, 0x66), Width::Byte);
    }
}
