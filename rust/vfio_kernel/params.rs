// SPDX-License-Identifier: GPL-2.0

//! Module parameters, `rust/helpers/vfio_params.c`.
//!
//! Each may change at any time through sysfs; a caller reads it once. Those of `kernel::module!` do
//! not appear in sysfs, and keep the value that they have when the module is loaded.

use vfio_bindings as bindings;

/// Makes functions that read parameters.
macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $var:ident,)*) => {$(
        $(#[$doc])*
        pub fn $name() -> $type {
            // SAFETY: The variable lives as long as the module; an aligned read of no more than
            // 32 bits does not tear, and the kernel stores only 0 and 1 in a `bool`.
            unsafe { core::ptr::addr_of!(bindings::$var).read_volatile() }
        }
    )*};
}

parameters! {
    /// Whether devices without an IOMMU may be given to users, who can then do what they want to
    /// the machine.
    enable_unsafe_noiommu_mode: bool = vfio_rs_enable_unsafe_noiommu_mode,

    /// 0 if all devices have nodes of their own, 1 if those that are alone in their group.
    cdev_groups: u32 = vfio_rs_cdev_groups,

    /// Whether devices may be assigned where the IOMMU does not remap interrupts.
    allow_unsafe_interrupts: bool = vfio_rs_allow_unsafe_interrupts,

    /// Whether no entry of an I/O page table may be larger than a page.
    disable_hugepages: bool = vfio_rs_disable_hugepages,

    /// The number of mappings that a new container may hold.
    dma_entry_limit: u32 = vfio_rs_dma_entry_limit,

    /// Whether virtual functions may be made of a device that is bound.
    enable_sriov: bool = vfio_rs_enable_sriov,

    /// Whether devices that are known to be dangerous may be bound.
    disable_denylist: bool = vfio_rs_disable_denylist,

    /// Whether write-combining maps of BARs are offered.
    wc_mmap: bool = vfio_rs_wc_mmap,

    /// Whether a window of a new type2 container must be one piece of memory.
    pamu_strict: bool = vfio_rs_pamu_strict,

    /// Banks of MSI registers that a new type2 container has for tests.
    msi_test_banks: u32 = vfio_rs_msi_test_banks,

    /// The number of entries of guests' tables that a container may shadow.
    kvm_entry_limit: u32 = vfio_rs_kvm_entry_limit,

    /// See [`PerDevice::nointxmask`].
    nointxmask: bool = vfio_rs_nointxmask,

    /// See [`PerDevice::disable_vga`].
    disable_vga: bool = vfio_rs_disable_vga,

    /// See [`PerDevice::disable_idle_d3`].
    disable_idle_d3: bool = vfio_rs_disable_idle_d3,
}

/// Whether only devices that are alone in their group have nodes of their own.
pub fn nodes_of_singletons_only() -> bool {
    cdev_groups() == 1
}

/// The parameters whose value a device keeps from when it is bound, whatever is written later.
#[derive(Clone, Copy)]
pub struct PerDevice {
    /// Do not mask the pin in the device, but at the interrupt controller.
    pub nointxmask: bool,
    /// Do not offer the legacy VGA ranges.
    pub disable_vga: bool,
    /// Leave the device in D0 while nobody uses it.
    pub disable_idle_d3: bool,
}

impl PerDevice {
    /// The values for a device that is being bound.
    pub fn now() -> Self {
        Self {
            nointxmask: nointxmask(),
            disable_vga: disable_vga(),
            disable_idle_d3: disable_idle_d3(),
        }
    }
}
