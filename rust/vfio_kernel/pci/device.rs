// SPDX-License-Identifier: GPL-2.0

//! A reference to a PCI device, with what the `kernel` crate's own type does not offer.

use core::ptr::NonNull;
use kernel::{
    bindings,
    device,
    error::to_result,
    pci,
    prelude::*,
    sync::aref::ARef, //
};
use vfio_bindings as ours;

use super::BoundPci;

/// A referenced `struct pci_dev`.
///
/// The reference keeps the struct, not the binding: what only a driver may do that is bound to the
/// device is in [`BoundPci`].
///
/// # Invariants
///
/// The reference is to a `struct pci_dev` that the PCI core has set up. It is counted, so the
/// device is alive as long as this; and so is its bus, to which the struct has a reference.
#[derive(Clone)]
pub struct PciDevice(ARef<pci::Device>);

impl PartialEq for PciDevice {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.as_ptr(), other.as_ptr())
    }
}

/// Reads a field of a device's `struct pci_dev`, once.
///
/// No reference to the struct is made, as others write to it. Most of the fields that are read are
/// set when the device is found; but the PCI core has `irq` name another line while there are MSIs,
/// `current_state` follows the device, and `slot` comes and goes with drivers of slots. So what is
/// returned is what the field had at some moment, and no more.
macro_rules! field {
    ($dev:expr, $field:ident) => {{
        let dev: *mut kernel::bindings::pci_dev = $dev.as_ptr();
        // SAFETY: The device is alive (type invariant of `PciDevice`). The field is an integer or
        // a raw pointer that is read by one load.
        unsafe { (&raw const (*dev).$field).read_volatile() }
    }};
}
pub(super) use field;

impl PciDevice {
    /// # Safety
    ///
    /// `ptr` must point to a live device.
    pub(super) unsafe fn from_raw(ptr: *mut bindings::pci_dev) -> Self {
        // SAFETY: `pci::Device` is a transparent wrapper; the device is alive by the contract of
        // this function, and `from` takes a reference of its own.
        // INVARIANT: The reference that `from` took is this one's.
        Self(unsafe { NonNull::new_unchecked(ptr.cast::<pci::Device>()).as_ref() }.into())
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::pci_dev {
        core::ptr::from_ref::<pci::Device>(&self.0)
            .cast_mut()
            .cast()
    }

    /// The device as the driver core knows it.
    pub fn device(&self) -> &device::Device {
        self.0.as_ref()
    }

    /// Domain, bus, slot and function, as in sysfs.
    pub fn name(&self) -> &CStr {
        // SAFETY: A device's name lives as long as the device, once it is registered.
        unsafe {
            CStr::from_char_ptr(bindings::dev_name(core::ptr::addr_of!(
                (*self.as_ptr()).dev
            )))
        }
    }

    /// The name as text, of which it consists.
    pub(super) fn name_str(&self) -> &str {
        self.name().to_str().unwrap_or("?")
    }

    /// Vendor id.
    pub fn vendor(&self) -> u16 {
        self.0.vendor_id().as_raw()
    }

    /// Device id; that of the physical function's VF device for a virtual function.
    pub fn device_id(&self) -> u16 {
        self.0.device_id()
    }

    /// Base class, class and programming interface, a byte each.
    pub fn class(&self) -> u32 {
        self.0.pci_class().as_raw()
    }

    /// The function at an address, if there is one.
    pub fn find(domain: i32, bus: u8, slot: u8, function: u8) -> Option<Self> {
        let devfn = (slot & 0x1f) << 3 | (function & 0x7);
        // SAFETY: No preconditions.
        let found =
            unsafe { bindings::pci_get_domain_bus_and_slot(domain, bus.into(), devfn.into()) };
        if found.is_null() {
            return None;
        }
        // SAFETY: The call returned a reference, which keeps it alive until it is put; `from_raw`
        // takes another.
        unsafe {
            let device = Self::from_raw(found);
            bindings::pci_dev_put(found);
            Some(device)
        }
    }

    /// Size of the configuration space in bytes: 256 or 4096; less for a few devices.
    pub fn cfg_size(&self) -> usize {
        field!(self, cfg_size) as usize
    }

    /// Whether it is an endpoint (header type 0).
    pub fn is_endpoint(&self) -> bool {
        u32::from(field!(self, hdr_type)) == bindings::PCI_HEADER_TYPE_NORMAL
    }

    /// Whether it is a virtual function.
    pub fn is_virtfn(&self) -> bool {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { ours::vfio_rs_pci_is_virtfn(self.as_ptr()) }
    }

    /// Whether the command register has no bit that switches memory on.
    pub fn no_command_memory(&self) -> bool {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { ours::vfio_rs_pci_no_command_memory(self.as_ptr()) }
    }

    /// Where the MSI-X capability is, 0 if there is none.
    pub fn msix_cap(&self) -> u8 {
        field!(self, msix_cap)
    }

    /// Where the MSI capability is, 0 if there is none.
    pub fn msi_cap(&self) -> u8 {
        field!(self, msi_cap)
    }

    /// Whether the device's DMA can be kept coherent with the CPU's caches.
    pub fn cache_coherent(&self) -> bool {
        self.iommu_capable(bindings::iommu_cap_IOMMU_CAP_CACHE_COHERENCY)
    }

    /// Whether the device's DMA can be kept coherent even where the device asks for less.
    pub fn enforces_cache_coherency(&self) -> bool {
        self.iommu_capable(bindings::iommu_cap_IOMMU_CAP_ENFORCE_CACHE_COHERENCY)
    }

    fn iommu_capable(&self, cap: bindings::iommu_cap) -> bool {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { bindings::device_iommu_capable(&raw mut (*self.as_ptr()).dev, cap) }
    }

    /// The interrupt line behind the pin; a vector's while MSIs are on.
    pub(super) fn irq(&self) -> u32 {
        field!(self, irq)
    }

    /// The atomic operations that the device completes and all bridges up to the root port can pass
    /// on, which they then do: of 4, 8 and 16 bytes, one bit each.
    pub fn completed_atomics(&self) -> u32 {
        const SIZES: [(u32, u32); 3] = [
            (4, bindings::PCI_EXP_DEVCAP2_ATOMIC_COMP32),
            (8, bindings::PCI_EXP_DEVCAP2_ATOMIC_COMP64),
            (16, bindings::PCI_EXP_DEVCAP2_ATOMIC_COMP128),
        ];
        let mut caps = 0;
        // SAFETY: The device is alive (type invariant of `PciDevice`), `caps` valid for writes; 0
        // if the device is not Express.
        unsafe {
            let at = bindings::PCI_EXP_DEVCAP2 as c_int;
            bindings::pcie_capability_read_dword(self.as_ptr(), at, &mut caps);
        }
        SIZES.into_iter().fold(0, |all, (bytes, bit)| {
            // SAFETY: The device is alive (type invariant of `PciDevice`).
            let passes = || unsafe { bindings::pci_enable_atomic_ops_to_root(self.as_ptr(), bit) };
            match caps & bit != 0 && passes() == 0 {
                true => all | bytes,
                false => all,
            }
        })
    }
}

impl BoundPci {
    /// Switches the device's BARs on. May sleep.
    pub fn enable(&self) -> Result {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        to_result(unsafe { bindings::pci_enable_device(self.as_ptr()) })
    }

    /// Lets the device raise its pin, or not.
    pub fn intx(&self, enable: bool) {
        // SAFETY: The device is alive (type invariant of `PciDevice`); the call takes a lock of its
        // own, in any context.
        unsafe { bindings::pci_intx(self.as_ptr(), enable.into()) }
    }

    /// Undoes [`enable`](Self::enable).
    pub fn disable(&self) {
        // SAFETY: The device is alive (type invariant of `PciDevice`); the core counts.
        unsafe { bindings::pci_disable_device(self.as_ptr()) }
    }

    /// Forbids the device to do DMA.
    pub fn clear_master(&self) {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { bindings::pci_clear_master(self.as_ptr()) }
    }
}
