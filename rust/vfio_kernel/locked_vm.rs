// SPDX-License-Identifier: GPL-2.0

//! Accounting of locked memory, `__account_locked_vm()` of `mm/util.c`.

use core::ptr::NonNull;
use kernel::{
    error::to_result,
    mm::Mm,
    page::PAGE_SHIFT,
    prelude::*,
    sync::aref::ARef, //
};
use vfio_bindings as bindings;

use crate::sched;

/// Pages that count against `RLIMIT_MEMLOCK` of the process that locked them, until dropped.
///
/// Holds the process's `mm_struct` but not its memory, so the process may end before.
pub struct LockedVm {
    mm: ARef<Mm>,
    npages: usize,
}

impl LockedVm {
    /// Charges `npages` to the current process.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the limit would be passed by a task without `CAP_IPC_LOCK`, and then only; for a
    /// log line call [`warn`]. `EINTR` if the task is being killed, `ESRCH` without a process. May
    /// sleep; takes `mmap_lock` for writing.
    pub fn charge(npages: usize) -> Result<Self> {
        // SAFETY: Looks at `current` only.
        let mm = NonNull::new(unsafe { bindings::vfio_rs_current_mm() }).ok_or(ESRCH)?;
        // SAFETY: `current` has this `mm`, so it is alive; the new reference keeps the struct.
        let mm = ARef::<Mm>::from(unsafe { Mm::from_raw(mm.as_ptr()) });
        if npages == 0 {
            return Ok(Self { mm, npages });
        }
        let bypass = sched::capable_ipc_lock();
        // SAFETY: `current` has this `mm`, so it is alive; the lock is held as the call demands;
        // the group leader of `current` lives as long as `current`.
        unsafe {
            to_result(bindings::vfio_rs_mmap_write_lock_killable(mm.as_raw()))?;
            let leader = bindings::vfio_rs_current_leader();
            let ret = bindings::__account_locked_vm(mm.as_raw(), npages, true, leader, bypass);
            bindings::vfio_rs_mmap_write_unlock(mm.as_raw());
            to_result(ret)?;
        }
        Ok(Self { mm, npages })
    }

    /// Charges the pages to the current process, and no longer to the one before.
    ///
    /// # Errors
    ///
    /// As [`charge`](Self::charge); then nothing has changed. May sleep.
    pub fn transfer(&mut self) -> Result {
        // SAFETY: Looks at `current` only.
        let current = unsafe { bindings::vfio_rs_current_mm() };
        if !core::ptr::eq(current, self.mm.as_raw()) {
            // The old value, dropped here, gives back.
            *self = Self::charge(self.npages)?;
        }
        Ok(())
    }
}

/// Logs that the current process could not be charged for `npages` more pages, unless it was logged
/// often just now.
pub fn warn(npages: usize) {
    // SAFETY: Looks at `current` only.
    unsafe { bindings::vfio_rs_warn_memlock(npages.saturating_mul(1 << PAGE_SHIFT)) }
}

impl Drop for LockedVm {
    fn drop(&mut self) {
        if self.npages == 0 {
            return;
        }
        let mm = self.mm.as_raw();
        // SAFETY: Looks at `current` only.
        let own = core::ptr::eq(mm, unsafe { bindings::vfio_rs_current_mm() });
        // The memory of the current process is alive; that of another one has to be kept so.
        let alive = if own { None } else { self.mm.mmget_not_zero() };
        if !own && alive.is_none() {
            // A process that is gone has no count to correct.
            return;
        }
        // SAFETY: `mm` is alive, see above. Giving back takes no killable lock,
        // as it may not fail; the task is only looked at for a debug message.
        unsafe {
            bindings::vfio_rs_mmap_write_lock(mm);
            bindings::__account_locked_vm(mm, self.npages, false, bindings::get_current(), true);
            bindings::vfio_rs_mmap_write_unlock(mm);
        }
        drop(alive);
    }
}
