// SPDX-License-Identifier: GPL-2.0

//! Random devices for the tests of configuration space.
//!
//! Two kinds: devices with good chains of capabilities that were chosen at random ([`device`]),
//! and memory full of noise that calls itself a device ([`noise`]).

// A panic is how a test fails.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use crate::config::{
    mock::Mock,
    Hardware,
    Width, //
};
use kernel::error::Result;
use proptest::prelude::{
    any,
    prop,
    Just,
    Strategy, //
};

/// A capability of a random device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capability {
    pub(crate) id: u16,
    pub(crate) start: u16,
}

/// A random device.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// All of its configuration space.
    pub(crate) image: Vec<u32>,
    /// Its standard capabilities in the order of the chain.
    pub(crate) standard: Vec<Capability>,
    /// Its extended capabilities in the order of the chain, the first at 0x100.
    pub(crate) extended: Vec<Capability>,
}

impl Device {
    /// The device as hardware.
    pub(crate) fn mock(&self) -> Result<Mock> {
        let mock = Mock::new((self.image.len() * 4) as u16)?;
        for (offset, dword) in (0..).step_by(4).zip(&self.image) {
            mock.set(offset, Width::Dword, *dword);
        }
        Ok(mock)
    }

    fn set(&mut self, offset: u16, width: Width, mask: u32, value: u32) {
        let Ok(mock) = self.mock() else { return };
        let old = mock.get(offset, width);
        mock.set(offset, width, (old & !mask) | (value & mask));
        for (offset, dword) in (0..).step_by(4).zip(&mut self.image) {
            *dword = mock.get(offset, Width::Dword);
        }
    }

    /// Writes both chains into the image.
    fn link(mut self) -> Self {
        let flag = if self.standard.is_empty() { 0 } else { 0x10 };
        self.set(0x06, Width::Word, 0x10, flag);

        let mut link = 0x34;
        for cap in self.standard.clone() {
            self.set(link, Width::Byte, 0xff, cap.start.into());
            self.set(cap.start, Width::Byte, 0xff, cap.id.into());
            if cap.id == 0x09 {
                // Vendor's: a length that fits the slot.
                self.set(cap.start + 2, Width::Byte, 0xff, 0x18);
            }
            link = cap.start + 1;
        }
        self.set(link, Width::Byte, 0xff, 0);

        let mut header = None;
        for cap in self.extended.clone() {
            if let Some(header) = header {
                let next = u32::from(cap.start) << 20;
                self.set(header, Width::Dword, 0xfff0_0000, next);
            }
            self.set(cap.start, Width::Dword, 0xffff, cap.id.into());
            if cap.id == 0x0b || cap.id == 0x23 {
                // Not that of Compute Express Link.
                self.set(cap.start + 4, Width::Dword, 0xfff0_ffff, 0x0300_8086);
            }
            header = Some(cap.start);
        }
        if let Some(header) = header {
            self.set(header, Width::Dword, 0xfff0_0000, 0);
        }
        self
    }
}

/// Ids of standard capabilities that `config_model.rs` knows, and some that are hidden.
const STANDARD: [u16; 13] = [
    0x01, 0x02, 0x03, 0x04, 0x05, 0x09, 0x0a, 0x0c, 0x0d, 0x11, 0x13, 0x14, 0x2f,
];

/// The same for extended ones.
const EXTENDED: [u16; 19] = [
    0x01, 0x03, 0x04, 0x05, 0x0b, 0x0e, 0x0f, 0x10, 0x13, 0x18, 0x19, 0x1b, 0x1e, 0x23, 0x24, 0x2e,
    0x30, 0x31, 0x77,
];

/// Those that are hidden, and their bytes; 0 where nobody knows.
pub(crate) const HIDDEN: [(u16, u16); 6] = [
    (0x04, 4),
    (0x0a, 4),
    (0x0c, 8),
    (0x0d, 8),
    (0x14, 0),
    (0x2f, 0),
];

/// The same for extended ones. In the slots of these devices there is room for all of them.
pub(crate) const HIDDEN_EXTENDED: [(u16, u16); 9] = [
    (0x05, 0),
    (0x19, 76),
    (0x1b, 8),
    (0x1e, 20),
    (0x24, 52),
    (0x2e, 24),
    (0x30, 0),
    (0x31, 64),
    (0x77, 0),
];

/// Whether a table has an id.
pub(crate) fn is_in(table: &[(u16, u16)], id: u16) -> bool {
    table.iter().any(|entry| entry.0 == id)
}

fn image(size: usize) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), size / 4)
}

/// Capabilities in slots of `step` bytes, which each of them fits into, in any order. The slot
/// `first` comes first.
fn chain(
    ids: &'static [u16],
    first: Option<u16>,
    slots: Vec<u16>,
) -> impl Strategy<Value = Vec<Capability>> {
    let count = slots.len();
    (
        prop::collection::vec(prop::sample::select(ids), 0..=count),
        Just(slots).prop_shuffle(),
    )
        .prop_map(move |(ids, slots)| {
            let starts = first.into_iter().chain(slots);
            let caps = ids.into_iter().zip(starts);
            caps.map(|(id, start)| Capability { id, start }).collect()
        })
}

/// A device with good chains.
///
/// PCI Express has the slot at 0x40, in the chain at its end.
pub(crate) fn device() -> impl Strategy<Value = Device> {
    let standard = chain(
        &STANDARD,
        None,
        (0x80..0x100).step_by(0x18).take(5).collect(),
    );
    let extended = chain(
        &EXTENDED,
        Some(0x100),
        (0x200..0x1000).step_by(0x100).collect(),
    );
    (image(4096), standard, extended).prop_map(|(image, mut standard, extended)| {
        standard.push(Capability {
            id: 0x10,
            start: 0x40,
        });
        let mut device = Device {
            image,
            standard,
            extended,
        };
        if device.extended.is_empty() {
            device.set(0x100, Width::Dword, !0, 0);
        }
        // An endpoint of the second version.
        device.set(0x42, Width::Word, 0xff, 0x02);
        device.link()
    })
}

/// Anything. The chains are likely to start well, at least.
pub(crate) fn noise() -> impl Strategy<Value = Device> {
    let size = prop::sample::select(vec![256usize, 4096]);
    let pointers = prop::collection::vec((0..64u16, 0..64u16, 0..0x20u16), 0..40);
    let headers = prop::collection::vec((0..240u16, 0..240u16, 0..0x30u16), 0..40);
    (size.prop_flat_map(image), any::<bool>(), pointers, headers).prop_map(
        |(image, list, pointers, headers)| {
            let mut device = Device {
                image,
                standard: Vec::new(),
                extended: Vec::new(),
            };
            device.set(0x06, Width::Word, 0x10, if list { 0x10 } else { 0 });
            for (at, next, id) in pointers {
                let header = u32::from((next * 4) << 8 | id);
                device.set(at * 4, Width::Word, 0xffff, header);
            }
            for (at, next, id) in headers {
                let header = u32::from(256 + next * 4) << 20 | u32::from(id);
                device.set(256 + at * 4, Width::Dword, !0, header);
            }
            device
        },
    )
}

/// Fails tests in which an access is not aligned or not inside.
pub(crate) struct Strict<'a>(pub(crate) &'a Mock);

impl Strict<'_> {
    fn check(&self, offset: u16, width: Width) {
        let bytes = match width {
            Width::Byte => 1,
            Width::Word => 2,
            Width::Dword => 4,
        };
        assert_eq!(offset % bytes, 0, "{offset:#x} {width:?}");
        assert!(
            offset + bytes <= self.0.facts().size,
            "{offset:#x} {width:?}"
        );
    }
}

impl Hardware for Strict<'_> {
    fn read(&self, offset: u16, width: Width) -> Result<u32> {
        self.check(offset, width);
        self.0.read(offset, width)
    }

    fn write(&self, offset: u16, width: Width, value: u32) -> Result {
        self.check(offset, width);
        self.0.write(offset, width, value)
    }

    fn revoke(&self) {
        self.0.revoke()
    }
}
