// SPDX-License-Identifier: GPL-2.0

//! How much users may have in the log, lines that the kernel crate cannot write, the kernel's
//! taint.

use kernel::device;
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

/// What users can cause messages about as often as they like.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Subject {
    /// Groups that containers refuse.
    Refusals = bindings::VFIO_RS_LOG_REFUSALS,
    /// Interrupts that are not isolated.
    Interrupts = bindings::VFIO_RS_LOG_INTERRUPTS,
    /// Tokens of virtual functions.
    Tokens = bindings::VFIO_RS_LOG_TOKENS,
    /// Devices that are opened and closed.
    Opens = bindings::VFIO_RS_LOG_OPENS,
    /// Devices that are in use.
    Devices = bindings::VFIO_RS_LOG_DEVICES,
    /// Interrupt lines that are not to be had.
    Lines = bindings::VFIO_RS_LOG_LINES,
    /// What the PCI core says of accesses that fail.
    Failures = bindings::VFIO_RS_LOG_FAILURES,
    /// Limits that users reach.
    Limits = bindings::VFIO_RS_LOG_LIMITS,
}

/// Whether the log may have one more message about `subject`: ten in five seconds at most.
pub fn may_log(subject: Subject) -> bool {
    // SAFETY: May be called in any context, with the number of a subject.
    unsafe { bindings::vfio_rs_may_log(subject as u32) }
}
