// SPDX-License-Identifier: GPL-2.0

//! How an access is cut into pieces, and what a piece does to copy and device.
//!
//! A piece is 1, 2 or 4 aligned bytes of one capability. Key type: [`ConfigPiece`]. Neighbours:
//! `layout.rs` says whose bytes they are, `perm.rs` what may be done, `header.rs` and `virt.rs`
//! what else happens. Stands for `vfio_pci_config_rw()` and `vfio_default_config_{read,write}()`.

use super::{
    header,
    layout::{
        widest,
        Cap, //
    },
    perm::{
        Bits,
        Special, //
    },
    shadow::extract,
    virt,
    ConfigSpace,
    Cut,
    Effects,
    Hardware,
    Width, //
};
use kernel::prelude::*;

/// An access to 1, 2 or 4 aligned bytes of one capability, or of none.
#[derive(Clone, Copy)]
pub(super) struct ConfigPiece {
    /// The capability.
    pub(super) cap: Cap,
    /// From the start of configuration space.
    pub(super) offset: u16,
    /// How much.
    pub(super) width: Width,
}

impl ConfigPiece {
    /// From the start of the capability.
    pub(super) fn in_cap(&self) -> u16 {
        self.offset.saturating_sub(self.cap.start)
    }

    /// Whether the byte at `at`, from the start of the capability, is part of it.
    pub(super) fn covers(&self, at: u16) -> bool {
        at.checked_sub(self.in_cap())
            .is_some_and(|distance| distance < self.width.bytes())
    }

    /// What may be done to the bits of this piece.
    fn bits(&self) -> Bits {
        let dword = self.cap.perm.dword(self.in_cap());
        Bits {
            virt: extract(dword.virt, self.offset, self.width),
            write: extract(dword.write, self.offset, self.width),
        }
    }
}

impl ConfigSpace {
    /// The first piece of an access to `len` bytes at `offset`.
    #[inline(always)]
    fn piece(&self, offset: u16, len: usize) -> ConfigPiece {
        let cap = self.layout.owner(offset);
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        let end = offset.saturating_add(len).min(cap.end);
        ConfigPiece {
            cap,
            offset,
            width: widest(offset, end),
        }
    }

    /// Checks that `len` bytes at `offset` are inside configuration space.
    fn check(&self, offset: u64, len: usize) -> Result<u16> {
        let size = u64::from(self.facts.size);
        // ERRNO: EFAULT, as `vfio_pci_config_rw_single()`.
        let end = offset.checked_add(len as u64).ok_or(EFAULT)?;
        if offset >= size || end > size {
            return Err(EFAULT);
        }
        u16::try_from(offset).map_err(|_| EFAULT)
    }

    /// Reads a piece: private bits from the copy, the others from the device.
    fn read_piece(&self, hw: &impl Hardware, piece: &ConfigPiece) -> Result<u32> {
        let virt = piece.bits().virt;
        let mut value = self.shadow.get(piece.offset, piece.width) & virt;
        if virt != piece.width.mask() {
            value |= hw.read(piece.offset, piece.width)? & !virt;
        }
        Ok(value | header::always_on(self, piece))
    }

    /// Writes what is writable of a piece: private bits to the copy, the others to the device.
    #[inline]
    pub(super) fn write_bits(
        &mut self,
        hw: &impl Hardware,
        piece: &ConfigPiece,
        value: u32,
    ) -> Result {
        match self.write_private(piece, value) {
            0 => Ok(()),
            mask => write_masked(hw, piece.offset, piece.width, mask, value),
        }
    }

    /// Writes what is writable of a piece and private, and returns which bits of the device's own
    /// are writable.
    #[inline(always)]
    pub(super) fn write_private(&mut self, piece: &ConfigPiece, value: u32) -> u32 {
        let Bits { virt, write } = piece.bits();

        self.shadow
            .update(piece.offset, piece.width, write & virt, value);
        write & !virt
    }
}

/// Changes those bits of a device's register that are set in `mask`.
///
/// Bytes at the ends that have none of them are left alone, as they may be status bits that are
/// cleared by writing back what was read. Stricter than C.
fn write_masked(hw: &impl Hardware, offset: u16, width: Width, mask: u32, value: u32) -> Result {
    let (half, bits) = match width {
        Width::Byte => (width, 0),
        Width::Word => (Width::Byte, 8),
        Width::Dword => (Width::Word, 16),
    };
    if bits != 0 && mask >> bits == 0 {
        return write_masked(hw, offset, half, mask, value);
    }
    if bits != 0 && mask & half.mask() == 0 {
        let offset = offset.saturating_add(half.bytes());
        return write_masked(hw, offset, half, mask >> bits, value >> bits);
    }
    let kept = if mask == width.mask() {
        0
    } else {
        hw.read(offset, width)? & !mask
    };
    hw.write(offset, width, kept | (value & mask))
}

/// See [`ConfigSpace::read`].
pub(super) fn read(space: &ConfigSpace, hw: &impl Hardware, offset: u64, buf: &mut [u8]) -> Result {
    if buf.is_empty() {
        return Ok(());
    }
    let mut offset = space.check(offset, buf.len())?;
    let mut rest = buf;
    while !rest.is_empty() {
        let piece = space.piece(offset, rest.len());
        let value = space.read_piece(hw, &piece)?;
        let len = piece.width.bytes();
        let (head, tail) = rest.split_at_mut_checked(usize::from(len)).ok_or(EFAULT)?;
        for (to, from) in head.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
        rest = tail;
        offset = offset.saturating_add(len);
    }
    Ok(())
}

/// See [`ConfigSpace::cut`].
#[inline(always)]
pub(super) fn cut(space: &ConfigSpace, offset: u64, data: &[u8]) -> Result<Cut> {
    let offset = space.check(offset, data.len())?;
    let piece = space.piece(offset, data.len());
    let value = match (piece.width, data) {
        (Width::Dword, &[a, b, c, d, ..]) => u32::from_le_bytes([a, b, c, d]),
        (Width::Word, &[a, b, ..]) => u16::from_le_bytes([a, b]).into(),
        (Width::Byte, &[a, ..]) => a.into(),
        _ => return Err(EFAULT),
    };
    Ok(Cut { piece, value })
}

impl Cut {
    /// Bytes: 1, 2 or 4.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.piece.width.bytes())
    }

    /// Whether writing it does no more than to store bits, in the copy or in the device: it has no
    /// [`Effects`], revokes nothing, and changes nothing of whether memory answers.
    #[inline]
    pub(crate) fn only_stores(&self) -> bool {
        match self.piece.cap.perm.special {
            Special::None => true,
            Special::Header => !header::is_command(&self.piece),
            Special::Pm | Special::Vpd | Special::Msi | Special::Exp | Special::Af => false,
        }
    }
}

/// See [`ConfigSpace::put`].
#[inline(always)]
pub(super) fn put(space: &mut ConfigSpace, hw: &impl Hardware, cut: &Cut) -> Result<Effects> {
    let Cut { piece, value } = cut;
    let value = *value;
    match piece.cap.perm.special {
        Special::None => {
            space.write_bits(hw, piece, value)?;
            Ok(Effects::default())
        }
        Special::Header => header::write(space, hw, piece, value),
        Special::Pm => virt::write_pm(space, hw, piece, value),
        Special::Vpd => virt::write_vpd(space, hw, piece, value),
        Special::Msi => virt::write_msi(space, hw, piece, value),
        Special::Exp => virt::write_exp(space, hw, piece, value),
        Special::Af => virt::write_af(space, hw, piece, value),
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_config_access))]
mod tests {
    use super::super::mock::Mock;
    use super::*;

    #[test]
    fn ranges_must_be_inside() -> Result {
        let mock = Mock::new(256)?;
        let space = mock.open()?.space;
        let mut buf = [0; 8];

        assert_eq!(space.read(&mock, 248, &mut buf), Ok(()));
        assert_eq!(space.read(&mock, 249, &mut buf), Err(EFAULT));
        assert_eq!(space.read(&mock, 256, &mut buf), Err(EFAULT));
        assert_eq!(space.read(&mock, u64::MAX, &mut buf), Err(EFAULT));
        assert!(space.cut(248, &buf).is_ok());
        for offset in [249, 253, 256, u64::MAX] {
            assert!(space.cut(offset, &buf).is_err_and(|err| err == EFAULT));
        }
        Ok(())
    }

    #[test]
    fn nothing_may_be_accessed_anywhere() -> Result {
        let mock = Mock::new(256)?;
        let space = mock.open()?.space;

        assert_eq!(space.read(&mock, u64::MAX, &mut []), Ok(()));
        assert!(space.cut(0, &[]).is_err());
        Ok(())
    }

    #[test]
    fn a_long_unaligned_read_is_one_read() -> Result {
        let mock = Mock::new(256)?;
        let space = mock.open()?.space;
        let mut buf = [0xaa; 7];

        mock.set(0x2c, Width::Dword, 0x4433_2211);
        space.read(&mock, 0x2b, &mut buf)?;
        assert_eq!(buf, [0, 0x11, 0x22, 0x33, 0x44, 0, 0]);
        Ok(())
    }

    #[test]
    fn writes_take_one_aligned_piece() -> Result {
        let mock = Mock::new(256)?;
        let space = mock.open()?.space;

        for (offset, expected) in [(0x80, 4), (0x81, 1), (0x82, 2), (0x83, 1)] {
            assert_eq!(space.cut(offset, &[0; 9])?.len(), expected);
        }
        Ok(())
    }

    #[test]
    fn pieces_end_with_the_capability() -> Result {
        // Advanced Features has 6 bytes.
        let mock = Mock::with_caps(256, &[(0x13, 0x40)])?;
        let space = mock.open()?.space;

        assert_eq!(space.cut(0x44, &[0; 4])?.len(), 2);
        assert_eq!(space.cut(0x46, &[0; 4])?.len(), 2);
        Ok(())
    }

    #[test]
    fn most_writes_only_store() -> Result {
        // Power management, MSI, PCI Express; the header's COMMAND and STATUS.
        let mock = Mock::with_caps(256, &[(0x01, 0x40), (0x05, 0x50), (0x10, 0x70)])?;
        let mut user = mock.open()?;
        let others = [0x04..0x08, 0x40..0x48, 0x50..0x5a, 0x70..0xa4];

        for offset in 0..256u16 {
            let cut = user.space.cut(offset.into(), &[0xff])?;
            let only_stores = !others.iter().any(|range| range.contains(&offset));
            assert_eq!(cut.only_stores(), only_stores);
            if only_stores {
                let enabled = user.space.memory_enabled();
                assert_eq!(user.space.put(&mock, &cut)?, Effects::default());
                assert_eq!(user.space.memory_enabled(), enabled);
                assert_eq!(mock.revoked.get(), 0);
            }
        }
        Ok(())
    }

    #[test]
    fn gaps_are_the_devices() -> Result {
        let mock = Mock::new(256)?;
        let mut user = mock.open()?;

        user.write(0x80, Width::Dword, 0x1234_5678)?;
        assert_eq!(mock.get(0x80, Width::Dword), 0x1234_5678);
        mock.set(0x80, Width::Word, 0xabcd);
        assert_eq!(user.read(0x80, Width::Dword)?, 0x1234_abcd);
        Ok(())
    }

    #[test]
    fn whole_registers_are_not_read_before_written() -> Result {
        let mock = Mock::new(256)?;
        let mut user = mock.open()?;

        mock.reads.set(0);
        user.write(0x80, Width::Dword, 1)?;
        assert_eq!(mock.reads.get(), 0);
        Ok(())
    }

    #[test]
    fn status_beside_command_is_not_written() -> Result {
        let mock = Mock::new(256)?;
        let mut user = mock.open()?;

        user.write(0x04, Width::Dword, 0xffff_0006)?;
        assert_eq!(mock.last_write.get(), Some((0x04, Width::Word, 0x0006)));
        Ok(())
    }

    #[test]
    fn private_registers_do_not_touch_the_device() -> Result {
        let mock = Mock::new(256)?;
        let mut user = mock.open()?;

        mock.reads.set(0);
        user.write(0x3c, Width::Byte, 11)?;
        assert_eq!(user.read(0x3c, Width::Byte)?, 11);
        assert_eq!(mock.reads.get(), 0);
        assert_eq!(mock.get(0x3c, Width::Byte), 0);
        Ok(())
    }

    #[test]
    fn errors_of_the_device_are_passed_on() -> Result {
        let mock = Mock::new(256)?;
        let mut user = mock.open()?;

        mock.broken.set(Some(0x80));
        assert_eq!(user.read(0x80, Width::Word), Err(EIO));
        assert_eq!(user.write(0x80, Width::Word, 0), Err(EIO));
        Ok(())
    }

    #[test]
    fn masked_writes_keep_the_other_bits() -> Result {
        let mock = Mock::new(256)?;
        let dword = |mask| -> Result<_> {
            mock.set(0x80, Width::Dword, 0x1111_1111);
            write_masked(&mock, 0x80, Width::Dword, mask, 0xffff_ffff)?;
            Ok(mock.last_write.get())
        };

        assert_eq!(dword(0xf000_000f)?, Some((0x80, Width::Dword, 0xf111_111f)));
        assert_eq!(dword(0x0000_ff00)?, Some((0x81, Width::Byte, 0xff)));
        assert_eq!(dword(0x0f00_0000)?, Some((0x83, Width::Byte, 0x1f)));
        assert_eq!(dword(0x0ff0_0000)?, Some((0x82, Width::Word, 0x1ff1)));
        Ok(())
    }
}
