// SPDX-License-Identifier: GPL-2.0

//! Accounting of locked memory, `__account_locked_vm()` of `mm/util.c`.
//!
//! [`Tenant`] is whose memory it is and where, [`LockedVm`] how much of it. A tenant is counted by
//! each of its mappings, so that these need no more than one pointer for both.

use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    mm::Mm,
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
};
use vfio_bindings as bindings;

use crate::iommu::IoSpace;

/// A process that has memory in an I/O address space, and pays for it.
///
/// Holds the process's `mm_struct` but not its memory, so the process may end before.
pub struct Tenant {
    pub(crate) space: Arc<IoSpace>,
    mm: ARef<Mm>,
}

impl Tenant {
    /// The current process, in `space`.
    ///
    /// # Errors
    ///
    /// `ESRCH` without a process, `ENOMEM`. May sleep.
    pub fn current(space: &Arc<IoSpace>) -> Result<Arc<Self>> {
        // SAFETY: Looks at `current` only.
        let mm = NonNull::new(unsafe { bindings::vfio_rs_current_mm() }).ok_or(ESRCH)?;
        // SAFETY: `current` has this `mm`, so it is alive; the new reference keeps the struct.
        let mm = ARef::<Mm>::from(unsafe { Mm::from_raw(mm.as_ptr()) });
        let space = space.clone();
        Ok(Arc::new(Self { space, mm }, GFP_KERNEL)?)
    }

    /// Whether it is the current process.
    #[inline]
    pub fn is_current(&self) -> bool {
        // SAFETY: Looks at `current` only.
        core::ptr::eq(self.mm.as_raw(), unsafe { bindings::vfio_rs_current_mm() })
    }

    /// Gives back what `npages` pages were charged. May sleep; takes `mmap_lock` for writing.
    pub(crate) fn uncharge(&self, npages: usize) {
        let mm = self.mm.as_raw();
        // The memory of the current process is alive; that of another one has to be kept so.
        let own = self.is_current();
        let alive = if own { None } else { self.mm.mmget_not_zero() };
        if !own && alive.is_none() {
            // A process that is gone has no count to correct.
            return;
        }
        // SAFETY: `mm` is alive, see above. Giving back takes no killable lock, as it may not fail.
        unsafe { bindings::vfio_rs_unaccount_locked_vm(mm, npages) };
        drop(alive);
    }
}

/// Pages that count against `RLIMIT_MEMLOCK` of the process that locked them, until dropped.
pub struct LockedVm {
    tenant: Arc<Tenant>,
    npages: usize,
}

impl LockedVm {
    /// Charges `npages` to `tenant`, the current process.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the limit would be passed by a task without `CAP_IPC_LOCK`, and then only; for a
    /// log line call [`warn`]. `EINTR` if the task is being killed, `ESRCH` for another process. May
    /// sleep; takes `mmap_lock` for writing.
    #[inline]
    pub fn charge(tenant: Arc<Tenant>, npages: usize) -> Result<Self> {
        if !tenant.is_current() {
            return Err(ESRCH);
        }
        // SAFETY: `current` has this `mm`, so it is alive.
        to_result(unsafe { bindings::vfio_rs_account_locked_vm(tenant.mm.as_raw(), npages) })?;
        Ok(Self { tenant, npages })
    }

    /// How many pages these are.
    #[inline]
    pub fn npages(&self) -> usize {
        self.npages
    }

    /// Makes a part of it one of its own.
    ///
    /// # Errors
    ///
    /// `EFAULT` if there are fewer than `npages`.
    pub fn split(&mut self, npages: usize) -> Result<Self> {
        self.npages = self.npages.checked_sub(npages).ok_or(EFAULT)?;
        Ok(Self {
            tenant: self.tenant.clone(),
            npages,
        })
    }

    /// Whose memory it is, and where.
    #[inline]
    pub(crate) fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }

    /// The tenant, which the caller has give back what was charged.
    #[inline]
    pub(crate) fn into_tenant(self) -> Arc<Tenant> {
        let this = ManuallyDrop::new(self);
        // SAFETY: Read once, as `this` is not dropped.
        unsafe { core::ptr::read(&this.tenant) }
    }

    /// The inverse of [`into_tenant`](Self::into_tenant).
    #[inline]
    pub(crate) fn from_tenant(tenant: Arc<Tenant>, npages: usize) -> Self {
        Self { tenant, npages }
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
        if self.npages != 0 {
            self.tenant.uncharge(self.npages);
        }
    }
}
