// SPDX-License-Identifier: GPL-2.0

//! Where the table of MSI-X is, by what the device says.
//!
//! The kernel writes to it, so it must be the device's own memory: a device that says otherwise has
//! no MSI-X. Whoever needs to know which bytes of a BAR are the table asks [`MsixTable`], which
//! there is for a table inside a memory BAR only.
//!
//! Pure. Registers: PCI Local Bus Specification 3.0, 6.8.2.

use core::ops::Range;
use kernel::prelude::*;

/// The table, inside a memory BAR. Hands off for reads and writes through the BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MsixTable {
    bar: u32,
    start: u64,
    end: u64,
    /// Where the device says that the pending bits are. The kernel never looks at them, and virtual
    /// functions are known that say nonsense, so nobody may rely on it.
    pending_bar: u32,
    count: u32,
}

/// Bytes of an entry.
const ENTRY: u64 = 16;

impl MsixTable {
    /// By the three registers of the capability: message control, table, pending bits. `memory` has
    /// the bytes of a BAR that is there and memory.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the table is not wholly in such a BAR.
    pub(crate) fn new(
        control: u16,
        table: u32,
        pending: u32,
        memory: impl FnOnce(u32) -> Option<u64>,
    ) -> Result<Self> {
        const BAR: u32 = 0x7;

        let bar = table & BAR;
        let start = u64::from(table & !BAR);
        let count = u32::from(control & 0x7ff).saturating_add(1);
        let end = u64::from(count).saturating_mul(ENTRY).saturating_add(start);
        if bar > 5 || memory(bar).is_none_or(|len| end > len) {
            return Err(EINVAL);
        }
        Ok(Self {
            bar,
            start,
            end,
            pending_bar: pending & BAR,
            count,
        })
    }

    /// Vectors.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The table's bytes in a BAR; empty if it is in another.
    pub(crate) fn bytes_in(&self, bar: u32) -> Range<u64> {
        if bar == self.bar {
            self.start..self.end
        } else {
            0..0
        }
    }

    /// Whether a BAR has table or pending bits.
    pub(crate) fn needs(&self, bar: u32) -> bool {
        bar == self.bar || bar == self.pending_bar
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_msix))]
mod tests {
    use super::*;

    /// BAR 1 has so many bytes of memory, and there is no other.
    fn in_bar_1(len: u64, control: u16, table: u32) -> Option<MsixTable> {
        let memory = |bar| (bar == 1).then_some(len);
        MsixTable::new(control, table, 0x6003, memory).ok()
    }

    #[test]
    fn a_table() -> Result {
        let table = in_bar_1(0x4000, 0x8004, 0x2001).ok_or(EINVAL)?;
        assert_eq!(table.count(), 5);
        assert_eq!(table.bytes_in(1), 0x2000..0x2050);
        assert!(table.bytes_in(0).is_empty() && table.bytes_in(3).is_empty());
        assert!(table.needs(1) && table.needs(3) && !table.needs(0));
        Ok(())
    }

    #[test]
    fn it_must_be_in_its_bar() {
        for (table, control, fits) in [
            (0x0001, 0x07ff, true),
            (0x0009, 0x07ff, false),
            (0x7ff1, 0x0000, true),
            (0x7ff1, 0x0001, false),
            (0x7ff9, 0x0000, false),
            (0x8001, 0x0000, false),
            (0xffff_fff9, 0x07ff, false),
        ] {
            assert_eq!(in_bar_1(0x8000, control, table).is_some(), fits);
        }
    }

    #[test]
    fn the_bar_must_be_there() {
        for bar in 0..8 {
            assert_eq!(in_bar_1(0x1000, 0, bar).is_some(), bar == 1);
            // Two numbers stand for no BAR.
            let all = MsixTable::new(0, bar, 0, |_| Some(0x1000));
            assert_eq!(all.is_ok(), bar < 6);
        }
        assert!(in_bar_1(0, 0, 1).is_none());
        assert!(in_bar_1(15, 0, 1).is_none());
        assert!(in_bar_1(16, 0, 1).is_some());
    }

    #[test]
    fn pending_bits_may_be_nonsense() {
        let memory = |_| Some(0x1000);
        for pending in [0, 7, u32::MAX, 0xf_ff00] {
            assert!(MsixTable::new(0, 0, pending, memory).is_ok());
        }
    }
}
