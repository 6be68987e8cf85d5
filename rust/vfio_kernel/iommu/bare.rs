// SPDX-License-Identifier: GPL-2.0

//! Groups for devices that have no IOMMU, so that they can be named as all others.

use core::ptr::NonNull;
use kernel::{
    device,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    sync::aref::ARef, //
};
use vfio_bindings as bindings;

use super::IommuGroup;

/// A group made for one device; it leaves the group when this is dropped.
pub struct BareGroup {
    group: ARef<IommuGroup>,
    dev: ARef<device::Device>,
}

impl BareGroup {
    /// Puts `dev`, which has no group, into a new one. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM` and what the driver core says.
    pub fn new(dev: &device::Device) -> Result<Self> {
        // SAFETY: May be called by any task that may sleep.
        let ptr = from_err_ptr(unsafe { bindings::iommu_group_alloc() })?;
        let ptr = NonNull::new(ptr.cast::<IommuGroup>()).ok_or(ENOMEM)?;
        // SAFETY: The call above returned a reference, which is now ours.
        let group: ARef<IommuGroup> = unsafe { ARef::from_raw(ptr) };
        // SAFETY: Both are alive; the name is copied.
        unsafe {
            to_result(bindings::iommu_group_set_name(
                group.as_ptr(),
                c"vfio-noiommu".as_char_ptr(),
            ))?;
            to_result(bindings::iommu_group_add_device(
                group.as_ptr(),
                core::ptr::from_ref(dev).cast_mut().cast(),
            ))?;
        }
        Ok(Self {
            group,
            dev: dev.into(),
        })
    }

    /// The group.
    pub fn group(&self) -> &ARef<IommuGroup> {
        &self.group
    }
}

impl Drop for BareGroup {
    fn drop(&mut self) {
        // SAFETY: `new` put the device into the group.
        unsafe {
            bindings::iommu_group_remove_device(core::ptr::from_ref(&*self.dev).cast_mut().cast())
        }
    }
}
