// SPDX-License-Identifier: GPL-2.0

//! The OpRegion against a naive model, which builds all that a user is to see beforehand.

// A panic is how a test fails.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use crate::{
    opregion::{
        OpRegion,
        OpRegionMemory, //
    },
    settings, //
};
use kernel::prelude::*;
use proptest::prelude::{
    any,
    prop,
    prop_assert_eq,
    prop_oneof,
    proptest,
    Just,
    Strategy, //
};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    vec::Vec, //
};

/// Bytes of an OpRegion.
const SIZE: usize = 8192;

std::thread_local! {
    /// Memory that is there: pieces by address.
    static MEMORY: RefCell<BTreeMap<u64, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
}

/// A part of a piece of memory.
struct Part(Vec<u8>);

impl OpRegionMemory for Part {
    fn map(at: u64, len: usize) -> Result<Self> {
        MEMORY.with_borrow(|memory| {
            let (start, piece) = memory.range(..=at).next_back().ok_or(ENOMEM)?;
            let start = (at - start) as usize;
            let part = piece.get(start..).and_then(|rest| rest.get(..len));
            Ok(Self(part.ok_or(ENOMEM)?.to_vec()))
        })
    }

    fn read(&self, at: usize, buf: &mut [u8]) -> Result {
        let end = at.checked_add(buf.len()).ok_or(EINVAL)?;
        buf.copy_from_slice(self.0.get(at..end).ok_or(EINVAL)?);
        Ok(())
    }
}

/// What firmware says.
#[derive(Debug, Clone)]
struct Firmware {
    at: u64,
    signed: bool,
    kib: u32,
    version: u16,
    rvda: u64,
    rvds: u32,
    noise: u8,
}

fn firmware() -> impl Strategy<Value = Firmware> {
    let version = prop_oneof![Just(0x100u16), Just(0x200), Just(0x201), any::<u16>()];
    let kib = prop_oneof![4 => Just(8u32), 1 => 0u32..10, 1 => any::<u32>()];
    let rvda = prop_oneof![4 => 0u64..0x6000, 1 => Just(0), 1 => any::<u64>()];
    let rvds = prop_oneof![4 => 0u32..0x4000, 1 => any::<u32>()];
    (
        (1u64 << 13..1 << 32, prop::bool::weighted(0.95)),
        (kib, version, rvda, rvds),
        (any::<bool>(), any::<u8>()),
    )
        .prop_map(
            |((at, signed), (kib, version, rvda, rvds), (from, noise))| Firmware {
                at,
                signed,
                kib,
                version,
                // As an address, near the OpRegion.
                rvda: if from { rvda } else { at.wrapping_add(rvda) },
                rvds,
                noise,
            },
        )
}

impl Firmware {
    /// 64 KiB of memory that begin with the OpRegion.
    fn memory(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..0x1_0000usize)
            .map(|i| (i * 13 + (i >> 8)) as u8 ^ self.noise)
            .collect();
        if self.signed {
            bytes[..16].copy_from_slice(b"IntelGraphicsMem");
        }
        bytes[0x10..0x14].copy_from_slice(&self.kib.to_le_bytes());
        bytes[0x16..0x18].copy_from_slice(&self.version.to_le_bytes());
        bytes[0x3ba..0x3c2].copy_from_slice(&self.rvda.to_le_bytes());
        bytes[0x3c2..0x3c6].copy_from_slice(&self.rvds.to_le_bytes());
        bytes
    }

    /// All that a user is to see.
    fn expected(&self) -> Result<Vec<u8>> {
        let memory = self.memory();
        if !self.signed || self.kib == 0 {
            return Err(EINVAL);
        }
        let mut shown = memory[..SIZE].to_vec();
        shown[0x3ba..0x3c2].fill(0);
        if self.version < 0x200 || self.rvda == 0 || self.rvds == 0 {
            shown.truncate((u64::from(self.kib) * 1024).min(SIZE as u64) as usize);
            return Ok(shown);
        }
        let start = match self.version {
            0x200 => u128::from(self.rvda),
            _ => u128::from(self.at) + u128::from(self.rvda),
        };
        let end = start + u128::from(self.rvds);
        if end > u128::from(u64::MAX) || self.rvds > 1 << 20 {
            return Err(EINVAL);
        }
        let base = u128::from(self.at);
        if start < base || end > base + memory.len() as u128 {
            return Err(ENOMEM);
        }
        shown[0x3bb] = 0x20;
        if self.version == 0x200 {
            shown[0x16] = 1;
        }
        shown.extend(&memory[(start - base) as usize..(end - base) as usize]);
        Ok(shown)
    }
}

proptest! {
    #![proptest_config(settings(256))]

    #[test]
    fn shown_as_one_piece(
        firmware in firmware(),
        reads in prop::collection::vec((0usize..0x7000, 0usize..0x3000), 1..8),
    ) {
        MEMORY.set(BTreeMap::from([(firmware.at, firmware.memory())]));
        let region = OpRegion::<Part>::new(firmware.at);
        let expected = match (&region, firmware.expected()) {
            (Ok(_), Ok(expected)) => expected,
            (got, expected) => {
                prop_assert_eq!(got.as_ref().err(), expected.as_ref().err());
                return Ok(());
            }
        };
        let region = region.unwrap();
        prop_assert_eq!(region.size(), expected.len() as u64);
        let near = [0x15, 0x16, 0x17, 0x3b5, 0x3bb, 0x3c1, SIZE - 3];
        let near = near.into_iter().flat_map(|at| (1..12).map(move |len| (at, len)));
        for (at, len) in Iterator::chain(near, reads) {
            let mut buf = std::vec![0; len];
            let got = region.read(at, &mut buf);
            match expected.get(at..).and_then(|rest| rest.get(..len)) {
                Some(part) => {
                    prop_assert_eq!(got, Ok(()));
                    prop_assert_eq!(&buf[..], part);
                }
                None if len == 0 => {}
                None => prop_assert_eq!(got, Err(EINVAL)),
            }
        }
    }

    #[test]
    fn any_place_is_safe(firmware in firmware(), at in any::<usize>(), len in 0usize..300) {
        MEMORY.set(BTreeMap::from([(firmware.at, firmware.memory())]));
        if let Ok(region) = OpRegion::<Part>::new(firmware.at) {
            let _ = region.read(at, &mut std::vec![0; len]);
        }
    }
}
