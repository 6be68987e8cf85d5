// SPDX-License-Identifier: GPL-2.0

//! References to other modules, `include/linux/module.h`, and to those that carry names of C VFIO.
//!
//! The code that a container needs is here, whatever becomes of the modules `vfio` and
//! `vfio_iommu_type1`; but who removes them expects to be told that they are in use. So these
//! carriers make themselves known by `vfio_rs_carry()` of `rust/helpers/vfio_driver.c`, and what is
//! used under their names holds them.

use kernel::sync::{
    atomic::{
        Acquire,
        Atomic,
        Release, //
    },
    rcu, //
};
use vfio_bindings as bindings;

/// A reference to a module, which cannot be removed meanwhile.
///
/// # Invariants
///
/// The module is null or `self` owns a reference to it.
pub struct ModuleRef(*mut bindings::module);

// SAFETY: The count is atomic, and nothing else of the struct is used.
unsafe impl Send for ModuleRef {}
// SAFETY: As above.
unsafe impl Sync for ModuleRef {}

impl ModuleRef {
    /// Takes a reference, unless the module is being removed.
    ///
    /// # Safety
    ///
    /// `module` must be null, for code that is built in, or not be freed during this call.
    pub(crate) unsafe fn take(module: *mut bindings::module) -> Option<Self> {
        // SAFETY: By the contract of this function.
        let taken = unsafe { bindings::vfio_rs_try_module_get(module) };
        // INVARIANT: The reference was just taken.
        taken.then(|| Self(module))
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: By the invariant of the type.
        unsafe { bindings::vfio_rs_module_put(self.0) }
    }
}

/// A name that a module may carry.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum ModuleName {
    /// `vfio`: containers and groups.
    Vfio = bindings::VFIO_RS_NAME_VFIO,
    /// `vfio_iommu_type1`: address spaces.
    Type1 = bindings::VFIO_RS_NAME_TYPE1,
}

/// Null, or a module that takes itself out before it is freed, and is freed a grace period of RCU
/// later.
static CARRIERS: [Atomic<*mut bindings::module>; 2] = [
    Atomic::new(core::ptr::null_mut()),
    Atomic::new(core::ptr::null_mut()),
];

/// Keeps the module of that name from being removed, if there is one.
pub fn hold(name: ModuleName) -> Option<ModuleRef> {
    let carrier = CARRIERS.get(name as usize)?;
    let _guard = rcu::read_lock();
    let module = carrier.load(Acquire);
    if module.is_null() {
        return None;
    }
    // SAFETY: By what is said of `CARRIERS` it is not freed before the guard is dropped.
    unsafe { ModuleRef::take(module) }
}

/// `vfio_rs_carry()`: `module` carries the name from now on; null: nobody does.
///
/// # Safety
///
/// `module` must be null, or a module that calls this again with null before it is freed. As all
/// modules it must be freed a grace period later only.
#[no_mangle]
unsafe extern "C" fn vfio_rs_name_carried(name: u32, module: *mut bindings::module) {
    if let Some(carrier) = CARRIERS.get(name as usize) {
        carrier.store(module, Release);
    }
}
