// SPDX-License-Identifier: GPL-2.0

//! Accounting of locked memory, `__account_locked_vm()` of `mm/util.c`.
//!
//! [`Tenant`] is whose memory it is and where, [`LockedVm`] how much of it. A tenant is counted by
//! each of its mappings, so that these need no more than one pointer for both. Giving back waits
//! for nobody: see `owed.rs`.

use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    list::{
        impl_list_arc_safe,
        impl_list_item,
        AtomicTracker,
        ListLinks,
        TryNewListArc, //
    },
    mm::{
        Mm,
        MmWithUser, //
    },
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::Atomic,
        Arc, //
    },
};
use vfio_bindings as bindings;

use crate::{
    iommu::IoSpace,
    owed, //
};

/// A process that has memory in an I/O address space, and pays for it.
///
/// Holds the process's `mm_struct` but not its memory, so the process may end before.
#[pin_data]
pub struct Tenant {
    pub(crate) space: Arc<IoSpace>,
    mm: ARef<Mm>,
    /// Pages that are to be given back to it.
    pub(crate) owed: Atomic<usize>,
    #[pin]
    links: ListLinks,
    #[pin]
    listed: AtomicTracker,
}

impl_list_arc_safe! {
    impl ListArcSafe<0> for Tenant { tracked_by listed: AtomicTracker; }
}

impl_list_item! {
    impl ListItem<0> for Tenant { using ListLinks { self.links }; }
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
        Arc::pin_init(
            pin_init!(Self {
                space,
                mm,
                owed: Atomic::new(0),
                links <- ListLinks::new(),
                listed <- AtomicTracker::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether it is the current process.
    #[inline]
    pub fn is_current(&self) -> bool {
        // SAFETY: Looks at `current` only.
        core::ptr::eq(self.mm.as_raw(), unsafe { bindings::vfio_rs_current_mm() })
    }

    /// Charges `npages` to it, if it is the current process.
    #[inline(always)]
    fn charge(&self, npages: usize) -> Result {
        if !self.is_current() {
            return Err(ESRCH);
        }
        // SAFETY: `current` has this `mm`, so it is alive.
        match unsafe { bindings::vfio_rs_account_locked_vm(self.mm.as_raw(), npages) } {
            0 => Ok(()),
            errno => Err(Error::from_errno(errno)),
        }
    }

    /// Charges once more after `err`: it may be that something is owed to it.
    #[cold]
    fn charge_again(&self, npages: usize, err: Error) -> Result {
        if err != ENOMEM || !owed::is_pending() {
            return Err(err);
        }
        owed::settle();
        self.charge(npages)
    }

    /// Gives back what `npages` pages were charged, now or, if the process's `mmap_lock` is taken,
    /// soon.
    #[inline]
    pub(crate) fn uncharge(self: &Arc<Self>, npages: usize) {
        if !self.try_uncharge(npages) && !owed::add(self, npages) {
            // SAFETY: Of the current process, or one that is kept alive.
            self.with_mm(|mm| unsafe { bindings::vfio_rs_unaccount_locked_vm(mm, npages) });
        }
    }

    /// Gives back what `npages` pages were charged, unless the process's `mmap_lock` is taken.
    #[inline]
    pub(crate) fn try_uncharge(&self, npages: usize) -> bool {
        // SAFETY: Of the current process, or one that is kept alive.
        self.with_mm(|mm| unsafe { bindings::vfio_rs_try_unaccount_locked_vm(mm, npages) })
            .unwrap_or(true)
    }

    /// Gives back what `npages` pages were charged; waits for the process's `mmap_lock`.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is being killed.
    pub(crate) fn uncharge_killable(&self, npages: usize) -> Result {
        // SAFETY: Of the current process, or one that is kept alive.
        let done = self
            .with_mm(|mm| unsafe { bindings::vfio_rs_unaccount_locked_vm_killable(mm, npages) });
        to_result(done.unwrap_or(0))
    }

    /// Calls `f` with the process's `mm_struct`, which is alive; `None` if it is not, and has no
    /// count to correct.
    #[inline]
    fn with_mm<T>(&self, f: impl FnOnce(*mut bindings::mm_struct) -> T) -> Option<T> {
        let mm = self.mm.as_raw();
        // The memory of the current process is alive; that of another one has to be kept so.
        if self.is_current() {
            return Some(f(mm));
        }
        // Maybe it ends here, which takes long.
        let alive = MmWithUser::into_mmput_async(self.mm.mmget_not_zero()?);
        let done = f(mm);
        drop(alive);
        Some(done)
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
    /// `ENOMEM` if the limit would be passed by a task without `CAP_IPC_LOCK`, or there are not so
    /// many addresses; for a log line call [`warn`]. `EINTR` if the task is being killed, `ESRCH`
    /// for another process. May sleep; takes `mmap_lock` for writing.
    #[inline(always)]
    pub fn charge(tenant: Arc<Tenant>, npages: usize) -> Result<Self> {
        // More would not count right.
        if npages > usize::MAX >> PAGE_SHIFT {
            return Err(ENOMEM);
        }
        if let Err(err) = tenant.charge(npages) {
            tenant.charge_again(npages, err)?;
        }
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

    /// Adds what `other` pays for, if it is the same tenant's.
    pub fn join(&mut self, other: Self) {
        if Arc::ptr_eq(&self.tenant, &other.tenant) {
            self.npages = self.npages.saturating_add(other.npages);
            drop(other.into_tenant());
        }
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
