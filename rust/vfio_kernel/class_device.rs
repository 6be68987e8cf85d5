// SPDX-License-Identifier: GPL-2.0

//! Class devices without a node: `device_create()` of `include/linux/device.h`.
//!
//! Such a device is a name below its parent's folder in sysfs, in a folder that has the name of the
//! class. What has a node is [`chardev`](crate::chardev).

use core::ptr::NonNull;
use kernel::{
    bindings,
    device,
    error::{
        from_err_ptr,
        to_result, //
    },
    fmt,
    prelude::*,
    str::CString,
    sync::Arc,
    types::Opaque, //
};

/// A device class; unregistered with the last device of it.
///
/// # Invariants
///
/// The class is registered.
pub struct DeviceClass(Pin<KBox<Opaque<bindings::class>>>);

// SAFETY: The class is only handed to the driver core, which locks it.
unsafe impl Send for DeviceClass {}
// SAFETY: As above.
unsafe impl Sync for DeviceClass {}

impl DeviceClass {
    /// Registers the class `name`. May sleep.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is such a class, `ENOMEM`.
    pub fn register(name: &'static CStr) -> Result<Arc<Self>> {
        let class = bindings::class {
            name: name.as_char_ptr(),
            ..pin_init::zeroed()
        };
        let class = KBox::pin(Opaque::new(class), GFP_KERNEL)?;
        // SAFETY: The struct is filled in, pinned, and unregistered before it is freed.
        to_result(unsafe { bindings::class_register(class.get()) })?;
        // INVARIANT: Registered just now.
        Ok(Arc::new(Self(class), GFP_KERNEL)?)
    }
}

impl Drop for DeviceClass {
    fn drop(&mut self) {
        // SAFETY: It is registered, by the type's invariant; its devices hold a reference to
        // `self`.
        unsafe { bindings::class_unregister(self.0.get()) }
    }
}

/// A device of a class, until dropped, which may sleep.
///
/// # Invariants
///
/// The device was made by `device_create()` and is not unregistered.
pub struct ClassDevice {
    dev: NonNull<bindings::device>,
    _class: Arc<DeviceClass>,
}

// SAFETY: A device may be unregistered by any thread, and `&ClassDevice` gives access to nothing.
unsafe impl Send for ClassDevice {}
// SAFETY: As above.
unsafe impl Sync for ClassDevice {}

impl ClassDevice {
    /// Adds the device `name` of `class` below `parent`. May sleep.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the class has a device of that name, `ENOMEM`.
    pub fn new(
        class: &Arc<DeviceClass>,
        parent: &device::Device,
        name: fmt::Arguments<'_>,
    ) -> Result<Self> {
        let name = CString::try_from_fmt(name)?;
        // SAFETY: The class is registered, by its invariant, and stays so until the device is
        // unregistered; the parent is alive, and the device takes a reference to it. The string
        // fits the format.
        let dev = from_err_ptr(unsafe {
            bindings::device_create(
                class.0.get(),
                core::ptr::from_ref(parent).cast_mut().cast(),
                0,
                core::ptr::null_mut(),
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            )
        })?;
        // INVARIANT: Made just now.
        Ok(Self {
            dev: NonNull::new(dev).ok_or(ENOMEM)?,
            _class: class.clone(),
        })
    }
}

impl Drop for ClassDevice {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant; nobody else unregisters it.
        unsafe { bindings::device_unregister(self.dev.as_ptr()) }
    }
}
