// SPDX-License-Identifier: GPL-2.0

//! Module parameters, `rust/helpers/vfio_params.c`.
//!
//! Each may change at any time through sysfs; a caller reads it once. Those of `kernel::module!` do
//! not appear in sysfs, and keep the value that they have when the module is loaded.

use kernel::{
    error::from_result,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};
use vfio_bindings as bindings;

use crate::sched;

/// Values of the parameter `cdev_groups`.
const NODES_OF: [&CStr; 2] = [c"all", c"singleton"];

/// Which of them it has.
static CDEV_GROUPS: Atomic<u32> = Atomic::new(0);

/// Most banks for tests. PAMU has three; sixteen are enough to try anything.
const MAX_TEST_BANKS: u32 = 16;

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
    CDEV_GROUPS.load(Relaxed) == 1
}

/// `cdev_groups` is written. The text may end in a line feed, as for `sysfs_streq()`.
///
/// # Safety
///
/// Called by the kernel as `set` of a parameter; `val` is a string.
#[no_mangle]
unsafe extern "C" fn vfio_rs_set_cdev_groups(
    val: *const c_char,
    _: *const bindings::kernel_param,
) -> c_int {
    from_result(|| {
        // SAFETY: By the contract of this function.
        let text = unsafe { CStr::from_char_ptr(val) }.to_bytes();
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let at = NODES_OF.iter().position(|value| value.to_bytes() == text);
        CDEV_GROUPS.store(at.ok_or(EINVAL)? as u32, Relaxed);
        Ok(0)
    })
}

/// `cdev_groups` is read.
///
/// # Safety
///
/// Called by the kernel as `get` of a parameter; `buffer` is a page, of which so much is used as
/// is returned.
#[no_mangle]
unsafe extern "C" fn vfio_rs_get_cdev_groups(
    buffer: *mut c_char,
    _: *const bindings::kernel_param,
) -> c_int {
    let value = NODES_OF[CDEV_GROUPS.load(Relaxed) as usize % NODES_OF.len()].to_bytes();
    // SAFETY: There is room for a page, and the text and what follows have some ten bytes.
    unsafe {
        core::ptr::copy_nonoverlapping(value.as_ptr(), buffer.cast(), value.len());
        buffer
            .cast::<[u8; 2]>()
            .byte_add(value.len())
            .write(*b"\n\0");
    }
    value.len() as c_int + 1
}

/// `msi_test_banks` is written. Pages of the kernel's are shown to users then: it is for those who
/// could see any.
///
/// # Safety
///
/// Called by the kernel as `set` of a parameter, with a string and the parameter.
#[no_mangle]
unsafe extern "C" fn vfio_rs_set_msi_test_banks(
    val: *const c_char,
    param: *const bindings::kernel_param,
) -> c_int {
    if !sched::capable_sys_rawio() {
        return EPERM.to_errno();
    }
    // SAFETY: By the contract of this function; the parameter is an `unsigned int`.
    unsafe { bindings::param_set_uint_minmax(val, param, 0, MAX_TEST_BANKS) }
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
