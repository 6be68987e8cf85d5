// SPDX-License-Identifier: GPL-2.0
//! What configuration space tells: capabilities, numbers of vectors, the serial number.
//!
//! Others than root can read the first 64 bytes only, in which there are no capabilities.

use crate::machine::Device;
use crate::root::Root;

/// Message signalled interrupts.
const MSI: u8 = 0x05;
/// Those with a table.
const MSIX: u8 = 0x11;
/// PCI Express.
const EXPRESS: u8 = 0x10;
/// Extended: the serial number.
const SERIAL: u16 = 0x0003;
/// Extended: access control services.
const ACS: u16 = 0x000d;
/// Extended: BARs that can be resized.
const REBAR: u16 = 0x0015;

/// The configuration space of a device, as far as it can be read.
#[derive(Debug)]
pub struct Config(Vec<u8>);

/// How many vectors a device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vectors {
    /// Whether it has an interrupt pin.
    pub intx: bool,
    /// By MSI.
    pub msi: u32,
    /// By MSI-X.
    pub msix: u32,
}

impl Config {
    /// Reads it.
    #[must_use]
    pub fn read(root: &Root, device: &Device) -> Self {
        let path = format!("{}/config", device.folder());
        Self(root.bytes(&path).unwrap_or_default())
    }

    /// Whether more than the head is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.len() > 64
    }

    /// Whether the device answers nothing: it sleeps, or is gone.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.0.len() >= 4 && self.0[..4].iter().all(|byte| *byte == 0xff)
    }

    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.byte(at), self.byte(at + 1)])
    }

    fn long(&self, at: usize) -> u32 {
        u32::from(self.word(at)) | u32::from(self.word(at + 2)) << 16
    }

    fn capability(&self, wanted: u8) -> Option<usize> {
        if self.word(6) & 0x10 == 0 {
            return None;
        }
        let mut at = usize::from(self.byte(0x34) & 0xfc);
        // There is room for 48.
        for _ in 0..48 {
            if at < 0x40 {
                return None;
            }
            if self.byte(at) == wanted {
                return Some(at);
            }
            at = usize::from(self.byte(at + 1) & 0xfc);
        }
        None
    }

    fn extended(&self, wanted: u16) -> Option<usize> {
        let mut at = 0x100;
        // There is room for 480 of two words each.
        for _ in 0..480 {
            let head = self.long(at);
            if head == 0 || head == u32::MAX || at < 0x100 {
                return None;
            }
            if head & 0xffff == u32::from(wanted) {
                return Some(at);
            }
            at = usize::try_from(head >> 20 & 0xffc).unwrap_or(0);
        }
        None
    }

    /// Its vectors; `None` if that cannot be read.
    #[must_use]
    pub fn vectors(&self) -> Option<Vectors> {
        if !self.is_whole() {
            return None;
        }
        let msi = self
            .capability(MSI)
            .map_or(0, |at| 1 << (self.word(at + 2) >> 1 & 7));
        let msix = self
            .capability(MSIX)
            .map_or(0, |at| u32::from(self.word(at + 2) & 0x7ff) + 1);
        Some(Vectors {
            intx: self.byte(0x3d) != 0,
            msi,
            msix,
        })
    }

    /// Whether it is an Express device.
    #[must_use]
    pub fn is_express(&self) -> bool {
        self.capability(EXPRESS).is_some()
    }

    /// Its serial number.
    #[must_use]
    pub fn serial(&self) -> Option<String> {
        let at = self.extended(SERIAL)?;
        let (low, high) = (self.long(at + 4), self.long(at + 8));
        Some(format!("{high:08x}{low:08x}"))
    }

    /// Whether its port keeps devices below it apart: the bits that Linux wants.
    #[must_use]
    pub fn acs(&self) -> Option<bool> {
        let at = self.extended(ACS)?;
        const WANTED: u16 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4;
        let (has, on) = (self.word(at + 4) & WANTED, self.word(at + 6));
        Some(on & has == has)
    }

    /// Whether its BARs can be resized.
    #[must_use]
    pub fn can_resize(&self) -> bool {
        self.extended(REBAR).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
        bytes[at..at + value.len()].copy_from_slice(value);
    }

    fn config() -> Config {
        let mut bytes = vec![0; 4096];
        put(&mut bytes, 0, &[0x86, 0x80, 0xc9, 0x10]);
        put(&mut bytes, 6, &[0x10, 0]);
        put(&mut bytes, 0x34, &[0x40]);
        put(&mut bytes, 0x3d, &[1]);
        put(&mut bytes, 0x40, &[MSI, 0x50, 0x06, 0]); // eight
        put(&mut bytes, 0x50, &[MSIX, 0x60, 0x09, 0x80]); // ten
        put(&mut bytes, 0x60, &[EXPRESS, 0x00]);
        put(&mut bytes, 0x100, &[0x0d, 0, 0x01, 0x14]); // ACS, the next at 0x140
        put(&mut bytes, 0x104, &[0x1d, 0, 0x1d, 0]);
        put(&mut bytes, 0x140, &[0x03, 0, 0x01, 0]);
        put(&mut bytes, 0x144, &[1, 2, 3, 4, 5, 6, 7, 8]);
        Config(bytes)
    }

    #[test]
    fn capabilities_are_found() {
        let config = config();
        let vectors = Vectors {
            intx: true,
            msi: 8,
            msix: 10,
        };
        assert_eq!(config.vectors(), Some(vectors));
        assert_eq!(config.serial().as_deref(), Some("0807060504030201"));
        assert_eq!((config.acs(), config.is_express()), (Some(true), true));
        assert!(!config.is_dead() && !config.can_resize());
    }

    #[test]
    fn what_cannot_be_read_is_not_known() {
        let config = Config(config().0[..64].to_vec());
        assert_eq!(
            (config.vectors(), config.serial(), config.acs()),
            (None, None, None)
        );
        assert!(Config(vec![0xff; 64]).is_dead() && !Config(Vec::new()).is_dead());
    }

    #[test]
    fn circles_end() {
        let mut bytes = config().0;
        put(&mut bytes, 0x51, &[0x40]);
        put(&mut bytes, 0x142, &[0x01, 0x10]);
        let config = Config(bytes);
        assert_eq!(
            (config.capability(0x7f), config.extended(0x7f)),
            (None, None)
        );
    }
}
