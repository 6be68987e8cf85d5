// SPDX-License-Identifier: GPL-2.0

//! Reader-writer semaphores, `include/linux/rwsem.h`.

use core::{
    cell::UnsafeCell,
    ops::{
        Deref,
        DerefMut, //
    },
};
use kernel::{
    prelude::*,
    sync::LockClassKey,
    types::{
        NotThreadSafe,
        Opaque, //
    },
};
use vfio_bindings as bindings;

/// Data that many may read or one may change. Taking it may sleep.
#[pin_data]
pub struct RwSem<T> {
    #[pin]
    sem: Opaque<bindings::rw_semaphore>,
    #[pin]
    data: UnsafeCell<T>,
}

// SAFETY: The semaphore hands the data to one thread at a time, or to several as `&T`.
unsafe impl<T: Send> Send for RwSem<T> {}
// SAFETY: As above; readers share `&T`, hence `T: Sync`.
unsafe impl<T: Send + Sync> Sync for RwSem<T> {}

impl<T> RwSem<T> {
    /// Makes an unlocked semaphore; `name` and `key` are lockdep's. Use [`new_rwsem!`].
    pub fn new(
        data: T,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes; `name` and `key` live forever.
            sem <- Opaque::ffi_init(|slot| unsafe {
                bindings::__init_rwsem(slot, name.as_char_ptr(), key.as_ptr())
            }),
            data: UnsafeCell::new(data),
        })
    }

    /// Waits for writers to leave and shares the data.
    pub fn read(&self) -> ReadGuard<'_, T> {
        // SAFETY: `self.sem` was initialised by `new`.
        unsafe { bindings::down_read(self.sem.get()) };
        ReadGuard(self, NotThreadSafe)
    }

    /// Shares the data if no writer has it or waits for it. Any context.
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        // SAFETY: `self.sem` was initialised by `new`.
        let taken = unsafe { bindings::down_read_trylock(self.sem.get()) };
        (taken != 0).then(|| ReadGuard(self, NotThreadSafe))
    }

    /// Waits for everybody to leave and takes the data.
    pub fn write(&self) -> WriteGuard<'_, T> {
        // SAFETY: `self.sem` was initialised by `new`.
        unsafe { bindings::down_write(self.sem.get()) };
        WriteGuard(self, NotThreadSafe)
    }
}

/// Makes an [`RwSem`] with a lock class of its own.
#[macro_export]
macro_rules! new_rwsem {
    ($data:expr, $name:literal) => {
        $crate::rwsem::RwSem::new(
            $data,
            ::kernel::c_str!($name),
            ::kernel::static_lock_class!(),
        )
    };
}

/// Shared access, given back on drop.
pub struct ReadGuard<'a, T>(&'a RwSem<T>, NotThreadSafe);

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: The guard holds the semaphore for reading, so nobody has a `&mut T`.
        unsafe { &*self.0.data.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: The guard holds the semaphore for reading.
        unsafe { bindings::up_read(self.0.sem.get()) }
    }
}

/// Exclusive access, given back on drop.
pub struct WriteGuard<'a, T>(&'a RwSem<T>, NotThreadSafe);

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: The guard holds the semaphore for writing.
        unsafe { &*self.0.data.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: The guard holds the semaphore for writing and is borrowed mutably.
        unsafe { &mut *self.0.data.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: The guard holds the semaphore for writing.
        unsafe { bindings::up_write(self.0.sem.get()) }
    }
}
