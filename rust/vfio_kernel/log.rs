// SPDX-License-Identifier: GPL-2.0

//! Log lines that the kernel crate cannot write, and the kernel's taint.

use kernel::{
    device,
    prelude::*, //
};
use vfio_bindings as bindings;

/// Marks the kernel as one that users can break.
pub fn taint_user() {
    // SAFETY: May be called in any context.
    unsafe { bindings::vfio_rs_taint_user() }
}

/// Tells who opened a device that no IOMMU fences.
pub fn warn_opened_by_user(dev: &device::Device) {
    // SAFETY: The device is alive.
    unsafe { bindings::vfio_rs_warn_opened_by_user(core::ptr::from_ref(dev).cast()) }
}

/// Logs `text`, a line without its end, for a device; ten in five seconds at most, as users can
/// cause it as often as they like.
pub fn info_ratelimited(dev: &device::Device, text: &CStr) {
    // SAFETY: The device is alive, the string ends with a zero.
    unsafe {
        bindings::vfio_rs_info_ratelimited(core::ptr::from_ref(dev).cast(), text.as_char_ptr())
    }
}

/// Whether the log may have the lines that explain why a group is refused; ten groups in five
/// seconds at most.
pub fn may_warn_of_group() -> bool {
    // SAFETY: May be called in any context.
    unsafe { bindings::vfio_rs_may_warn_of_group() }
}
