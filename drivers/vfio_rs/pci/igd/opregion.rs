// SPDX-License-Identifier: GPL-2.0

//! The OpRegion of Intel graphics, with the video BIOS table (VBT) right behind it.
//!
//! The OpRegion is a piece of memory by which firmware talks to the graphics driver. A VBT that is
//! too large for it lies elsewhere: version 2.0 has its physical address, later ones its distance
//! from the OpRegion. Neither means anything in a guest, so users get both in one piece, as version
//! 2.1 allows: the VBT right behind the OpRegion, and the fields that say so changed on the way.
//!
//! Pure: memory is behind [`OpRegionMemory`]. Field names are those of Intel's "IGD
//! OpRegion/Software SCI Specification", 0.5 and later. Stands for the OpRegion's part of
//! drivers/vfio/pci/vfio_pci_igd.c.

use kernel::prelude::*;

/// Bytes of the OpRegion itself.
pub(super) const SIZE: usize = 8192;

/// `SIGN`.
const SIGNATURE: &[u8; 16] = b"IntelGraphicsMem";
/// `SIZE`, in KiB.
const KIB: usize = 0x10;
/// `OVER`: the version; of its four bytes those with minor and major.
const VERSION: usize = 0x16;
/// `RVDA`: where the VBT is, if not in the OpRegion.
const RVDA: usize = 0x3ba;
/// `RVDS`: bytes of the VBT.
const RVDS: usize = 0x3c2;

/// The first version with a VBT elsewhere. `RVDA` is its address.
const V2_0: u16 = 0x0200;
/// The version from which on `RVDA` is a distance.
const V2_1: u16 = 0x0201;

/// Most bytes of a VBT elsewhere; those that are known have some ten KiB.
const VBT_MAX: u32 = 1 << 20;

/// Memory that firmware keeps, and may change at any time.
pub(crate) trait OpRegionMemory: Sized {
    /// `len` bytes at the physical address `at`. `EINVAL` if they are not all kept by firmware,
    /// `ENOMEM`.
    fn map(at: u64, len: usize) -> Result<Self>;

    /// Reads; `EINVAL` beyond the end.
    fn read(&self, at: usize, buf: &mut [u8]) -> Result;
}

/// OpRegion and VBT.
pub(crate) struct OpRegion<M> {
    /// [`SIZE`] bytes.
    base: M,
    /// What is shown of it, at most [`SIZE`].
    len: usize,
    /// A VBT elsewhere, and its size.
    vbt: Option<(M, usize)>,
}

impl<M: OpRegionMemory> OpRegion<M> {
    /// The OpRegion at physical address `at`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none, it or its VBT is not in memory that firmware keeps, or the VBT is
    /// too large; `ENOMEM`.
    pub(crate) fn new(at: u64) -> Result<Self> {
        let base = M::map(at, SIZE)?;
        if bytes_at::<_, 16>(&base, 0)? != *SIGNATURE {
            return Err(EINVAL);
        }
        let kib = u32::from_le_bytes(bytes_at(&base, KIB)?) as usize;
        if kib == 0 {
            return Err(EINVAL);
        }
        let vbt = match vbt_place(&base, at)? {
            Some((at, len)) => Some((M::map(at, len)?, len)),
            None => None,
        };
        let len = match vbt {
            // Behind the whole OpRegion, as what is written to RVDA says.
            Some(_) => SIZE,
            // Not more than there is, whatever the firmware says.
            None => kib.saturating_mul(1024).min(SIZE),
        };
        Ok(Self { base, len, vbt })
    }

    /// Bytes of both.
    pub(crate) fn size(&self) -> u64 {
        let vbt = self.vbt.as_ref().map_or(0, |(_, len)| *len);
        (self.len as u64).saturating_add(vbt as u64)
    }

    /// Reads what users see at `at`.
    ///
    /// # Errors
    ///
    /// `EINVAL` beyond the end.
    pub(crate) fn read(&self, at: usize, buf: &mut [u8]) -> Result {
        let own = self.len.saturating_sub(at).min(buf.len());
        let (head, tail) = buf.split_at_mut_checked(own).ok_or(EINVAL)?;
        if !tail.is_empty() {
            let (vbt, _) = self.vbt.as_ref().ok_or(EINVAL)?;
            vbt.read(at.saturating_sub(self.len), tail)?;
        }
        if head.is_empty() {
            return Ok(());
        }
        self.base.read(at, head)?;
        let distance = if self.vbt.is_some() { SIZE as u64 } else { 0 };
        replace(head, at, RVDA, &distance.to_le_bytes());
        if self.vbt.is_some() && version(&self.base)? == V2_0 {
            replace(head, at, VERSION, &V2_1.to_le_bytes());
        }
        Ok(())
    }
}

fn bytes_at<M: OpRegionMemory, const N: usize>(memory: &M, at: usize) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    memory.read(at, &mut bytes)?;
    Ok(bytes)
}

fn version<M: OpRegionMemory>(base: &M) -> Result<u16> {
    Ok(u16::from_le_bytes(bytes_at(base, VERSION)?))
}

/// Physical address and size of a VBT that is not in the OpRegion, which is at `at`.
fn vbt_place<M: OpRegionMemory>(base: &M, at: u64) -> Result<Option<(u64, usize)>> {
    let version = version(base)?;
    if version < V2_0 {
        return Ok(None);
    }
    let rvda = u64::from_le_bytes(bytes_at(base, RVDA)?);
    let rvds = u32::from_le_bytes(bytes_at(base, RVDS)?);
    if rvda == 0 || rvds == 0 {
        return Ok(None);
    }
    let start = match version {
        V2_0 => rvda,
        _ => at.checked_add(rvda).ok_or(EINVAL)?,
    };
    start.checked_add(rvds.into()).ok_or(EINVAL)?;
    if rvds > VBT_MAX {
        return Err(EINVAL);
    }
    Ok(Some((start, rvds as usize)))
}

/// Puts `bytes`, which belong at `place`, over what `buf`, which begins at `at`, has of that place.
fn replace(buf: &mut [u8], at: usize, place: usize, bytes: &[u8]) {
    for (to, at) in buf.iter_mut().zip(at..) {
        if let Some(byte) = at.checked_sub(place).and_then(|i| bytes.get(i)) {
            *to = *byte;
        }
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_igd_opregion))]
mod tests {
    use super::*;

    /// Where the firmware of these tests puts the OpRegion.
    const BASE: u64 = 0x7fff_0000;
    /// Where it puts a VBT, and the bytes of that.
    const VBT: u64 = 0x1_2345_0000;
    const VBT_LEN: u32 = 0x1c01;

    /// How large it is.
    fn rvds(at: u64) -> u32 {
        match at.wrapping_sub(BASE) >> 32 {
            10 => VBT_MAX,
            11 => VBT_MAX.saturating_add(1),
            12 => u32::MAX,
            _ => VBT_LEN,
        }
    }

    /// Which version and size the OpRegion at an address has, and where its VBT is. There is no
    /// state in a test's memory, so the address says it all.
    fn firmware(at: u64) -> (u16, u32, u64) {
        match at.wrapping_sub(BASE) >> 32 {
            0 => (0x0100, 8, VBT),
            1 => (0x0200, 8, VBT),
            2 => (0x0201, 8, 0x4000),
            3 => (0x0201, 8, 0),
            4 => (0x0200, 4, VBT),
            5 => (0x0100, 4, 0),
            6 => (0x0100, 0x40_0000, 0),
            7 => (0x0100, 0, 0),
            8 => (0x0300, 8, u64::MAX),
            10..13 => (0x0200, 8, VBT),
            _ => (0x0200, 8, u64::MAX),
        }
    }

    fn case(number: u64) -> Result<OpRegion<Firmware>> {
        OpRegion::new(BASE.wrapping_add(number << 32))
    }

    struct Firmware {
        at: u64,
        len: usize,
    }

    impl Firmware {
        /// The byte at a physical address.
        fn byte(&self, at: usize) -> u8 {
            let (version, kib, rvda) = firmware(self.at);
            let mut byte = [(at as u8) ^ (at >> 8) as u8 ^ (self.at >> 16) as u8];
            if self.len == SIZE {
                replace(&mut byte, at, 0, SIGNATURE);
                replace(&mut byte, at, KIB, &kib.to_le_bytes());
                replace(&mut byte, at, VERSION, &version.to_le_bytes());
                replace(&mut byte, at, RVDA, &rvda.to_le_bytes());
                replace(&mut byte, at, RVDS, &rvds(self.at).to_le_bytes());
            }
            let [byte] = byte;
            byte
        }
    }

    impl OpRegionMemory for Firmware {
        fn map(at: u64, len: usize) -> Result<Self> {
            Ok(Self { at, len })
        }

        fn read(&self, at: usize, buf: &mut [u8]) -> Result {
            if at.checked_add(buf.len()).is_none_or(|end| end > self.len) {
                return Err(EINVAL);
            }
            for (to, at) in buf.iter_mut().zip(at..) {
                *to = self.byte(at);
            }
            Ok(())
        }
    }

    fn word<const N: usize>(region: &OpRegion<Firmware>, at: usize) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        region.read(at, &mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn before_2_0_there_is_one_part() -> Result {
        let region = case(0)?;
        assert_eq!(region.size(), 8192);
        assert_eq!(word(&region, RVDA)?, [0; 8]);
        assert_eq!(word(&region, VERSION)?, 0x0100u16.to_le_bytes());
        assert_eq!(region.read(8192, &mut [0]), Err(EINVAL));
        assert_eq!(region.read(8191, &mut [0; 2]), Err(EINVAL));
        Ok(())
    }

    #[test]
    fn vbt_by_address() -> Result {
        let region = case(1)?;
        let (vbt, _) = region.vbt.as_ref().ok_or(ENODEV)?;
        assert_eq!((vbt.at, vbt.len as u32), (VBT, VBT_LEN));
        assert_eq!(region.size(), 8192 + u64::from(VBT_LEN));
        // As one of 2.1 that is in one piece.
        assert_eq!(word(&region, VERSION)?, V2_1.to_le_bytes());
        assert_eq!(word(&region, RVDA)?, 8192u64.to_le_bytes());
        assert_eq!(word(&region, RVDS)?, VBT_LEN.to_le_bytes());
        Ok(())
    }

    #[test]
    fn vbt_by_distance() -> Result {
        let region = case(2)?;
        let (vbt, _) = region.vbt.as_ref().ok_or(ENODEV)?;
        assert_eq!(vbt.at, region.base.at.wrapping_add(0x4000));
        assert_eq!(word(&region, VERSION)?, V2_1.to_le_bytes());
        assert_eq!(word(&region, RVDA)?, 8192u64.to_le_bytes());
        Ok(())
    }

    #[test]
    fn no_address_is_no_vbt() -> Result {
        let region = case(3)?;
        assert!(region.vbt.is_none());
        assert_eq!(region.size(), 8192);
        assert_eq!(word(&region, RVDS)?, VBT_LEN.to_le_bytes());
        Ok(())
    }

    #[test]
    fn the_size_is_believed_up_to_a_point() -> Result {
        assert_eq!(case(4)?.size(), 8192 + u64::from(VBT_LEN));
        assert_eq!(case(5)?.size(), 4096);
        assert_eq!(case(5)?.read(4096, &mut [0]), Err(EINVAL));
        assert_eq!(case(6)?.size(), 8192);
        assert_eq!(case(7).err(), Some(EINVAL));
        Ok(())
    }

    #[test]
    fn a_vbt_beyond_all_memory_is_refused() {
        assert_eq!(case(8).err(), Some(EINVAL));
        assert_eq!(case(9).err(), Some(EINVAL));
    }

    #[test]
    fn a_vbt_has_bounds() -> Result {
        assert_eq!(case(10)?.size(), 8192 + u64::from(VBT_MAX));
        assert_eq!(case(11).err(), Some(EINVAL));
        assert_eq!(case(12).err(), Some(EINVAL));
        Ok(())
    }

    #[test]
    fn parts_join() -> Result {
        let region = case(1)?;
        let (vbt, _) = region.vbt.as_ref().ok_or(ENODEV)?;
        let mut buf = [0; 7];
        region.read(8189, &mut buf)?;
        for (at, byte) in (8189..).zip(buf) {
            let expected = match usize::checked_sub(at, 8192) {
                Some(at) => vbt.byte(at),
                None => region.base.byte(at),
            };
            assert_eq!(byte, expected);
        }
        Ok(())
    }
}
