// SPDX-License-Identifier: GPL-2.0

//! Log lines that users can cause as often as they like: ten in five seconds, at most.

use kernel::{
    device,
    prelude::*, //
};
use vfio_bindings as bindings;

/// Logs `text`, a line without its end, for a device.
pub fn info_ratelimited(dev: &device::Device, text: &CStr) {
    // SAFETY: The device is alive, the string ends with a zero.
    unsafe {
        bindings::vfio_rs_info_ratelimited(core::ptr::from_ref(dev).cast(), text.as_char_ptr())
    }
}
