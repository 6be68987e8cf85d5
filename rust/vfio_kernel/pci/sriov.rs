// SPDX-License-Identifier: GPL-2.0

//! Virtual functions, `drivers/pci/iov.c`.

use core::ptr::NonNull;
use kernel::{
    error::to_result,
    prelude::*, //
};
use vfio_bindings as bindings;

use super::{
    BoundPci,
    PciDevice, //
};

impl PciDevice {
    /// Whether it can have virtual functions.
    pub fn is_physfn(&self) -> bool {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { bindings::vfio_rs_pci_is_physfn(self.as_ptr()) }
    }

    /// The physical function behind a virtual one.
    pub fn physfn(&self) -> Option<PciDevice> {
        if !self.is_virtfn() {
            return None;
        }
        // SAFETY: The device is alive (type invariant of `PciDevice`), and a virtual function holds
        // a reference to its physical one.
        unsafe {
            let physfn = NonNull::new(bindings::vfio_rs_pci_physfn(self.as_ptr()))?;
            Some(PciDevice::from_raw(physfn.as_ptr()))
        }
    }

    /// Whether both are the same device.
    pub fn is(&self, other: &PciDevice) -> bool {
        core::ptr::eq(self.as_ptr(), other.as_ptr())
    }

    /// Number of virtual functions that are switched on.
    pub fn num_vf(&self) -> u32 {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { bindings::vfio_rs_pci_num_vf(self.as_ptr()) }
    }

    /// Says which driver alone may be bound to the device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn set_driver_override(&self, driver: &CStr) -> Result {
        // SAFETY: The device is alive (type invariant of `PciDevice`); the string is copied.
        to_result(unsafe {
            bindings::vfio_rs_pci_set_driver_override(self.as_ptr(), driver.as_char_ptr())
        })
    }
}

impl BoundPci {
    /// Makes `count` virtual functions, which find their drivers before this returns. Called with
    /// the device's lock held. May sleep.
    ///
    /// # Errors
    ///
    /// What the PCI core says; then there is none.
    pub fn enable_sriov(&self, count: u16) -> Result {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        to_result(unsafe { bindings::vfio_rs_pci_enable_sriov(self.as_ptr(), count.into()) })
    }

    /// Removes all virtual functions; their drivers are unbound. Called with the device's lock
    /// held. May sleep.
    pub fn disable_sriov(&self) {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { bindings::vfio_rs_pci_disable_sriov(self.as_ptr()) }
    }
}
