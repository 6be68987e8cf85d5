// SPDX-License-Identifier: GPL-2.0

//! How the CPU caches physical memory that is a device's, `include/linux/io.h`.
//!
//! On x86 that is a property of the physical range: all maps of it have the type of the first one,
//! or the type that it was reserved with before.

use kernel::{
    error::to_result,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};
use vfio_bindings as bindings;

use crate::pci::BarWindow;

/// Whether ranges can be made write-combining on this machine.
pub fn write_combining_works() -> bool {
    // SAFETY: A question.
    unsafe { bindings::vfio_rs_write_combining_works() }
}

/// A BAR whose maps are write-combining, those made from now on, if nobody else has mapped it.
pub struct WriteCombining {
    start: u64,
    size: u64,
}

impl WriteCombining {
    /// Reserves the type for all of a BAR. May sleep.
    ///
    /// # Errors
    ///
    /// `EBUSY` if a part of it has another type, `ENOMEM`.
    pub fn reserve(window: BarWindow) -> Result<Self> {
        let (start, size) = (window.phys(), window.page_aligned_len());
        // SAFETY: The range is a device's; the call only takes notes.
        to_result(unsafe { bindings::vfio_rs_reserve_wc(start, size) })?;
        Ok(Self { start, size })
    }
}

impl Drop for WriteCombining {
    fn drop(&mut self) {
        // SAFETY: Reserved by `reserve`.
        unsafe { bindings::vfio_rs_free_wc(self.start, self.size) }
    }
}

/// Pages of write-combining maps that came out as something else.
static DOWNGRADED: Atomic<u32> = Atomic::new(0);

/// How many pages of write-combining maps came out as something else since the module was loaded,
/// as somebody else's map of the range was there first: that the range could be reserved proves
/// nothing.
pub fn wc_downgraded() -> u32 {
    DOWNGRADED.load(Relaxed)
}

/// One more did.
pub(crate) fn count_downgraded() {
    DOWNGRADED.fetch_add(1, Relaxed);
}
