// SPDX-License-Identifier: GPL-2.0

//! Ways to take a mutex that the `kernel` crate lacks, `include/linux/mutex.h`.

use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::{
        lock::mutex::MutexGuard,
        Mutex, //
    },
};

fn raw<T>(mutex: &Mutex<T>) -> *mut bindings::mutex {
    // CAST: `Lock` is `repr(C)` and begins with the C mutex, in a cell.
    core::ptr::from_ref(mutex).cast_mut().cast()
}

/// Takes `mutex` while another one of the same kind is held, which by an order among the two comes
/// first. May sleep.
pub fn lock_nested<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // SAFETY: The mutex exists, so it was initialised.
    unsafe { vfio_bindings::vfio_rs_mutex_lock_nested(raw(mutex)) };
    // SAFETY: The mutex was just taken.
    unsafe { MutexGuard::new(mutex, ()) }
}

/// Takes `mutex`, unless the task is being killed while it waits. May sleep.
///
/// # Errors
///
/// `EINTR` then.
pub fn lock_killable<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    // SAFETY: The mutex exists, so it was initialised.
    to_result(unsafe { vfio_bindings::vfio_rs_mutex_lock_killable(raw(mutex)) })?;
    // SAFETY: The mutex was just taken.
    Ok(unsafe { MutexGuard::new(mutex, ()) })
}

#[cfg(CONFIG_VFIO_RS_KUNIT_TEST)]
#[kernel::prelude::kunit_tests(vfio_rs_mutex)]
mod tests {
    use super::*;
    use kernel::{
        new_mutex,
        sync::Arc, //
    };

    fn is_locked<T>(mutex: &Mutex<T>) -> bool {
        // SAFETY: The mutex exists, so it was initialised.
        unsafe { bindings::mutex_is_locked(raw(mutex)) }
    }

    #[test]
    fn begins_with_the_mutex_of_c() -> Result {
        let mutex = Arc::pin_init(new_mutex!([!0u64; 9]), GFP_KERNEL)?;
        assert!(!is_locked(&mutex));
        let guard = mutex.lock();
        assert!(is_locked(&mutex));
        drop(guard);
        assert!(!is_locked(&mutex));
        drop(lock_nested(&mutex));
        let guard = lock_killable(&mutex)?;
        assert_eq!(*guard, [!0u64; 9]);
        assert!(is_locked(&mutex));
        Ok(())
    }
}
