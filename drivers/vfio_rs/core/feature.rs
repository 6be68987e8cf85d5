// SPDX-License-Identifier: GPL-2.0

//! Rows of the tables of what devices can do beyond the other ioctls.

use kernel::prelude::*;
use vfio_kernel::argsz::UserArg;

/// One feature of devices of type `O`.
pub(crate) struct Feature<O> {
    /// `VFIO_DEVICE_FEATURE_*`.
    pub(crate) number: u32,
    /// What may be asked, `VFIO_DEVICE_FEATURE_GET` or `_SET`: to read it, or to write it or make
    /// it happen.
    pub(crate) op: u32,
    /// Bytes of data that the user must have room for.
    pub(crate) size: usize,
    /// Whether this device has it; if not the feature is unknown, whatever is asked.
    pub(crate) present: fn(&O) -> bool,
    /// Does it, with the data behind the header and the bytes that the user has room for there;
    /// what it returns is what `ioctl(2)` returns.
    pub(crate) run: fn(&O, UserArg, usize) -> Result<isize>,
}
