// SPDX-License-Identifier: GPL-2.0

//! Resets of all devices of a slot or a bus at once, `drivers/pci/pci.c`.

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

/// What a reset through the bridge above a device reaches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ResetScope {
    /// The functions of its hot-plug slot, and all below them.
    Slot,
    /// All devices on its bus and below.
    Bus,
}

/// Names the devices that are reset together: equal for two bound devices if they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ResetSetId(usize);

/// Where a device is.
#[derive(Clone, Copy)]
pub struct PciAddress {
    /// Domain.
    pub segment: u16,
    /// Bus number.
    pub bus: u8,
    /// Device number in the upper five bits, function in the lower three.
    pub devfn: u8,
}

impl PciDevice {
    /// How far a reset through the bridge above goes; `None` if there can be none. May sleep.
    pub fn reset_scope(&self) -> Option<ResetScope> {
        let (bus, slot) = (field!(self, bus), field!(self, slot));
        // SAFETY: The device is alive (type invariant of `PciDevice`), and so is its bus. Its slot,
        // if any, is as long as the driver of the slot stays; the PCI core does not ask for more
        // when it resets one.
        unsafe {
            if bindings::pci_probe_reset_slot(slot) == 0 {
                Some(ResetScope::Slot)
            } else if bindings::pci_probe_reset_bus(bus) == 0 {
                Some(ResetScope::Bus)
            } else {
                None
            }
        }
    }

    /// Which devices are reset with this one, by a name. The name holds as long as one of them is
    /// bound. May sleep.
    pub fn reset_set(&self) -> ResetSetId {
        let (bus, slot) = (field!(self, bus), field!(self, slot));
        // SAFETY: The device is alive (type invariant of `PciDevice`), and so is its bus.
        let alone = unsafe { bindings::vfio_rs_pci_is_root_bus(bus) } || self.is_virtfn();
        ResetSetId(if alone {
            self.as_ptr() as usize
        // SAFETY: As in `reset_scope`.
        } else if unsafe { bindings::pci_probe_reset_slot(slot) } == 0 {
            slot as usize
        } else {
            bus as usize
        })
    }

    /// Where the device is.
    pub fn address(&self) -> PciAddress {
        let (bus, devfn) = (field!(self, bus), field!(self, devfn));
        // SAFETY: The device is alive (type invariant of `PciDevice`), so its bus is, whose number
        // does not change.
        unsafe {
            PciAddress {
                segment: bindings::vfio_rs_pci_domain_nr(bus) as u16,
                bus: (*bus).number,
                devfn: devfn as u8,
            }
        }
    }

    /// Calls `f` for each device that a reset of `scope` reaches, bridges included, until it fails.
    ///
    /// No device appears or goes meanwhile: `f` must not make any. May sleep.
    pub fn for_each_reset_with<F>(&self, scope: ResetScope, f: F) -> Result
    where
        F: FnMut(&PciDevice) -> Result,
    {
        let bus = field!(self, bus);
        let mut walk = DependentWalk {
            f,
            slot: match scope {
                ResetScope::Slot => field!(self, slot),
                ResetScope::Bus => core::ptr::null(),
            },
            result: Ok(()),
        };
        // SAFETY: The bus is alive; `visit::<F>` gets the walk back, which outlives the call.
        unsafe {
            bindings::pci_walk_bus(bus, Some(visit::<F>), core::ptr::from_mut(&mut walk).cast())
        };
        walk.result
    }
}

impl BoundPci {
    /// Resets all that [`reset_scope`](Self::reset_scope) reaches; what they had configured stays.
    /// May sleep, but not for the lock of any device.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if one of them or the bridge is locked, `ENOTTY` if there is no such reset.
    pub fn reset_bus(&self) -> Result {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        to_result(unsafe { bindings::pci_reset_bus(self.as_ptr()) })
    }
}

struct DependentWalk<F> {
    f: F,
    /// Only what is below this slot, if any.
    slot: *const bindings::pci_slot,
    result: Result,
}

/// Hands a device to the closure.
///
/// # Safety
///
/// Called by `pci_walk_bus()`, with the walk that [`PciDevice::for_each_reset_with`] passed.
unsafe extern "C" fn visit<F: FnMut(&PciDevice) -> Result>(
    pdev: *mut bindings::pci_dev,
    walk: *mut c_void,
) -> c_int {
    // SAFETY: `for_each_reset_with` passes its own walk.
    let walk = unsafe { &mut *walk.cast::<DependentWalk<F>>() };
    // SAFETY: The PCI core passes a live device; the slot is that of a live device.
    if walk.slot.is_null() || unsafe { below_slot(pdev, walk.slot) } {
        // SAFETY: As above.
        let dev = unsafe { PciDevice::from_raw(pdev) };
        walk.result = (walk.f)(&dev);
    }
    walk.result.map_or_else(|err| err.to_errno(), |()| 0)
}

/// Whether a device is in `slot` or behind a bridge that is.
///
/// # Safety
///
/// Both must be alive, and the tree of devices must not change meanwhile.
unsafe fn below_slot(pdev: *mut bindings::pci_dev, slot: *const bindings::pci_slot) -> bool {
    let mut at = pdev;
    while !at.is_null() {
        // SAFETY: By the contract of this function the bridges above a live device are alive.
        unsafe {
            if core::ptr::eq((*at).bus, (*slot).bus) {
                return core::ptr::eq((*at).slot, slot);
            }
            at = (*(*at).bus).self_;
        }
    }
    false
}
