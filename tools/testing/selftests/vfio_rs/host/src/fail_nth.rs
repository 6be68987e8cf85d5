// SPDX-License-Identifier: GPL-2.0

//! Each allocation fails once: the operation says `ENOMEM`, and nothing else happens.

use crate::{
    config::{
        mock::Mock,
        ConfigSpace, //
    },
    iova::{
        Allowed,
        IovaRange, //
    },
};
use kernel::{
    fail,
    prelude::*, //
};

#[test]
fn opening_a_device() -> Result {
    let mock = Mock::with_caps(4096, &[(0x01, 0x40), (0x05, 0x50), (0x10, 0x70)])?;
    mock.add_ext(&[
        (0x01, 0x100),
        (0x03, 0x140),
        (0x0e, 0x150),
        (0x0f, 0x160),
        (0x10, 0x180),
        (0x18, 0x200),
    ]);
    let facts = mock.facts();

    let allocations = fail::sweep(
        || ConfigSpace::new(&mock, &facts).map(|_| ()),
        |result| assert_eq!(result, Err(ENOMEM)),
    );
    assert!(allocations >= 2, "{allocations} allocations");
    Ok(())
}

#[test]
fn using_a_device_needs_no_memory() -> Result {
    let mock = Mock::with_caps(256, &[(0x01, 0x40), (0x05, 0x50)])?;
    let mut space = mock.open()?.space;
    let mut buf = [0xff; 256];

    let (result, failed) = fail::nth(1, || -> Result {
        space.read(&mock, 0, &mut buf)?;
        for offset in 0..253 {
            let cut = space.cut(offset, &[0xff; 4])?;
            space.put(&mock, &cut)?;
        }
        Ok(())
    });
    assert_eq!((result, failed), (Ok(()), false));
    Ok(())
}

#[test]
fn computing_allowed_addresses() -> Result {
    let range = |start, last| IovaRange::from_last(start, last).ok_or(EINVAL);
    let aperture = range(0, 0xffff)?;
    let reserved = [range(10, 19)?, range(30, 39)?, range(5, 6)?, range(70, 79)?];

    let allocations = fail::sweep(
        || Allowed::new(aperture, &reserved).map(|_| ()),
        |result| assert_eq!(result, Err(ENOMEM)),
    );
    assert_eq!(allocations, 1);

    let allowed = Allowed::new(aperture, &reserved)?;
    let allocations = fail::sweep(
        || allowed.intersection(&allowed).map(|_| ()),
        |result| assert_eq!(result, Err(ENOMEM)),
    );
    assert!(allocations >= 1, "{allocations} allocations");
    assert!(allowed.contains(&range(80, 0xffff)?));
    Ok(())
}
