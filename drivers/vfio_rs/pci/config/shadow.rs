// SPDX-License-Identifier: GPL-2.0

//! The private copy of configuration space that serves virtual bits (C's `vconfig`).
//!
//! Key type: [`VirtConfig`], little-endian registers addressed by offset and [`Width`].

use super::Width;
use kernel::prelude::*;

impl Width {
    /// Bytes.
    pub(super) const fn bytes(self) -> u16 {
        match self {
            Width::Byte => 1,
            Width::Word => 2,
            Width::Dword => 4,
        }
    }

    /// The bits of a register of this width.
    pub(super) const fn mask(self) -> u32 {
        match self {
            Width::Byte => 0xff,
            Width::Word => 0xffff,
            Width::Dword => 0xffff_ffff,
        }
    }
}

/// Takes the register at `offset` out of the dword that holds it.
pub(super) const fn extract(dword: u32, offset: u16, width: Width) -> u32 {
    (dword >> shift(offset)) & width.mask()
}

/// Bit position of `offset` in its dword: 0, 8, 16 or 24.
pub(super) const fn shift(offset: u16) -> u32 {
    (offset as u32 & 3) << 3
}

/// A copy of configuration space.
///
/// # Invariants
///
/// Holds one dword for each four bytes of configuration space.
pub(super) struct VirtConfig {
    dwords: KVec<u32>,
}

impl VirtConfig {
    /// A copy of `size` bytes, all zero. `ENOMEM` if there is no memory.
    pub(super) fn new(size: u16) -> Result<Self> {
        // INVARIANT: `size / 4` dwords.
        Ok(Self {
            dwords: KVec::from_elem(0, usize::from(size / 4), GFP_KERNEL)?,
        })
    }

    /// Reads a register; 0 beyond the end.
    pub(super) fn get(&self, offset: u16, width: Width) -> u32 {
        match self.dwords.get(usize::from(offset / 4)) {
            Some(&dword) => extract(dword, offset, width),
            None => 0,
        }
    }

    /// Reads a 16-bit register.
    pub(super) fn word(&self, offset: u16) -> u16 {
        self.get(offset, Width::Word) as u16
    }

    /// Replaces those bits of a register that are set in `mask`; nothing happens beyond the end.
    pub(super) fn update(&mut self, offset: u16, width: Width, mask: u32, value: u32) {
        if let Some(dword) = self.dwords.get_mut(usize::from(offset / 4)) {
            let mask = mask & width.mask();
            *dword = (*dword & !(mask << shift(offset))) | ((value & mask) << shift(offset));
        }
    }

    /// Writes a whole register.
    pub(super) fn set(&mut self, offset: u16, width: Width, value: u32) {
        self.update(offset, width, width.mask(), value)
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_config_shadow))]
mod tests {
    use super::*;

    #[test]
    fn registers_are_little_endian() -> Result {
        let mut shadow = VirtConfig::new(256)?;

        shadow.set(0x10, Width::Dword, 0x4433_2211);
        assert_eq!(shadow.get(0x11, Width::Byte), 0x22);
        assert_eq!(shadow.get(0x12, Width::Word), 0x4433);
        shadow.set(0x13, Width::Byte, 0xaa);
        assert_eq!(shadow.get(0x10, Width::Dword), 0xaa33_2211);
        Ok(())
    }

    #[test]
    fn update_keeps_the_other_bits() -> Result {
        let mut shadow = VirtConfig::new(256)?;

        shadow.set(0x10, Width::Dword, 0xffff_ffff);
        shadow.update(0x12, Width::Word, 0x0ff0, 0x1230);
        assert_eq!(shadow.get(0x10, Width::Dword), 0xf23f_ffff);
        Ok(())
    }

    #[test]
    fn nothing_is_beyond_the_end() -> Result {
        let mut shadow = VirtConfig::new(256)?;

        shadow.set(256, Width::Dword, 1);
        assert_eq!(shadow.get(256, Width::Dword), 0);
        assert_eq!(shadow.get(252, Width::Dword), 0);
        Ok(())
    }
}
