// SPDX-License-Identifier: GPL-2.0

//! BAR and ROM registers: what a user can write to the private ones, and what the device had.
//!
//! Stands for `vfio_bar_fixup()`, which computes it anew for all of them at each read.

use super::{
    regs::header::*,
    shadow::VirtConfig,
    BarFacts,
    BarSpace,
    Facts,
    Width, //
};

/// Offsets of the BAR registers.
pub(super) const BARS: [u16; 6] = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24];
/// The same and the expansion ROM.
pub(super) const BARS_AND_ROM: [u16; 7] = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, ROM_ADDRESS];

/// A BAR register, or that of the ROM.
#[derive(Clone, Copy, Default)]
pub(super) struct BarRegister {
    /// What the device had in it at open, for a later restore.
    pub(super) real: u32,
    /// Bits that the user can change.
    mask: u32,
    /// Bits that are set.
    flags: u32,
}

/// What the BAR and ROM registers can hold.
pub(super) fn bar_registers(facts: &Facts) -> [BarRegister; 7] {
    let mut registers = [BarRegister::default(); 7];
    let mut upper_half = None;
    for (register, bar) in registers.iter_mut().zip(facts.bars) {
        (register.mask, register.flags) = match (upper_half.take(), bar) {
            (Some(mask), _) => (mask, 0),
            (None, Some(bar)) => {
                let mask = size_mask(bar.size);
                if bar.space == BarSpace::Memory64 {
                    upper_half = Some((mask >> 32) as u32);
                }
                (mask as u32, bar_flags(&bar))
            }
            (None, None) => (0, 0),
        };
    }
    let [.., rom] = &mut registers;
    rom.mask = match facts.rom_size.checked_next_power_of_two() {
        Some(size) if facts.rom_size != 0 => size_mask(size) as u32 | ROM_ENABLE,
        _ => 0,
    };
    registers
}

/// Cuts a private BAR to size, as hardware does with what is written to it.
pub(super) fn size_bar(shadow: &mut VirtConfig, offset: u16, bar: &BarRegister) {
    let value = shadow.get(offset, Width::Dword) & bar.mask | bar.flags;
    shadow.set(offset, Width::Dword, value);
}

/// Which of the BAR and ROM registers has the byte at `offset`.
#[inline]
pub(super) fn bar_number(offset: u16) -> Option<usize> {
    match offset & !3 {
        ROM_ADDRESS => Some(6),
        at @ 0x10..=0x24 => Some(usize::from(at.wrapping_sub(0x10) / 4)),
        _ => None,
    }
}

/// Address bits that a BAR of `size` bytes has.
fn size_mask(size: u64) -> u64 {
    !size.wrapping_sub(1)
}

/// The bits of a BAR that say what it is.
fn bar_flags(bar: &BarFacts) -> u32 {
    let prefetch = if bar.prefetch { BAR_PREFETCH } else { 0 };
    match bar.space {
        BarSpace::Io => BAR_IO,
        BarSpace::Memory32 => prefetch,
        BarSpace::Memory64 => BAR_MEM_64 | prefetch,
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_config_bars))]
mod tests {
    use super::*;

    #[test]
    fn each_register_has_its_number() {
        for offset in 0..0x40 {
            let number = BARS_AND_ROM.iter().position(|bar| *bar == offset & !3);
            assert_eq!(bar_number(offset), number);
        }
    }
}
