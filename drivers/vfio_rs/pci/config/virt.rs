// SPDX-License-Identifier: GPL-2.0

//! Registers of capabilities whose writes have consequences.
//!
//! Each function stores the bits as the table says, then looks at what the private copy holds now
//! and reports what is left to do as [`Effects`]. Stands for `vfio_{pm,vpd,exp,af,msi}_config_*()`.

use super::{
    access::ConfigPiece,
    regs::{
        af,
        exp,
        msi,
        pm,
        vpd, //
    },
    ConfigSpace,
    Effects,
    Hardware,
    Width, //
};
use kernel::prelude::*;

/// A power state a user can ask for (PCI Bus Power Management 1.2, 3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PowerState {
    /// Working.
    D0,
    /// Light sleep.
    D1,
    /// Deeper sleep.
    D2,
    /// Off as far as software goes; only configuration space answers.
    D3hot,
}

/// An access to the Vital Product Data, through the VPD capability at offset `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vpd {
    /// `pci_read_vpd()` of 4 bytes at `address`.
    Read {
        /// Offset of the capability.
        cap: u16,
        /// Offset in the VPD.
        address: u16,
    },
    /// `pci_write_vpd()` of `data`, 4 bytes, at `address`.
    Write {
        /// Offset of the capability.
        cap: u16,
        /// Offset in the VPD.
        address: u16,
        /// The bytes, the first one lowest.
        data: u32,
    },
}

impl ConfigSpace {
    /// A register of the capability `piece` belongs to, as the copy has it.
    fn copy(&self, piece: &ConfigPiece, offset: u16) -> u16 {
        self.shadow.word(piece.cap.start.saturating_add(offset))
    }
}

/// Power Management: the state is not stored but asked for.
#[inline(never)]
pub(super) fn write_pm(
    space: &mut ConfigSpace,
    hw: &impl Hardware,
    piece: &ConfigPiece,
    value: u32,
) -> Result<Effects> {
    space.write_bits(hw, piece, value)?;
    let state = match value as u16 & pm::CTRL_STATE_MASK {
        0 => PowerState::D0,
        1 => PowerState::D1,
        2 => PowerState::D2,
        _ => PowerState::D3hot,
    };
    Ok(Effects {
        power: (piece.in_cap() == pm::CTRL).then_some(state),
        ..Effects::default()
    })
}

/// VPD: the byte with the flag starts the access.
#[inline(never)]
pub(super) fn write_vpd(
    space: &mut ConfigSpace,
    hw: &impl Hardware,
    piece: &ConfigPiece,
    value: u32,
) -> Result<Effects> {
    space.write_bits(hw, piece, value)?;
    if !piece.covers(vpd::ADDR | 1) {
        return Ok(Effects::default());
    }
    let cap = piece.cap.start;
    let register = space.copy(piece, vpd::ADDR);
    let address = register & !vpd::ADDR_F;
    let request = if register & vpd::ADDR_F == 0 {
        Vpd::Read { cap, address }
    } else {
        let data = space
            .shadow
            .get(cap.saturating_add(vpd::DATA), Width::Dword);
        Vpd::Write { cap, address, data }
    };
    Ok(Effects {
        vpd: Some(request),
        ..Effects::default()
    })
}

/// See [`ConfigSpace::vpd_done`].
pub(super) fn vpd_done(space: &mut ConfigSpace, request: Vpd, data: u32) {
    let (cap, flag) = match request {
        Vpd::Read { cap, .. } => {
            let offset = cap.saturating_add(vpd::DATA);
            space.shadow.set(offset, Width::Dword, data);
            (cap, vpd::ADDR_F)
        }
        Vpd::Write { cap, .. } => (cap, 0),
    };
    let offset = cap.saturating_add(vpd::ADDR);
    space
        .shadow
        .update(offset, Width::Word, vpd::ADDR_F.into(), flag.into());
}

/// MSI: the user's enable bit works only while MSI is set up by ioctl, and it cannot use more
/// vectors than that set up.
///
/// The number of vectors the function can have is shown as the device reports it. C has code that
/// would lower it to the number set up, but that changes another register's copy, to no effect.
#[inline(never)]
pub(super) fn write_msi(
    space: &mut ConfigSpace,
    hw: &impl Hardware,
    piece: &ConfigPiece,
    value: u32,
) -> Result<Effects> {
    space.write_bits(hw, piece, value)?;
    if piece.covers(msi::FLAGS) {
        let mut flags = space.copy(piece, msi::FLAGS);
        if !space.msi.active {
            flags &= !msi::FLAGS_ENABLE;
        }
        let order = (flags & msi::FLAGS_QSIZE) >> 4;
        if order > space.msi.order {
            flags = flags & !msi::FLAGS_QSIZE | space.msi.order << 4;
        }
        let offset = piece.cap.start.saturating_add(msi::FLAGS);
        space.shadow.set(offset, Width::Word, flags.into());
        hw.write(offset, Width::Word, flags.into())?;
    }
    Ok(Effects::default())
}

/// PCI Express: function level reset and maximum read request size.
#[inline(never)]
pub(super) fn write_exp(
    space: &mut ConfigSpace,
    hw: &impl Hardware,
    piece: &ConfigPiece,
    value: u32,
) -> Result<Effects> {
    let before = space.copy(piece, exp::DEVCTL);
    space.write_bits(hw, piece, value)?;
    let after = space.copy(piece, exp::DEVCTL);

    let mut effects = Effects::default();
    if after & exp::DEVCTL_FLR != 0 {
        // Reads as zero, also when nothing comes of it (PCIe 5.0, 7.5.3.4).
        let offset = piece.cap.start.saturating_add(exp::DEVCTL);
        space
            .shadow
            .update(offset, Width::Word, exp::DEVCTL_FLR.into(), 0);
        let offset = piece.cap.start.saturating_add(exp::DEVCAP);
        effects.reset = matches!(
            hw.read(offset, Width::Dword),
            Ok(devcap) if devcap & exp::DEVCAP_FLR != 0
        );
    }
    if (before ^ after) & exp::DEVCTL_READRQ != 0 {
        effects.read_request = Some(128 << ((after & exp::DEVCTL_READRQ) >> 12));
    }
    Ok(effects)
}

/// Advanced Features: function level reset.
#[inline(never)]
pub(super) fn write_af(
    space: &mut ConfigSpace,
    hw: &impl Hardware,
    piece: &ConfigPiece,
    value: u32,
) -> Result<Effects> {
    space.write_bits(hw, piece, value)?;

    let mut effects = Effects::default();
    let offset = piece.cap.start.saturating_add(af::CTRL);
    if space.shadow.get(offset, Width::Byte) & af::CTRL_FLR != 0 {
        // Reads as zero, also when nothing comes of it.
        space.shadow.update(offset, Width::Byte, af::CTRL_FLR, 0);
        let offset = piece.cap.start.saturating_add(af::CAP);
        effects.reset = matches!(
            hw.read(offset, Width::Byte),
            Ok(cap) if cap & af::CAP_FLR != 0 && cap & af::CAP_TP != 0
        );
    }
    Ok(effects)
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_config_virt))]
mod tests {
    use super::super::mock::Mock;
    use super::*;

    #[test]
    fn power_states_are_asked_for() -> Result {
        let mock = Mock::with_caps(256, &[(0x01, 0x40)])?;
        let mut user = mock.open()?;
        let states = [
            PowerState::D0,
            PowerState::D1,
            PowerState::D2,
            PowerState::D3hot,
        ];

        for (value, state) in (0..).zip(states) {
            let effects = user.write(0x44, Width::Word, value)?;
            assert_eq!(effects.power, Some(state));
            assert_eq!(mock.get(0x44, Width::Word), 0);
        }
        assert_eq!(user.write(0x45, Width::Byte, 0x1e)?.power, None);
        assert_eq!(mock.get(0x45, Width::Byte), 0x1e);
        Ok(())
    }

    #[test]
    fn pme_is_not_there() -> Result {
        let mock = Mock::with_caps(256, &[(0x01, 0x40)])?;
        mock.set(0x42, Width::Word, 0xfe03);
        mock.set(0x44, Width::Word, 0x8108);
        let mut user = mock.open()?;

        assert_eq!(user.read(0x42, Width::Word)?, 0x0603);
        assert_eq!(user.read(0x44, Width::Word)?, 0x0008);
        user.write(0x44, Width::Word, 0x8100)?;
        assert_eq!(user.read(0x44, Width::Word)?, 0);
        assert_eq!(mock.get(0x44, Width::Word), 0x8100);
        Ok(())
    }

    #[test]
    fn vpd_is_read_through_the_kernel() -> Result {
        let mock = Mock::with_caps(256, &[(0x03, 0x40)])?;
        let mut user = mock.open()?;

        let effects = user.write(0x42, Width::Word, 0x0124)?;
        let request = Vpd::Read {
            cap: 0x40,
            address: 0x124,
        };
        assert_eq!(effects.vpd, Some(request));
        assert_eq!(user.read(0x42, Width::Word)?, 0x0124);

        user.space.vpd_done(request, 0x4433_2211);
        assert_eq!(user.read(0x42, Width::Word)?, 0x8124);
        assert_eq!(user.read(0x44, Width::Dword)?, 0x4433_2211);
        assert_eq!(mock.get(0x42, Width::Word), 0);
        Ok(())
    }

    #[test]
    fn vpd_is_written_through_the_kernel() -> Result {
        let mock = Mock::with_caps(256, &[(0x03, 0x40)])?;
        let mut user = mock.open()?;

        assert_eq!(user.write(0x44, Width::Dword, 0x1122_3344)?.vpd, None);
        assert_eq!(user.write(0x42, Width::Byte, 0x10)?.vpd, None);
        let effects = user.write(0x43, Width::Byte, 0x80)?;
        let request = Vpd::Write {
            cap: 0x40,
            address: 0x10,
            data: 0x1122_3344,
        };
        assert_eq!(effects.vpd, Some(request));
        user.space.vpd_done(request, 0);
        assert_eq!(user.read(0x42, Width::Word)?, 0x0010);
        assert_eq!(user.read(0x44, Width::Dword)?, 0x1122_3344);
        Ok(())
    }

    #[test]
    fn msi_registers_are_private() -> Result {
        let mock = Mock::with_caps(256, &[(0x05, 0x40)])?;
        // 64-bit address, masking, up to 8 vectors.
        mock.set(0x42, Width::Word, 0x0186);
        let mut user = mock.open()?;

        for (offset, value) in [(0x44, 0xfee0_0000), (0x48, 1), (0x4c, 0x41)] {
            user.write(offset, Width::Dword, value)?;
            assert_eq!(user.read(offset, Width::Dword)?, value);
            assert_eq!(mock.get(offset, Width::Dword), 0);
        }
        user.write(0x50, Width::Dword, 0xff)?;
        assert_eq!(mock.get(0x50, Width::Dword), 0xff);
        assert_eq!(user.read(0x42, Width::Word)?, 0x0186);
        Ok(())
    }

    #[test]
    fn msi_enable_works_only_when_set_up() -> Result {
        let mock = Mock::with_caps(256, &[(0x05, 0x40)])?;
        mock.set(0x42, Width::Word, 0x0006);
        let mut user = mock.open()?;

        user.write(0x42, Width::Word, 0x0021)?;
        assert_eq!(user.read(0x42, Width::Byte)?, 0x00);
        assert_eq!(mock.get(0x42, Width::Byte), 0x00);

        user.space.msi_enabled(4);
        user.write(0x42, Width::Word, 0x0021)?;
        assert_eq!(mock.get(0x42, Width::Byte), 0x21);
        user.write(0x42, Width::Word, 0x0051)?;
        assert_eq!(mock.get(0x42, Width::Byte), 0x21);
        assert_eq!(user.read(0x42, Width::Byte)?, 0x21);

        user.space.msi_disabled();
        user.write(0x42, Width::Word, 0x0021)?;
        assert_eq!(mock.get(0x42, Width::Byte), 0x20);
        Ok(())
    }

    #[test]
    fn msi_vectors_are_rounded_up() -> Result {
        let mock = Mock::new(256)?;
        let mut space = mock.open()?.space;
        for (vectors, order) in [(1, 0), (2, 1), (3, 2), (4, 2), (17, 5), (32, 5)] {
            space.msi_enabled(vectors);
            assert_eq!(space.msi.order, order);
        }
        Ok(())
    }

    #[test]
    fn express_reset_is_asked_for_if_there_is_one() -> Result {
        let mock = Mock::with_caps(4096, &[(0x10, 0x40)])?;
        let mut user = mock.open()?;

        assert!(!user.write(0x48, Width::Word, 0x8000)?.reset);
        mock.set(0x44, Width::Dword, exp::DEVCAP_FLR);
        assert!(user.write(0x48, Width::Word, 0x8010)?.reset);
        assert_eq!(user.read(0x48, Width::Word)?, 0x0010);
        assert_eq!(mock.get(0x48, Width::Word), 0x0010);
        assert!(!user.write(0x48, Width::Word, 0x0010)?.reset);
        Ok(())
    }

    #[test]
    fn express_sizes_are_private() -> Result {
        let mock = Mock::with_caps(4096, &[(0x10, 0x40)])?;
        mock.set(0x48, Width::Word, 0x2020);
        let mut user = mock.open()?;

        let effects = user.write(0x48, Width::Word, 0x5040)?;
        assert_eq!(effects.read_request, Some(4096));
        assert_eq!(user.read(0x48, Width::Word)?, 0x5040);
        assert_eq!(mock.get(0x48, Width::Word), 0x2020);
        let effects = user.write(0x48, Width::Word, 0x5020)?;
        assert_eq!(effects.read_request, None);
        Ok(())
    }

    #[test]
    fn express_controls_of_the_host_stay() -> Result {
        let mock = Mock::with_caps(4096, &[(0x10, 0x40)])?;
        mock.set(0x42, Width::Word, 0x0002);
        let mut user = mock.open()?;

        user.write(0x48, Width::Dword, 0xffff_0fff)?;
        assert_eq!(mock.get(0x48, Width::Dword), 0x0000_0d1f);
        user.write(0x68, Width::Dword, 0xffff_ffff)?;
        assert_eq!(mock.get(0x68, Width::Dword), 0x0000_ffdf);
        user.write(0x50, Width::Dword, 0xffff_ffff)?;
        assert_eq!(mock.get(0x50, Width::Dword), 0);
        Ok(())
    }

    #[test]
    fn advanced_features_reset() -> Result {
        let mock = Mock::with_caps(256, &[(0x13, 0x40)])?;
        let mut user = mock.open()?;

        assert!(!user.write(0x44, Width::Byte, 1)?.reset);
        mock.set(0x43, Width::Byte, 0x3);
        assert!(user.write(0x44, Width::Byte, 1)?.reset);
        assert_eq!(user.read(0x44, Width::Byte)?, 0);
        assert_eq!(mock.get(0x44, Width::Byte), 0);
        mock.broken.set(Some(0x43));
        assert!(!user.write(0x44, Width::Byte, 1)?.reset);
        Ok(())
    }
}
