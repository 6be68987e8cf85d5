// SPDX-License-Identifier: GPL-2.0

//! Locked memory that is to be given back to processes whose `mmap_lock` was taken.
//!
//! A process can keep that lock for as long as it likes, and memory is given back where others
//! wait: in the last close, by whoever has it, or when an administrator takes the device. So nobody
//! waits for the lock. What could not be given back is owed, and tried again by a kernel thread,
//! which does not wait for it either, and by the process itself, which does, with no lock held.
//!
//! Lock: `OWED`, inside all others; no lock is waited for with it.

use kernel::{
    list::{
        List,
        ListArc, //
    },
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc, //
    },
    time::msecs_to_jiffies,
    types::Opaque, //
};
use vfio_bindings as bindings;

use crate::{
    locked_vm::Tenant,
    worker::WorkQueue, //
};

kernel::sync::global_lock! {
    // SAFETY: Used while `STARTED` says so only, which is set after it was initialised.
    unsafe(uninit) static OWED: Mutex<Book> = Book { tenants: List::new(), retry: None };
}

struct Book {
    /// Those to whom something is owed.
    tenants: List<Tenant>,
    /// What tries them again, if somebody looks after them.
    retry: Option<Arc<Retry>>,
}

/// A work that tries all again.
#[pin_data]
struct Retry {
    queue: Arc<WorkQueue>,
    #[pin]
    work: Opaque<bindings::delayed_work>,
}

// SAFETY: `work` is only used by the workqueue, which locks it; the rest is `Send`.
unsafe impl Send for Retry {}
// SAFETY: As above; the rest is `Sync`.
unsafe impl Sync for Retry {}

/// Whether `OWED` is initialised and somebody looks after it.
static STARTED: Atomic<bool> = Atomic::new(false);
/// Whether it was ever initialised.
static USED: Atomic<bool> = Atomic::new(false);
/// Whether there may be something in it: a hint.
static PENDING: Atomic<bool> = Atomic::new(false);

/// Milliseconds until it is tried again.
const AGAIN_MS: c_uint = 20;

/// Looks after what is owed, until dropped; tries it for the last time then.
pub struct Owed(());

impl Owed {
    /// Begins. Once for each time that the module is loaded.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EBUSY` if it was called before.
    pub fn start() -> Result<Self> {
        let queue = WorkQueue::new(c"vfio_rs_owed")?;
        let retry = Arc::pin_init(
            pin_init!(Retry {
                queue,
                // SAFETY: `slot` is valid for writes, and the work is pinned.
                work <- Opaque::ffi_init(|slot| unsafe {
                    bindings::vfio_rs_init_delayed_work(slot, Some(again))
                }),
            }),
            GFP_KERNEL,
        )?;
        if USED.xchg(true, Relaxed) {
            return Err(EBUSY);
        }
        // SAFETY: Once, as `USED` was not set.
        unsafe { OWED.init() };
        OWED.lock().retry = Some(retry);
        STARTED.store(true, Release);
        Ok(Self(()))
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        STARTED.store(false, Release);
        let retry = OWED.lock().retry.take();
        if let Some(retry) = retry {
            // SAFETY: Initialised, and nobody is left who could ask for it; may sleep.
            unsafe { bindings::cancel_delayed_work_sync(retry.work.get()) };
        }
        let mut book = OWED.lock();
        book.try_all();
        // A process that kept its lock until now is not charged less.
        while let Some(tenant) = book.tenants.pop_front() {
            drop(tenant);
        }
    }
}

/// Notes that `npages` are owed to `tenant`. Returns whether somebody looks after it.
pub(crate) fn add(tenant: &Arc<Tenant>, npages: usize) -> bool {
    if !STARTED.load(Acquire) {
        return false;
    }
    let mut book = OWED.lock();
    tenant.owed.fetch_add(npages, Relaxed);
    if let Ok(entry) = ListArc::try_from_arc(tenant.clone()) {
        book.tenants.push_back(entry);
    }
    PENDING.store(true, Relaxed);
    book.try_later();
    true
}

/// Gives the current process what it is owed, and waits for its `mmap_lock`. No lock may be held.
/// If the task is being killed it is done later.
#[inline]
pub fn settle() {
    if PENDING.load(Relaxed) {
        settle_own();
    }
}

/// Whether something may be owed to somebody.
pub(crate) fn is_pending() -> bool {
    PENDING.load(Relaxed)
}

#[cold]
fn settle_own() {
    if !STARTED.load(Acquire) {
        return;
    }
    loop {
        let found = take(&mut OWED.lock().tenants, Tenant::is_current);
        let Some(tenant) = found else {
            return;
        };
        let tenant = tenant.into_arc();
        let npages = tenant.owed.xchg(0, Relaxed);
        if tenant.uncharge_killable(npages).is_err() {
            add(&tenant, npages);
            return;
        }
    }
}

/// Takes the first one out that `is` it.
fn take(list: &mut List<Tenant>, is: impl Fn(&Tenant) -> bool) -> Option<ListArc<Tenant>> {
    let mut cursor = list.cursor_front();
    while let Some(next) = cursor.peek_next() {
        if is(&next.arc()) {
            return Some(next.remove());
        }
        cursor.move_next();
    }
    None
}

impl Book {
    /// Tries all, and keeps those to whom something is owed still.
    fn try_all(&mut self) {
        let mut rest = List::new();
        while let Some(tenant) = self.tenants.pop_front() {
            let npages = tenant.owed.load(Relaxed);
            if tenant.try_uncharge(npages) {
                // Under the lock, so nothing was added.
                tenant.owed.store(0, Relaxed);
            } else {
                rest.push_back(tenant);
            }
        }
        PENDING.store(!rest.is_empty(), Relaxed);
        self.tenants = rest;
    }

    /// Has all be tried again, if there are any and somebody looks after them.
    fn try_later(&self) {
        let Some(retry) = self.retry.as_ref().filter(|_| !self.tenants.is_empty()) else {
            return;
        };
        // SAFETY: The queue is there, and the work initialised and pinned. Under the lock, with
        // which `Owed::drop` takes it before it waits for the work.
        unsafe {
            bindings::vfio_rs_work_after(
                retry.queue.as_ptr(),
                retry.work.get(),
                msecs_to_jiffies(AGAIN_MS),
            )
        }
    }
}

/// The function of the work.
extern "C" fn again(_: *mut bindings::work_struct) {
    let mut book = OWED.lock();
    book.try_all();
    book.try_later();
}
