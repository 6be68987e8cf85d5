// SPDX-License-Identifier: GPL-2.0

//! Configuration space of random devices under random use.

// A panic is how a test fails.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use crate::{
    config::{
        mock::Mock,
        BarFacts,
        BarSpace,
        ConfigSpace,
        Facts,
        Width, //
    },
    config_device::{
        device,
        is_in,
        noise,
        Strict,
        HIDDEN,
        HIDDEN_EXTENDED, //
    },
    config_model::Model,
    settings,
};
use kernel::error::{
    code::EFAULT,
    Result, //
};
use proptest::prelude::{
    any,
    prop,
    prop_assert,
    prop_assert_eq,
    proptest,
    Strategy, //
};

/// A write by the user: where and what.
type Write = (u16, Vec<u8>);

fn writes() -> impl Strategy<Value = Vec<Write>> {
    // Half of them at the registers with consequences.
    let offset = proptest::prop_oneof![0..0x100u16, 0..0x1000u16];
    let data = prop::collection::vec(any::<u8>(), 1..9);
    prop::collection::vec((offset, data), 0..60)
}

/// No BARs, no ROM.
fn bare(mock: &Mock) -> Facts {
    Facts {
        bars: [None; 6],
        rom_size: 0,
        ..mock.facts()
    }
}

/// Writes all of `data` as a file's write would.
fn write_all(space: &mut ConfigSpace, mock: &Mock, write: &Write) -> Result<Vec<usize>> {
    let (offset, data) = write;
    let mut pieces = Vec::new();
    let mut done = 0;
    while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
        let at = u64::from(*offset) + done as u64;
        let cut = space.cut(at, rest)?;
        let effects = space.put(&Strict(mock), &cut)?;
        if let Some(vpd) = effects.vpd {
            space.vpd_done(vpd, 0x1234_5678);
        }
        pieces.push(cut.len());
        done += cut.len();
    }
    Ok(pieces)
}

/// Ids and offsets that a user finds. `None` if it does not come to an end.
fn walk(space: &ConfigSpace, mock: &Mock) -> Option<Vec<(u32, u16)>> {
    let register = |offset: u16, len: usize| {
        let mut bytes = [0; 4];
        space
            .read(mock, offset.into(), bytes.get_mut(..len)?)
            .ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    let mut found = Vec::new();
    let mut at = if register(0x06, 2)? & 0x10 == 0 {
        0
    } else {
        register(0x34, 1)? as u16
    };
    while at != 0 {
        if found.len() > 48 || !(0x40..0x100).contains(&at) {
            return None;
        }
        let header = register(at, 2)?;
        found.push((header & 0xff, at));
        at = (header >> 8) as u16;
    }
    let express = found.iter().any(|&(id, _)| id == 0x10);
    at = if express && mock.facts().size == 4096 {
        0x100
    } else {
        0
    };
    while at != 0 {
        if found.len() > 1100 || !(0x100..0x1000).contains(&at) {
            return None;
        }
        let header = register(at, 4)?;
        found.push((header & 0xffff | 0x1_0000, at));
        at = (header >> 20) as u16;
    }
    Some(found)
}

proptest! {
    #![proptest_config(settings(400))]

    /// Reads, device and copy are what the naive model says, after any writes.
    #[test]
    fn agrees_with_the_model(device in device(), writes in writes()) {
        let mock = device.mock().unwrap();
        let mut space = ConfigSpace::new(&Strict(&mock), &bare(&mock)).unwrap();
        let mut model = Model::new(&device);

        prop_assert_eq!(space.findings().standard, None);
        prop_assert_eq!(space.findings().extended, None);
        for write in writes.iter().filter(|(offset, data)| {
            // VPD changes its copy by itself; the model does not.
            let (start, end) = (*offset, *offset + data.len() as u16);
            let vpd = |at: u16| start < at + 8 && at < end;
            end <= 4096 && !device.standard.iter().any(|cap| cap.id == 3 && vpd(cap.start))
        }) {
            let mut at = write.0;
            let mut data = write.1.as_slice();
            for len in write_all(&mut space, &mock, write).unwrap() {
                let (piece, rest) = data.split_at(len);
                model.write(at, piece);
                (at, data) = (at + len as u16, rest);
            }
        }
        let mut seen = vec![0; 4096];
        space.read(&Strict(&mock), 0, &mut seen).unwrap();
        for (offset, seen) in (0..).zip(seen) {
            prop_assert_eq!(seen, model.read(offset), "read of {:#x}", offset);
            let real = mock.get(offset, Width::Byte) as u8;
            prop_assert_eq!(real, model.real(offset), "device at {:#x}", offset);
        }
    }

    /// The capabilities a user finds are those that are not hidden, in the device's order.
    #[test]
    fn hidden_capabilities_cannot_be_found(device in device(), writes in writes()) {
        let mock = device.mock().unwrap();
        let mut space = ConfigSpace::new(&mock, &bare(&mock)).unwrap();
        let standard = device.standard.iter().filter(|cap| !is_in(&HIDDEN, cap.id));
        let extended = device.extended.iter().filter(|cap| !is_in(&HIDDEN_EXTENDED, cap.id));
        let expected: Vec<_> = standard
            .map(|cap| (u32::from(cap.id), cap.start))
            .chain(extended.map(|cap| (u32::from(cap.id) | 0x1_0000, cap.start)))
            .collect();
        let visible = |space: &ConfigSpace| {
            let mut found = walk(space, &mock)?;
            // The anchor.
            found.retain(|&(id, at)| (id, at) != (0x1_0000, 0x100));
            Some(found)
        };

        prop_assert_eq!(visible(&space), Some(expected.clone()));
        // Without extended capabilities their place is a gap.
        let end = if device.extended.is_empty() { 0x100 } else { 0x1000 };
        for write in writes.iter().filter(|(at, data)| usize::from(*at) + data.len() <= end) {
            write_all(&mut space, &mock, write).unwrap();
        }
        prop_assert_eq!(visible(&space), Some(expected));
    }

    /// Whatever a device says of itself, it can be opened and used, its user's chains come to an
    /// end, and no write changes them.
    #[test]
    fn noise_is_survived(device in noise(), writes in writes()) {
        let mock = device.mock().unwrap();
        let hw = Strict(&mock);
        let mut space = ConfigSpace::new(&hw, &mock.facts()).unwrap();
        let size = usize::from(mock.facts().size);
        let found = walk(&space, &mock);

        prop_assert!(found.is_some());
        for write in &writes {
            let fits = usize::from(write.0) + write.1.len() <= size;
            prop_assert_eq!(write_all(&mut space, &mock, write).is_ok(), fits);
        }
        prop_assert_eq!(walk(&space, &mock), found);
    }

    /// How a read is cut makes no difference.
    #[test]
    fn reads_of_any_size_are_the_same(
        device in noise(),
        offset in 0..256u64,
        len in 0..64usize,
    ) {
        let mock = device.mock().unwrap();
        let hw = Strict(&mock);
        let space = ConfigSpace::new(&hw, &mock.facts()).unwrap();
        let mut whole = vec![0; len];
        let read = space.read(&hw, offset, &mut whole);

        if offset + len as u64 > mock.facts().size.into() {
            prop_assert_eq!(read, Err(EFAULT));
        } else {
            for (at, byte) in (offset..).zip(whole) {
                let mut one = [0];
                space.read(&hw, at, &mut one).unwrap();
                prop_assert_eq!(one, [byte]);
            }
        }
    }

    /// Software finds the size of a BAR by writing ones.
    #[test]
    fn bars_can_be_sized(order in 2..40u32, kind in 0..5u32, address in any::<u64>()) {
        let (space, prefetch) = match kind {
            0 => (BarSpace::Io, false),
            1 | 2 => (BarSpace::Memory32, kind == 2),
            _ => (BarSpace::Memory64, kind == 4),
        };
        let order = match space {
            BarSpace::Io => order.min(8),
            BarSpace::Memory32 => order.clamp(4, 31),
            BarSpace::Memory64 => order.max(4),
        };
        let bar = BarFacts { size: 1 << order, space, prefetch };
        let mock = Mock::new(256).unwrap();
        let facts = Facts { bars: [None, Some(bar), None, None, None, None], ..mock.facts() };
        let mut user = mock.open_as(&facts).unwrap();
        let wide = space == BarSpace::Memory64;
        let mut size_of = |value: u64| {
            user.write(0x14, Width::Dword, value as u32).unwrap();
            user.write(0x18, Width::Dword, (value >> 32) as u32).unwrap();
            let low = user.read(0x14, Width::Dword).unwrap();
            let high = user.read(0x18, Width::Dword).unwrap();
            let flags = if space == BarSpace::Io { 0x3 } else { 0xf };
            let high = if wide { high } else { assert_eq!(high, 0); 0 };
            (low & flags, u64::from(low & !flags) | u64::from(high) << 32)
        };

        let (flags, mask) = size_of(u64::MAX);
        prop_assert_eq!(flags & 1 == 1, space == BarSpace::Io);
        prop_assert_eq!(flags & 4 == 4, wide);
        prop_assert_eq!(flags & 8 == 8, prefetch);
        prop_assert_eq!(mask & mask.wrapping_neg(), bar.size);
        let (_, kept) = size_of(address);
        prop_assert_eq!(kept, address & mask);
        prop_assert_eq!(mock.get(0x14, Width::Dword), 0);
    }
}
