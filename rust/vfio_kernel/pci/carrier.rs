// SPDX-License-Identifier: GPL-2.0

//! The module that a driver belongs to in the eyes of users: one that carries its name.
//!
//! Users know the driver by its module. They load that to have the driver and remove it to be rid
//! of it, give it the driver's parameters, and look for the driver below `/sys/module`. So the
//! module of this code only *offers* a driver, and the carrier has it registered for itself, by the
//! functions that `rust/helpers/vfio_driver.c` exports. Since the carrier needs these symbols, it
//! goes first.
//!
//! Whoever uses a device holds the carrier ([`ModuleRef`]): it is busy while a device is in use,
//! and otherwise takes the driver along when it goes, as any driver's module does.
//!
//! Locks: `CARRIED`, held while a driver is registered or unregistered, so above the device's lock;
//! `DriverOwner::module`, a spinlock, innermost. See Documentation/locking.rst.

use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full, //
        },
        global_lock,
        Arc,
        SpinLock, //
    },
};
use vfio_bindings as bindings;

use super::driver::{
    Driver,
    Registration, //
};
use crate::module_ref::ModuleRef;

/// The module that a driver is registered for.
#[pin_data]
pub struct DriverOwner {
    #[pin]
    module: SpinLock<Module>,
}

/// # Invariants
///
/// What there is, is null or a module that is not freed before this is taken away.
struct Module(Option<*mut bindings::module>);

// SAFETY: The pointer is only passed to functions that any thread may call.
unsafe impl Send for Module {}

impl DriverOwner {
    /// # Safety
    ///
    /// `module` must be null, for code that is built in, or stay until [`gone`](Self::gone) was
    /// called.
    unsafe fn new(module: *mut bindings::module) -> Result<Arc<Self>> {
        // INVARIANT: By the contract of this function.
        let owner = pin_init!(Self {
            module <- new_spinlock!(Module(Some(module)), "DriverOwner::module"),
        });
        Arc::pin_init(owner, GFP_KERNEL)
    }

    /// Keeps the module from being removed.
    ///
    /// # Errors
    ///
    /// `ENODEV` if that is under way, or done.
    pub fn hold(&self) -> Result<ModuleRef> {
        let module = self.module.lock();
        let pointer = module.0.ok_or(ENODEV)?;
        // SAFETY: By the invariant of `Module` it is there for as long as the lock is held.
        unsafe { ModuleRef::take(pointer) }.ok_or(ENODEV)
    }

    /// To be called before the module is freed.
    fn gone(&self) {
        self.module.lock().0 = None;
    }
}

/// A driver that a carrier may register; dropping this withdraws it.
pub struct Offer(());

impl Offer {
    /// Offers the driver `name`, whose devices share `shared`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if a driver was offered before; `ENOMEM`.
    pub fn new<T: Driver>(name: &'static CStr, shared: T::Shared) -> Result<Self> {
        if OFFERED.xchg(true, Full) {
            return Err(EBUSY);
        }
        // SAFETY: Once, by what was just asked. Nobody else uses the lock before: carriers cannot
        // call until the module of this code is initialised.
        unsafe { CARRIED.init() };
        let offer = KBox::new(Named::<T> { name, shared }, GFP_KERNEL)?;
        CARRIED.lock().offer = Some(offer);
        Ok(Self(()))
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let mut carried = CARRIED.lock();
        let offer = carried.offer.take();
        // No carrier is left, but for one that forgot to unregister.
        let driver = carried.driver.take();
        drop(carried);
        drop(driver);
        drop(offer);
    }
}

struct Named<T: Driver> {
    name: &'static CStr,
    shared: T::Shared,
}

/// What there is to register.
trait Offered: Send {
    /// # Safety
    ///
    /// As [`vfio_rs_driver_register`], until what this returns is dropped.
    unsafe fn register(
        &self,
        module: *mut bindings::module,
        mod_name: *const c_char,
    ) -> Result<KBox<dyn Registered>>;
}

impl<T: Driver> Offered for Named<T> {
    unsafe fn register(
        &self,
        module: *mut bindings::module,
        mod_name: *const c_char,
    ) -> Result<KBox<dyn Registered>> {
        // SAFETY: By the contract of this function the module stays until what is returned is
        // dropped; that then says that it is gone.
        let owner = unsafe { DriverOwner::new(module) }?;
        // SAFETY: As above.
        let registration = unsafe {
            Registration::<T>::new(
                self.name,
                self.shared.clone(),
                module,
                mod_name,
                owner.clone(),
            )
        };
        let kept = KBox::new(Kept(registration?, owner), GFP_KERNEL)?;
        Ok(kept)
    }
}

/// A driver that is registered; dropping this unbinds all devices.
trait Registered: Send {
    fn as_ptr(&self) -> *mut bindings::pci_driver;
}

struct Kept<T: Driver>(Registration<T>, Arc<DriverOwner>);

impl<T: Driver> Registered for Kept<T> {
    fn as_ptr(&self) -> *mut bindings::pci_driver {
        self.0.as_ptr()
    }
}

impl<T: Driver> Drop for Kept<T> {
    fn drop(&mut self) {
        // Before the driver is unregistered: whoever asks from now on sees a module that goes.
        self.1.gone();
    }
}

struct Carried {
    offer: Option<KBox<dyn Offered>>,
    driver: Option<KBox<dyn Registered>>,
}

static OFFERED: Atomic<bool> = Atomic::new(false);

global_lock! {
    // SAFETY: Initialised by `Offer::new`, before which there is nothing to ask for.
    unsafe(uninit) static CARRIED: Mutex<Carried> = Carried { offer: None, driver: None };
}

/// `vfio_rs_register_driver()`: registers the driver on offer for `module` and binds it to the
/// devices that are waiting for it. May sleep.
///
/// Returns the driver, or as an error pointer `ENODEV` if none is on offer, `EBUSY` if it is
/// registered already or there is one of its name, `ENOMEM`.
///
/// # Safety
///
/// To be called by a module that needs this one. `module` must be that module, or null for code
/// that is built in; it, and the text `mod_name`, must stay until [`vfio_rs_driver_unregister`] was
/// called.
#[no_mangle]
unsafe extern "C" fn vfio_rs_driver_register(
    module: *mut bindings::module,
    mod_name: *const c_char,
) -> *mut bindings::pci_driver {
    let mut carried = CARRIED.lock();
    let registered = match &*carried {
        Carried {
            driver: Some(_), ..
        } => Err(EBUSY),
        Carried { offer: None, .. } => Err(ENODEV),
        Carried {
            offer: Some(offer), ..
        } => {
            // SAFETY: By the contract of this function; what is returned is dropped by
            // `vfio_rs_driver_unregister`.
            unsafe { offer.register(module, mod_name) }
        }
    };
    match registered {
        Ok(driver) => carried.driver.insert(driver).as_ptr(),
        Err(err) => err.to_ptr(),
    }
}

/// `vfio_rs_unregister_driver()`: undoes [`vfio_rs_driver_register`], and does nothing for another
/// driver than that. Waits until nobody uses a device.
#[no_mangle]
extern "C" fn vfio_rs_driver_unregister(driver: *mut bindings::pci_driver) {
    let mut carried = CARRIED.lock();
    let is_it = |kept: &mut KBox<dyn Registered>| core::ptr::eq(kept.as_ptr(), driver);
    let kept = carried.driver.take_if(is_it);
    drop(kept);
}
