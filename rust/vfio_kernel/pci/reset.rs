// SPDX-License-Identifier: GPL-2.0

//! Resets and saved state, `drivers/pci/pci.c`.

use core::ptr::NonNull;
use kernel::{
    error::to_result,
    prelude::*, //
};
use vfio_bindings as bindings;

use super::{
    device::field,
    BoundPci,
    PciDevice, //
};
use crate::log;

/// `PCI_D3hot` of `include/linux/pci.h`.
const D3HOT: bindings::pci_power_t = 3;

/// Control and status, in the Power Management capability.
const PM_CTRL: u16 = 4;

/// The configuration of a device at some time, to go back to.
///
/// # Invariants
///
/// The pointer is to a list of capabilities that `pci_store_saved_state()` allocated with
/// kmalloc(), and that belongs to this. Nobody writes to it.
pub struct SavedState(NonNull<bindings::pci_saved_state>);

// SAFETY: Plain memory of its own (type invariant).
unsafe impl Send for SavedState {}
// SAFETY: As above, which is only read.
unsafe impl Sync for SavedState {}

impl Drop for SavedState {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::kfree(self.0.as_ptr().cast()) }
    }
}

impl PciDevice {
    /// Whether the device resets itself, and so forgets its configuration, on the way from D3hot to
    /// D0: its Power Management capability lacks No_Soft_Reset.
    pub fn forgets_in_d3(&self) -> bool {
        const NO_SOFT_RESET: u16 = 0x8;

        let cap = u16::from(field!(self, pm_cap));
        cap != 0 && self.read_config_word(cap.wrapping_add(PM_CTRL)) & NO_SOFT_RESET == 0
    }

    /// Whether the device is in D3hot or deeper, where it answers no memory access.
    pub fn is_asleep(&self) -> bool {
        // Written by `set_power_state` and resets of ours, under the caller's lock, and by the PM
        // core and resets of others, whenever they like.
        field!(self, current_state) >= D3HOT
    }
}

impl BoundPci {
    /// Resets the function, keeping its configuration; fails rather than wait for its lock.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if the device is locked, `ENOTTY` if it has no reset of its own. May sleep.
    pub fn try_reset_function(&self) -> Result {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        to_result(unsafe { bindings::pci_try_reset_function(self.as_ptr()) })
    }

    /// Saves the configuration inside the device's struct.
    pub fn save_state(&self) {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { bindings::pci_save_state(self.as_ptr()) };
    }

    /// Takes a copy of the saved configuration; `None` if there is no memory for it.
    pub fn store_saved_state(&self) -> Option<SavedState> {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        let state = unsafe { bindings::pci_store_saved_state(self.as_ptr()) };
        // INVARIANT: Allocated by the call, for the caller.
        NonNull::new(state).map(SavedState)
    }

    /// Makes `state` the saved configuration.
    pub fn load_saved_state(&self, state: &SavedState) -> Result {
        // SAFETY: The device is alive (type invariant of `PciDevice`), `state` is a list of
        // capabilities (type invariant). It may be another device's: the call compares their sizes
        // with those that this one has.
        to_result(unsafe { bindings::pci_load_saved_state(self.as_ptr(), state.0.as_ptr()) })
    }

    /// Writes the saved configuration to the device.
    pub fn restore_state(&self) {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { bindings::pci_restore_state(self.as_ptr()) }
    }

    /// Goes to the power state D0 (0) to D3hot (3). May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` for any other state, `EIO` if the device cannot go there.
    pub fn set_power_state(&self, state: i32) -> Result {
        if !(0..=D3HOT).contains(&state) {
            return Err(EINVAL);
        }
        // Of a device that does not answer the PCI core says so each time.
        let cap = u16::from(field!(self, pm_cap));
        if cap != 0
            && self.read_config_word(cap.wrapping_add(PM_CTRL)) == u16::MAX
            && !log::may_log(log::Subject::Failures)
        {
            return Err(EIO);
        }
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        to_result(unsafe { bindings::pci_set_power_state(self.as_ptr(), state) })
    }

    /// Sets the maximum read request size to `bytes`, but not below the maximum payload size.
    pub fn set_readrq_at_least_mps(&self, bytes: u16) {
        // SAFETY: The device is alive (type invariant of `PciDevice`); sizes that it cannot have
        // are refused and change nothing.
        unsafe {
            let bytes = c_int::from(bytes).max(bindings::pcie_get_mps(self.as_ptr()));
            bindings::pcie_set_readrq(self.as_ptr(), bytes);
        }
    }

    /// Reads four bytes of the vital product data, zeroes beyond its end. May sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is none, `ETIMEDOUT`, `EINTR`.
    pub fn read_vpd(&self, addr: u16) -> Result<u32> {
        let mut data = [0u8; 4];
        // SAFETY: The device is alive (type invariant of `PciDevice`); `data` has room for what is
        // asked for.
        to_result(unsafe {
            bindings::pci_read_vpd(self.as_ptr(), addr.into(), 4, data.as_mut_ptr().cast())
        } as c_int)?;
        Ok(u32::from_le_bytes(data))
    }

    /// Writes four bytes of the vital product data. May sleep.
    pub fn write_vpd(&self, addr: u16, data: u32) -> Result {
        let data = data.to_le_bytes();
        // SAFETY: The device is alive (type invariant of `PciDevice`); `data` holds what is
        // announced.
        let n =
            unsafe { bindings::pci_write_vpd(self.as_ptr(), addr.into(), 4, data.as_ptr().cast()) };
        if n != 4 {
            return Err(EIO);
        }
        Ok(())
    }

    /// Resets the function without keeping its configuration, if its lock and that of the bridge
    /// above are free. For a release path: neither waits nor fails, but tells what it did.
    pub fn reset_if_unlocked(&self) -> bool {
        let mut was_reset = false;
        // SAFETY: The device is alive (type invariant of `PciDevice`); so is the bridge above it,
        // which the device refers to. Each lock is given back by whoever got it.
        unsafe {
            let bridge = bindings::vfio_rs_pci_upstream_bridge(self.as_ptr());
            if !bridge.is_null() && bindings::pci_dev_trylock(bridge) == 0 {
                return false;
            }
            if bindings::pci_dev_trylock(self.as_ptr()) != 0 {
                was_reset = bindings::__pci_reset_function_locked(self.as_ptr()) == 0;
                bindings::pci_dev_unlock(self.as_ptr());
            }
            if !bridge.is_null() {
                bindings::pci_dev_unlock(bridge);
            }
        }
        was_reset
    }
}
