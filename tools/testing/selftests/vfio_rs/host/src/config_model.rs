// SPDX-License-Identifier: GPL-2.0

//! A naive model of configuration space: byte by byte, from a list of what is special.
//!
//! Written from the permission functions of drivers/vfio/pci/vfio_pci_config.c, as a second
//! opinion on the tables. It knows the capabilities that `config_device.rs` makes, a function with
//! no BARs and MSI that is not set up.

// A panic is how a test fails.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use crate::config_device::{
    is_in,
    Capability,
    Device,
    HIDDEN,
    HIDDEN_EXTENDED, //
};

/// One byte of configuration space.
#[derive(Clone, Copy, Debug, Default)]
struct Byte {
    real: u8,
    copy: u8,
    virt: u8,
    write: u8,
}

/// Configuration space as its user should see it.
pub(crate) struct Model {
    bytes: Vec<Byte>,
    standard: Vec<Capability>,
}

impl Model {
    /// The model of a device.
    pub(crate) fn new(device: &Device) -> Self {
        let bytes = device.image.iter().flat_map(|dword| dword.to_le_bytes());
        let mut model = Self {
            bytes: bytes
                .map(|real| Byte {
                    real,
                    copy: real,
                    virt: 0,
                    write: 0xff,
                })
                .collect(),
            standard: shown(&device.standard, &HIDDEN),
        };
        // The rest goes over these.
        model.hidden(&device.standard, &HIDDEN, 0x100);
        model.hidden(&device.extended, &HIDDEN_EXTENDED, 0x1000);
        model.header();
        for cap in model.standard.clone() {
            model.capability(cap);
        }
        let extended = shown(&device.extended, &HIDDEN_EXTENDED);
        for cap in &extended {
            model.extended(*cap);
        }
        model.link(device, &extended);
        model
    }

    /// What the user reads.
    pub(crate) fn read(&self, offset: u16) -> u8 {
        let byte = &self.bytes[usize::from(offset)];
        (byte.real & !byte.virt) | (byte.copy & byte.virt)
    }

    /// What the device has.
    pub(crate) fn real(&self, offset: u16) -> u8 {
        self.bytes[usize::from(offset)].real
    }

    /// A write of one aligned piece.
    pub(crate) fn write(&mut self, offset: u16, data: &[u8]) {
        for (byte, value) in self.bytes[usize::from(offset)..].iter_mut().zip(data) {
            let (private, real) = (byte.write & byte.virt, byte.write & !byte.virt);
            byte.copy = (byte.copy & !private) | (value & private);
            byte.real = (byte.real & !real) | (value & real);
        }
        let written = usize::from(offset)..usize::from(offset) + data.len();
        for cap in self.standard.clone() {
            let at = |register: usize| usize::from(cap.start) + register;
            match cap.id {
                0x05 if written.contains(&at(2)) => {
                    // Not set up: no enable bit, one vector.
                    self.bytes[at(2)].copy &= !0x71;
                    self.bytes[at(2)].real = self.bytes[at(2)].copy;
                }
                0x10 if (at(0)..at(52)).contains(&written.start) => {
                    self.bytes[at(9)].copy &= !0x80;
                }
                0x13 if (at(0)..at(6)).contains(&written.start) => {
                    self.bytes[at(4)].copy &= !0x01;
                }
                _ => (),
            }
        }
    }

    /// What is hidden in a chain, whose space ends at `end`, is read-only.
    fn hidden(&mut self, chain: &[Capability], table: &[(u16, u16)], end: usize) {
        for (id, length) in table {
            for cap in chain.iter().filter(|cap| cap.id == *id) {
                let start = usize::from(cap.start);
                let starts = chain.iter().map(|cap| usize::from(cap.start));
                let next = starts.filter(|at| *at > start).min().unwrap_or(end);
                let stop = match usize::from(*length) {
                    0 => next,
                    length => start + length,
                };
                for at in start..stop {
                    self.set(at, &[0], &[0]);
                }
            }
        }
    }

    /// Sets what may be done with some bytes, lowest first.
    fn set(&mut self, offset: usize, virt: &[u8], write: &[u8]) {
        let bytes = self.bytes[offset..].iter_mut();
        for ((byte, virt), write) in bytes.zip(virt).zip(write) {
            (byte.virt, byte.write) = (*virt, *write);
        }
    }

    fn read_only(&mut self, offset: usize, length: usize) {
        self.set(offset, &[0; 64][..length], &[0; 64][..length]);
    }

    fn header(&mut self) {
        self.read_only(0, 64);
        self.set(0x00, &[0xff; 4], &[0; 4]);
        self.set(0x04, &[0, 0x04, 0x10, 0], &[0xff, 0xff, 0, 0]);
        self.set(0x0c, &[0; 4], &[0xff, 0xff, 0, 0xff]);
        // BARs that are not there.
        for at in (0x10..0x28).chain(0x30..0x34) {
            self.set(at, &[0xff], &[0]);
            self.bytes[at].copy = 0;
        }
        self.set(0x34, &[0xff], &[0]);
        self.set(0x3c, &[0xff, 0xff], &[0xff, 0]);
    }

    fn capability(&mut self, cap: Capability) {
        let at = usize::from(cap.start);
        let flags = u16::from_le_bytes([self.bytes[at + 2].real, self.bytes[at + 3].real]);
        match cap.id {
            0x01 => {
                self.read_only(at, 8);
                self.set(at + 2, &[0, 0xf8], &[0, 0]);
                self.set(at + 4, &[0, 0x81, 0, 0], &[0xfc, 0x7e, 0xff, 0xff]);
                self.bytes[at + 3].copy &= !0xf8;
                self.bytes[at + 5].copy &= !0x81;
            }
            0x02 | 0x11 => self.read_only(at, 12),
            0x03 => self.set(at, &[0xff; 8], &[0, 0, 255, 255, 255, 255, 255, 255]),
            0x05 => self.msi(at, flags),
            0x09 => self.set(at, &[0; 2], &[0; 2]),
            0x10 => {
                self.read_only(at, 52);
                self.set(at + 8, &[0xe0, 0xf0], &[0xff, 0xfd]);
                self.set(at + 0x28, &[0, 0], &[0xdf, 0xff]);
            }
            0x13 => {
                self.read_only(at, 6);
                self.set(at + 4, &[0x01], &[0x01]);
            }
            _ => unreachable!(),
        }
        self.set(at, &[0, 0xff], &[0, 0]);
    }

    fn msi(&mut self, at: usize, flags: u16) {
        let (wide, mask) = (flags & 0x80 != 0, flags & 0x100 != 0);
        let length = 10 + if wide { 4 } else { 0 } + if mask { 10 } else { 0 };
        let address = if wide { 8 } else { 4 };
        self.read_only(at, length);
        self.set(at + 2, &[0xff], &[0xff]);
        let private = [0xff; 10];
        self.set(at + 4, &private[..address + 2], &private[..address + 2]);
        if mask {
            let masks = at + 4 + address + 4;
            self.set(masks, &[0; 8], &[0xff; 8]);
        }
    }

    fn extended(&mut self, cap: Capability) {
        let at = usize::from(cap.start);
        match cap.id {
            0x01 => {
                self.read_only(at, 0x2c);
                for register in [4, 8, 12] {
                    self.set(at + register, &[0; 4], &[0x31, 0xf0, 0xff, 0x03]);
                }
                for register in [16, 20] {
                    self.set(at + register, &[0; 4], &[0xc1, 0xf1, 0, 0]);
                }
                self.set(at + 24, &[0; 4], &[0x40, 0x01, 0, 0]);
            }
            0x03 => self.read_only(at, 12),
            0x04 => {
                self.read_only(at, 16);
                self.set(at + 4, &[0], &[0xff]);
            }
            0x0e | 0x0f | 0x18 => self.read_only(at, 8),
            0x10 => self.read_only(at, 64),
            0x13 => self.read_only(at, 16),
            // Vendor's.
            _ => (),
        }
    }

    /// Makes both chains go through the capabilities that are shown only.
    fn link(&mut self, device: &Device, extended: &[Capability]) {
        let mut link = 0x34;
        for cap in self.standard.clone() {
            self.bytes[link].copy = cap.start as u8;
            link = usize::from(cap.start) + 1;
        }
        self.bytes[link].copy = 0;

        if device.image[64] == 0 {
            return;
        }
        let mut headers: Vec<_> = extended.iter().map(|cap| cap.start).collect();
        if headers.first() != Some(&0x100) {
            // An anchor without id and version.
            headers.insert(0, 0x100);
            self.bytes[0x100].copy = 0;
            self.bytes[0x101].copy = 0;
            self.bytes[0x102].copy = 0;
        }
        let nexts = headers.iter().skip(1).copied().chain([0]);
        for (header, next) in headers.iter().zip(nexts) {
            let at = usize::from(*header);
            self.set(at, &[0xff; 4], &[0; 4]);
            self.bytes[at + 2].copy = (self.bytes[at + 2].copy & 0x0f) | (next << 4) as u8;
            self.bytes[at + 3].copy = (next >> 4) as u8;
        }
    }
}

fn shown(caps: &[Capability], hidden: &[(u16, u16)]) -> Vec<Capability> {
    let shown = caps.iter().filter(|cap| !is_in(hidden, cap.id));
    shown.copied().collect()
}
