// SPDX-License-Identifier: GPL-2.0

//! Module parameters, `rust/helpers/vfio_params.c`.
//!
//! Each may change at any time through sysfs; a caller reads it once.

use vfio_bindings as bindings;

/// Whether devices may be assigned where the IOMMU does not remap interrupts.
pub fn allow_unsafe_interrupts() -> bool {
    // SAFETY: The variable lives as long as the module; a torn read of a `bool` is not possible.
    unsafe { core::ptr::addr_of!(bindings::vfio_rs_allow_unsafe_interrupts).read_volatile() }
}

/// The number of mappings that a new container may hold.
pub fn dma_entry_limit() -> u32 {
    // SAFETY: The variable lives as long as the module; an aligned 32-bit read does not tear.
    unsafe { core::ptr::addr_of!(bindings::vfio_rs_dma_entry_limit).read_volatile() }
}
