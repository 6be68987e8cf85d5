// SPDX-License-Identifier: GPL-2.0

//! An address space whose owner says alone what is where in it.
//!
//! It has no [`Ranges`](super::Ranges), so nobody has a claim to an address of it. What is put
//! there can be cut and taken out in parts, of which a claim knows nothing ([`ShadowExtent`]). That
//! no two calls map or unmap at the same address at a time is up to the owner.
//!
//! [`ShadowExtent`]: super::ShadowExtent

use core::ops::Deref;
use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::{
    device_memory::{
        DeviceMapping,
        Pieces,
        RangePart, //
    },
    domain::Prot,
    mixed,
    space::IoSpace,
};
use crate::ranges::IovaRange;

/// See the module's documentation.
///
/// # Invariants
///
/// There is no other for the space, and no [`Ranges`](super::Ranges).
pub struct OwnedSpace {
    space: Arc<IoSpace>,
    /// Whose the parts are that it gives.
    number: u64,
}

impl OwnedSpace {
    /// An empty space that no group sees.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        // INVARIANT: The space is new, and its map of ranges is dropped.
        let (space, _) = IoSpace::new::<()>()?;
        let number = mixed::next_number();
        Ok(Self { space, number })
    }

    /// A range, which nothing else is in, for memory of devices.
    pub fn part(&self, range: IovaRange) -> RangePart {
        // INVARIANT: By the owner.
        RangePart {
            owner: self.number,
            range,
        }
    }

    /// Adds memory of devices, switched off. It is off before something else is put there.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the pieces are none, or of another space; `ENOMEM`.
    pub fn add_devices(&self, pieces: Pieces, prot: Prot) -> Result<Arc<DeviceMapping>> {
        if pieces.owner() != self.number {
            return Err(EINVAL);
        }
        DeviceMapping::new(&self.space, pieces, None, prot)
    }
}

impl Deref for OwnedSpace {
    type Target = Arc<IoSpace>;

    fn deref(&self) -> &Arc<IoSpace> {
        &self.space
    }
}
