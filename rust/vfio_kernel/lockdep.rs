// SPDX-License-Identifier: GPL-2.0

//! Locks that are made of something else, as lockdep sees them, `include/linux/lockdep.h`.
//!
//! A thread may have a thing to itself, and others may wait until nobody has it, without any lock
//! of the kernel's for that. Then lockdep knows nothing of it, and nobody finds that two such
//! threads can wait for each other before they do. [`LockMap`] tells it. Without `CONFIG_LOCKDEP`
//! all of this is nothing.

use core::marker::PhantomData;
use kernel::{
    prelude::*,
    sync::LockClassKey,
    types::NotThreadSafe, //
};

#[cfg(CONFIG_LOCKDEP)]
use kernel::types::Opaque;
#[cfg(CONFIG_LOCKDEP)]
use vfio_bindings as bindings;

#[cfg(CONFIG_LOCKDEP)]
type LockdepMap = Opaque<bindings::lockdep_map>;
#[cfg(not(CONFIG_LOCKDEP))]
type LockdepMap = ();

/// What threads have and others wait for. It excludes nobody and waits for nothing itself.
#[pin_data]
pub struct LockMap {
    #[pin]
    map: LockdepMap,
}

// SAFETY: lockdep locks itself; all that is in the map is written before it is used.
unsafe impl Send for LockMap {}
// SAFETY: As above.
unsafe impl Sync for LockMap {}

impl LockMap {
    /// Nobody has it. `name` and `key` are lockdep's; use [`new_lock_map!`](crate::new_lock_map).
    #[cfg(CONFIG_LOCKDEP)]
    pub fn new(name: &'static CStr, key: Pin<&'static LockClassKey>) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes; `name` and `key` live forever.
            map <- Opaque::ffi_init(|slot| unsafe {
                bindings::vfio_rs_lockdep_init(slot, name.as_char_ptr(), key.as_ptr())
            }),
        })
    }

    /// As above.
    #[cfg(not(CONFIG_LOCKDEP))]
    pub fn new(_name: &'static CStr, _key: Pin<&'static LockClassKey>) -> impl PinInit<Self> {
        pin_init!(Self { map: () })
    }

    /// The current thread has it, without having waited, until the guard is dropped. Others may
    /// have it too, and the thread more than once.
    #[inline]
    pub fn hold(&self) -> Held<'_> {
        #[cfg(CONFIG_LOCKDEP)]
        // SAFETY: Initialised by `new`.
        unsafe {
            bindings::vfio_rs_lockdep_hold(self.map.get())
        }
        Held {
            #[cfg(CONFIG_LOCKDEP)]
            map: self,
            _map: PhantomData,
            _thread: NotThreadSafe,
        }
    }

    /// The current thread is about to wait until nobody has it, if somebody has. It may hold no
    /// lock. May sleep.
    #[inline]
    pub fn may_wait(&self) {
        #[cfg(CONFIG_LOCKDEP)]
        // SAFETY: Initialised by `new`.
        unsafe {
            bindings::vfio_rs_lockdep_may_wait(self.map.get())
        }
    }
}

/// See [`LockMap::hold`].
pub struct Held<'a> {
    #[cfg(CONFIG_LOCKDEP)]
    map: &'a LockMap,
    _map: PhantomData<&'a LockMap>,
    _thread: NotThreadSafe,
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        #[cfg(CONFIG_LOCKDEP)]
        // SAFETY: Initialised by `new`; held by this thread, as `self` cannot leave it.
        unsafe {
            bindings::vfio_rs_lockdep_release(self.map.map.get())
        }
    }
}

/// Makes a [`LockMap`] with a lock class of its own.
#[macro_export]
macro_rules! new_lock_map {
    ($name:literal) => {
        $crate::lockdep::LockMap::new(::kernel::c_str!($name), ::kernel::static_lock_class!())
    };
}
