// SPDX-License-Identifier: GPL-2.0

//! Proof that a device is bound to the driver.
//!
//! A [`PciDevice`] keeps the struct of a device, and says nothing of who may use the hardware. That
//! is the driver's to which the device is bound, from the beginning of its `probe` to the end of
//! its `remove`. In that time there are [`BoundPci`]s, which may be copied and kept anywhere:
//! `remove` waits until the last one is gone.
//!
//! `kernel::device::Bound` proves the same by a lifetime, which is for calls: what is open here
//! lives as long as its user likes.

use core::ops::Deref;
use kernel::{
    prelude::*,
    sync::Arc, //
};

use super::PciDevice;
use crate::completion::Completion;

/// A device that is bound to the driver as long as this lives.
///
/// # Invariants
///
/// The driver core has begun to bind the device to a driver of this module, and has not unbound it:
/// who does that waits for all of these.
#[derive(Clone)]
pub struct BoundPci(Arc<DriverBinding>);

/// The device, for as long as somebody has a [`BoundPci`].
struct DriverBinding {
    dev: PciDevice,
    unused: Arc<Unused>,
}

/// Happens when nobody has a [`BoundPci`] any more.
#[pin_data]
struct Unused {
    #[pin]
    happened: Completion,
}

impl Drop for DriverBinding {
    fn drop(&mut self) {
        self.unused.happened.complete_all();
    }
}

impl BoundPci {
    /// The first one, with what waits for the last.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The driver core is binding the device, and the caller calls [`LastUse::wait`] before it is
    /// not bound any more, unless this fails.
    pub(super) unsafe fn new(dev: &PciDevice) -> Result<(Self, LastUse)> {
        let unused = Arc::pin_init(
            pin_init!(Unused { happened <- Completion::new() }),
            GFP_KERNEL,
        )?;
        let binding = DriverBinding {
            dev: dev.clone(),
            unused: unused.clone(),
        };
        // INVARIANT: By the contract of this function.
        let bound = Self(Arc::new(binding, GFP_KERNEL)?);
        Ok((bound, LastUse(unused)))
    }
}

impl Deref for BoundPci {
    type Target = PciDevice;

    #[inline]
    fn deref(&self) -> &PciDevice {
        &self.0.dev
    }
}

/// When the last [`BoundPci`] of a device is gone.
pub(super) struct LastUse(Arc<Unused>);

impl LastUse {
    /// Waits for it. Sleeps.
    pub(super) fn wait(self) {
        self.0.happened.wait();
    }
}
