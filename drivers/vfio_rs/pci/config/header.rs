// SPDX-License-Identifier: GPL-2.0

//! The type 0 header: BARs that can be sized but not moved, COMMAND, and recovery from resets that
//! nobody told us of.
//!
//! The user's BARs are private: they hold what the user wrote, cut to the size of the real ones,
//! so that the usual sizing by writing ones works. The device's BARs stay as the host set them.
//! Stands for `vfio_basic_config_{read,write}()` and `vfio_bar_restore()`.

use super::{
    access::ConfigPiece,
    bars::{
        bar_number,
        bar_registers,
        size_bar,
        BarRegister,
        BARS,
        BARS_AND_ROM, //
    },
    regs::header::*,
    shadow::VirtConfig,
    ConfigSpace,
    Effects,
    Facts,
    Findings,
    Hardware,
    IntxLine,
    Width, //
};
use kernel::prelude::*;

/// Adapts the freshly filled copy of the header to what is known of the function.
pub(super) fn init(
    shadow: &mut VirtConfig,
    facts: &Facts,
    findings: &mut Findings,
) -> [BarRegister; 7] {
    let mut bars = bar_registers(facts);
    for (bar, offset) in bars.iter_mut().zip(BARS_AND_ROM) {
        bar.real = shadow.get(offset, Width::Dword);
        size_bar(shadow, offset, bar);
    }
    if facts.is_virtfn {
        shadow.set(VENDOR_ID, Width::Word, facts.vendor.into());
        shadow.set(DEVICE_ID, Width::Word, facts.device.into());
        let pin = shadow.get(INTERRUPT_PIN, Width::Byte) as u8;
        findings.vf_pin = (pin != 0).then_some(pin);
    }
    if facts.is_virtfn || facts.intx != IntxLine::Usable {
        shadow.set(INTERRUPT_PIN, Width::Byte, 0);
    }
    if facts.no_command_memory {
        // As after pci_enable_device() of a function that has the bit.
        let on = u32::from(COMMAND_MEMORY);
        shadow.update(COMMAND, Width::Word, on, on);
    }
    bars
}

/// Bits of a register that read as set whatever the device says.
///
/// COMMAND of a function without a working memory enable bit shows what the user wrote.
pub(super) fn always_on(space: &ConfigSpace, piece: &ConfigPiece) -> u32 {
    if piece.offset == COMMAND && space.facts.no_command_memory {
        u32::from(space.shadow.word(COMMAND) & COMMAND_MEMORY)
    } else {
        0
    }
}

impl ConfigSpace {
    /// COMMAND's memory enable bit as the user set it.
    pub(super) fn command_memory(&self) -> bool {
        self.facts.no_command_memory || self.shadow.word(COMMAND) & COMMAND_MEMORY != 0
    }

    /// The interrupt pin the user sees.
    pub(super) fn interrupt_pin(&self) -> u32 {
        self.shadow.get(INTERRUPT_PIN, Width::Byte)
    }
}

/// Whether a piece is in the dword of COMMAND.
#[inline]
pub(super) fn is_command(piece: &ConfigPiece) -> bool {
    piece.offset & !3 == COMMAND
}

/// Writes a piece of the header.
#[inline(always)]
pub(super) fn write(
    space: &mut ConfigSpace,
    hw: &impl Hardware,
    piece: &ConfigPiece,
    value: u32,
) -> Result<Effects> {
    if is_command(piece) {
        return write_command(space, hw, piece, value);
    }
    space.write_bits(hw, piece, value)?;
    if let Some(number) = bar_number(piece.offset) {
        if let Some(bar) = space.bars.get(number) {
            size_bar(&mut space.shadow, piece.offset & !3, bar);
        }
    }
    Ok(Effects::default())
}

/// Writes a piece of the dword of COMMAND.
fn write_command(
    space: &mut ConfigSpace,
    hw: &impl Hardware,
    piece: &ConfigPiece,
    value: u32,
) -> Result<Effects> {
    let mut effects = Effects::default();
    let mut known = None;
    if piece.offset == COMMAND {
        let real = prepare_command(space, hw, value as u16)?;
        effects.bars_restored = real.is_none() && !space.facts.is_virtfn;
        known = real;
    }
    match (known, piece.width) {
        // Both halves are written, and the bits that are not were read just now.
        (Some(real), Width::Word | Width::Dword) => {
            let mask = space.write_private(piece, value) & Width::Word.mask();
            let kept = u32::from(real) & !mask;
            hw.write(COMMAND, Width::Word, kept | (value & mask))?;
        }
        _ => space.write_bits(hw, piece, value)?,
    }
    if piece.offset == COMMAND {
        // Kept for the comparison next time; these bits are not virtual.
        let decode = u32::from(COMMAND_MEMORY | COMMAND_IO);
        space.shadow.update(COMMAND, Width::Word, decode, value);
    }
    if piece.covers(COMMAND) || piece.covers(COMMAND | 1) {
        let disabled = space.shadow.word(COMMAND) & COMMAND_INTX_DISABLE != 0;
        if disabled != space.intx_disabled {
            space.intx_disabled = disabled;
            effects.intx_disable = Some(disabled);
        }
    }
    Ok(effects)
}

/// What comes before a write to COMMAND: no mapping may outlive memory decoding, and no decoding
/// may be switched on while the BARs have lost their addresses. Returns what the device has in the
/// register; or `None` if the BARs had lost them, and have them again.
///
/// A bit that the user believes set and the device has not, or a BAR that changed, means that the
/// device was reset by a register of its own.
fn prepare_command(space: &ConfigSpace, hw: &impl Hardware, new: u16) -> Result<Option<u16>> {
    let real = hw.read(COMMAND, Width::Word)? as u16;
    let known = space.shadow.word(COMMAND);
    if new & COMMAND_MEMORY == 0 {
        hw.revoke();
    }
    let mut lost = new & known & !real & (COMMAND_MEMORY | COMMAND_IO);
    if space.facts.no_command_memory {
        lost &= !COMMAND_MEMORY;
    }
    if lost != 0 || needs_bar_restore(space, hw) {
        restore_bars(space, hw);
        return Ok(None);
    }
    Ok(Some(real))
}

/// Whether the device's BARs differ from what they were at open: it was reset behind our back. A
/// BAR that cannot be read counts as different.
fn needs_bar_restore(space: &ConfigSpace, hw: &impl Hardware) -> bool {
    BARS.into_iter()
        .zip(space.bars)
        .filter(|(_, bar)| bar.real != 0)
        .any(|(offset, bar)| !matches!(hw.read(offset, Width::Dword), Ok(real) if real == bar.real))
}

/// Writes back the device's BARs as they were at open, and keeps a broken INTx line disabled. Does
/// nothing for VFs, which have no BARs of their own. Errors are ignored.
fn restore_bars(space: &ConfigSpace, hw: &impl Hardware) {
    if space.facts.is_virtfn {
        return;
    }
    for (offset, bar) in BARS_AND_ROM.into_iter().zip(space.bars) {
        let _ = hw.write(offset, Width::Dword, bar.real);
    }
    if space.facts.intx == IntxLine::Broken {
        if let Ok(command) = hw.read(COMMAND, Width::Word) {
            let command = command | u32::from(COMMAND_INTX_DISABLE);
            let _ = hw.write(COMMAND, Width::Word, command);
        }
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_config_header))]
mod tests {
    use super::super::{
        mock::Mock,
        BarFacts,
        BarSpace, //
    };
    use super::*;

    /// A device with addresses in its BARs and decoding on.
    fn device() -> Result<Mock> {
        let mock = Mock::new(256)?;
        let bars = [0xfe00_0000, 0xc001, 0x0000_000c, 0x38, 0, 0];
        for (offset, bar) in BARS.into_iter().zip(bars) {
            mock.set(offset, Width::Dword, bar);
        }
        mock.set(ROM_ADDRESS, Width::Dword, 0xfd00_0000);
        mock.set(INTERRUPT_PIN, Width::Byte, 1);
        mock.set(COMMAND, Width::Word, 0x3);
        Ok(mock)
    }

    fn virtual_function(mock: &Mock) -> Facts {
        Facts {
            is_virtfn: true,
            no_command_memory: true,
            vendor: 0x8086,
            device: 0x10ca,
            ..mock.facts()
        }
    }

    #[test]
    fn bars_can_be_sized() -> Result {
        let mock = device()?;
        let mut user = mock.open()?;
        let expected = [
            (0x10, 0xfffe_0000),
            (0x14, 0xffff_ffe1),
            (0x18, 0x0000_000c),
            (0x1c, 0xffff_fffe),
            (0x20, 0),
            (0x24, 0),
            (0x30, 0xffff_0001),
        ];

        for (offset, size) in expected {
            user.write(offset, Width::Dword, 0xffff_ffff)?;
            assert_eq!(user.read(offset, Width::Dword)?, size);
        }
        Ok(())
    }

    #[test]
    fn bars_of_the_device_do_not_move() -> Result {
        let mock = device()?;
        let mut user = mock.open()?;

        assert_eq!(user.read(0x10, Width::Dword)?, 0xfe00_0000);
        user.write(0x10, Width::Dword, 0xe000_0000)?;
        user.write(0x13, Width::Byte, 0xd0)?;
        assert_eq!(user.read(0x10, Width::Dword)?, 0xd000_0000);
        assert_eq!(mock.get(0x10, Width::Dword), 0xfe00_0000);
        Ok(())
    }

    #[test]
    fn io_bars_are_not_taken_for_wide_ones() -> Result {
        let mock = device()?;
        let bar = |size, space| {
            let prefetch = false;
            Some(BarFacts {
                size,
                space,
                prefetch,
            })
        };
        let mut facts = mock.facts();
        facts.bars = [None; 6];
        let [first, second, ..] = &mut facts.bars;
        *first = bar(4, BarSpace::Io);
        *second = bar(0x1000, BarSpace::Memory32);
        let mut user = mock.open_as(&facts)?;

        user.write(0x10, Width::Dword, 0xffff_ffff)?;
        user.write(0x14, Width::Dword, 0xffff_ffff)?;
        assert_eq!(user.read(0x10, Width::Dword)?, 0xffff_fffd);
        assert_eq!(user.read(0x14, Width::Dword)?, 0xffff_f000);
        Ok(())
    }

    #[test]
    fn a_rom_is_sized_to_a_power_of_two() -> Result {
        let mock = device()?;
        for (rom_size, expected) in [(0, 0), (0xc200, 0xffff_0001), (u64::MAX, 0)] {
            let facts = Facts {
                rom_size,
                ..mock.facts()
            };
            let mut user = mock.open_as(&facts)?;
            user.write(ROM_ADDRESS, Width::Dword, 0xffff_ffff)?;
            assert_eq!(user.read(ROM_ADDRESS, Width::Dword)?, expected);
        }
        Ok(())
    }

    #[test]
    fn command_reaches_the_device() -> Result {
        let mock = device()?;
        let mut user = mock.open()?;

        let effects = user.write(COMMAND, Width::Word, 0x0006)?;
        assert_eq!(mock.get(COMMAND, Width::Word), 0x0006);
        assert!(user.space.memory_enabled());
        assert_eq!(effects.intx_disable, None);
        assert_eq!(mock.revoked.get(), 0);
        Ok(())
    }

    #[test]
    fn memory_off_revokes_first() -> Result {
        let mock = device()?;
        let mut user = mock.open()?;

        assert!(user.space.memory_enabled());
        user.write(COMMAND, Width::Byte, 0)?;
        assert_eq!(mock.revoked.get(), 1);
        assert!(!user.space.memory_enabled());

        mock.broken.set(Some(COMMAND));
        assert_eq!(user.write(COMMAND, Width::Word, 0), Err(EIO));
        assert_eq!(mock.revoked.get(), 1);
        Ok(())
    }

    #[test]
    fn intx_disable_is_private() -> Result {
        let mock = device()?;
        let mut user = mock.open()?;

        let effects = user.write(COMMAND, Width::Word, 0x0403)?;
        assert_eq!(effects.intx_disable, Some(true));
        assert!(user.space.intx_disabled);
        assert_eq!(mock.get(COMMAND, Width::Word), 0x0003);
        assert_eq!(user.read(COMMAND, Width::Word)?, 0x0403);

        let effects = user.write(COMMAND | 1, Width::Byte, 0)?;
        assert_eq!(effects.intx_disable, Some(false));
        assert_eq!(user.read(COMMAND, Width::Word)?, 0x0003);
        Ok(())
    }

    #[test]
    fn lost_bars_are_restored_before_decoding() -> Result {
        let mock = device()?;
        let mut user = mock.open()?;

        // A reset by a register of the device's own.
        mock.set(COMMAND, Width::Word, 0);
        mock.set(0x10, Width::Dword, 0);
        mock.set(ROM_ADDRESS, Width::Dword, 0);
        assert!(needs_bar_restore(&user.space, &mock));

        let effects = user.write(COMMAND, Width::Word, 0x0007)?;
        assert!(effects.bars_restored);
        assert_eq!(mock.get(0x10, Width::Dword), 0xfe00_0000);
        assert_eq!(mock.get(ROM_ADDRESS, Width::Dword), 0xfd00_0000);
        assert_eq!(mock.get(COMMAND, Width::Word), 0x0007);
        Ok(())
    }

    #[test]
    fn lost_enable_bits_tell_of_a_reset_too() -> Result {
        let mock = device()?;
        let mut user = mock.open()?;

        for lost in [0x1, 0x2] {
            mock.set(COMMAND, Width::Word, 0x3 & !lost);
            assert!(user.write(COMMAND, Width::Word, 0x3)?.bars_restored);
        }
        assert!(!user.write(COMMAND, Width::Word, 0x3)?.bars_restored);
        Ok(())
    }

    #[test]
    fn a_broken_intx_line_stays_disabled() -> Result {
        let mock = device()?;
        let facts = Facts {
            intx: IntxLine::Broken,
            ..mock.facts()
        };
        let user = mock.open_as(&facts)?;

        assert!(!user.space.has_intx());
        restore_bars(&user.space, &mock);
        assert_eq!(mock.get(COMMAND, Width::Word), 0x0403);
        Ok(())
    }

    #[test]
    fn an_unusable_intx_line_is_hidden() -> Result {
        let mock = device()?;
        let facts = Facts {
            intx: IntxLine::Unusable,
            ..mock.facts()
        };
        let mut user = mock.open_as(&facts)?;

        assert_eq!(user.read(INTERRUPT_PIN, Width::Byte)?, 0);
        user.write(INTERRUPT_PIN, Width::Byte, 1)?;
        assert_eq!(user.read(INTERRUPT_PIN, Width::Byte)?, 0);
        assert!(mock.open()?.space.has_intx());
        Ok(())
    }

    #[test]
    fn virtual_functions_look_like_others() -> Result {
        let mock = Mock::new(256)?;
        mock.set(0, Width::Dword, 0xffff_ffff);
        mock.set(INTERRUPT_PIN, Width::Byte, 2);
        let mut user = mock.open_as(&virtual_function(&mock))?;

        assert_eq!(user.read(0, Width::Dword)?, 0x10ca_8086);
        assert_eq!(user.space.findings().vf_pin, Some(2));
        assert!(!user.space.has_intx());
        assert!(user.space.memory_enabled());
        assert_eq!(user.read(COMMAND, Width::Word)?, 0x0002);

        mock.set(COMMAND, Width::Word, 0);
        let effects = user.write(COMMAND, Width::Word, 0x0006)?;
        assert!(!effects.bars_restored);
        mock.set(COMMAND, Width::Word, 0x0004);
        assert_eq!(user.read(COMMAND, Width::Dword)? & 0xffff, 0x0006);
        restore_bars(&user.space, &mock);
        assert_eq!(mock.get(0x10, Width::Dword), 0);
        Ok(())
    }

    #[test]
    fn harmless_and_fixed_registers() -> Result {
        let mock = device()?;
        let mut user = mock.open()?;

        user.write(0x0c, Width::Dword, 0xffff_ffff)?;
        assert_eq!(mock.get(0x0c, Width::Dword), 0xff00_ffff);
        for offset in [0x00, 0x08, 0x28, 0x2c, 0x34, 0x38] {
            let before = mock.get(offset, Width::Dword);
            user.write(offset, Width::Dword, 0x5555_5555)?;
            assert_eq!(mock.get(offset, Width::Dword), before);
            assert_eq!(user.read(offset, Width::Dword)?, before);
        }
        Ok(())
    }
}
