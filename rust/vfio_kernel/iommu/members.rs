// SPDX-License-Identifier: GPL-2.0

//! The devices of an IOMMU group, on whatever bus.

use kernel::{
    bindings,
    device,
    prelude::*,
    sync::aref::ARef, //
};
use vfio_bindings as ours;

use super::group::{
    device_resv_regions,
    IommuGroup,
    ResvKind, //
};

/// A device of a group.
pub struct GroupDevice {
    dev: ARef<device::Device>,
    /// The firmware wants memory mapped for it at all times.
    pub wants_direct: bool,
    /// It can raise no interrupts but its own.
    pub isolated_msi: bool,
}

impl GroupDevice {
    /// The device.
    pub fn device(&self) -> &device::Device {
        &self.dev
    }

    /// Whether it has a driver, just now. Which one only its bus tells.
    pub fn has_driver(&self) -> bool {
        // SAFETY: The device is alive; the pointer is not followed.
        unsafe { ours::vfio_rs_dev_has_driver(core::ptr::from_ref(&*self.dev).cast()) }
    }
}

impl IommuGroup {
    /// The devices of the group, in the order in which they came. Takes the group's mutex.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. May sleep.
    pub fn devices(&self) -> Result<KVec<GroupDevice>> {
        let mut found: Result<KVec<GroupDevice>> = Ok(KVec::new());
        // SAFETY: `add` gets `found` back, which outlives the call.
        unsafe {
            bindings::iommu_group_for_each_dev(
                self.as_ptr(),
                core::ptr::from_mut(&mut found).cast(),
                Some(add),
            )
        };
        found
    }
}

/// Adds a device to the list.
///
/// # Safety
///
/// Called by `iommu_group_for_each_dev()`, with the list that [`IommuGroup::devices`] passed. The
/// group's mutex is held, so the device keeps its IOMMU if it has one.
unsafe extern "C" fn add(dev: *mut bindings::device, found: *mut c_void) -> c_int {
    // SAFETY: `IommuGroup::devices` passes its own list.
    let found = unsafe { &mut *found.cast::<Result<KVec<GroupDevice>>>() };
    // SAFETY: The device is alive, and its IOMMU stays; see above.
    let (regions, isolated_msi) = unsafe {
        (
            device_resv_regions(dev),
            ours::msi_device_has_isolated_msi(dev),
        )
    };
    let added = regions.and_then(|regions| {
        let device = GroupDevice {
            // SAFETY: The device is alive, and `into` takes a reference of its own.
            dev: unsafe { device::Device::<device::Normal>::from_raw(dev) }.into(),
            wants_direct: regions.iter().any(|region| region.kind == ResvKind::Direct),
            isolated_msi,
        };
        match found {
            Ok(list) => Ok(list.push(device, GFP_KERNEL)?),
            Err(_) => Ok(()),
        }
    });
    match added {
        Ok(()) => 0,
        Err(err) => {
            *found = Err(err);
            // Ends the walk.
            1
        }
    }
}
