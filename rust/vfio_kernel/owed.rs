// SPDX-License-Identifier: GPL-2.0

//! Locked memory that is to be given back to processes whose `mmap_lock` was taken.
//!
//! A process can keep that lock for as long as it likes, and memory is given back where others wait: in
//! the last close, by whoever has it, or when an administrator takes the device. So nobody waits for the
//! lock. What could not be given back is owed, and tried again by a kernel thread, which does not wait for it
//! either, and by the process itself, which does, with no lock held.
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
};
use vfio_bindings as bindings;

use crate::locked_vm::Tenant;

kernel::sync::global_lock! {
    // SAFETY: Used while `STARTED` says so only, which is set after it was initialised.
    unsafe(uninit) static OWED: Mutex<List<Tenant>> = List::new();
}

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
    /// `EBUSY` if it was called before.
    pub fn start() -> Result<Self> {
        if USED.xchg(true, Relaxed) {
            return Err(EBUSY);
        }
        // SAFETY: Once, as `USED` was not set.
        unsafe { OWED.init() };
        STARTED.store(true, Release);
        Ok(Self(()))
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        STARTED.store(false, Release);
        // SAFETY: May sleep. `again` is not running when it returns, nor will be.
        unsafe { bindings::vfio_rs_retry_stop() };
        let mut list = OWED.lock();
        try_all(&mut list);
        // Who kept his lock until now is not charged less.
        while let Some(tenant) = list.pop_front() {
            drop(tenant);
        }
    }
}

/// Notes that `npages` are owed to `tenant`. Returns whether somebody looks after it.
pub(crate) fn add(tenant: &Arc<Tenant>, npages: usize) -> bool {
    if !STARTED.load(Acquire) {
        return false;
    }
    let mut list = OWED.lock();
    tenant.owed.fetch_add(npages, Relaxed);
    if let Ok(entry) = ListArc::try_from_arc(tenant.clone()) {
        list.push_back(entry);
    }
    PENDING.store(true, Relaxed);
    drop(list);
    again_later();
    true
}

/// Gives the current process what it is owed, and waits for its `mmap_lock`. No lock may be held. If the
/// task is being killed it is done later.
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
        let mut list = OWED.lock();
        let found = take(&mut list, Tenant::is_current);
        drop(list);
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

/// Tries all, and keeps those to whom something is owed still.
fn try_all(list: &mut List<Tenant>) {
    let mut rest = List::new();
    while let Some(tenant) = list.pop_front() {
        let npages = tenant.owed.load(Relaxed);
        if tenant.try_uncharge(npages) {
            // Under the lock, so nothing was added.
            tenant.owed.store(0, Relaxed);
        } else {
            rest.push_back(tenant);
        }
    }
    PENDING.store(!rest.is_empty(), Relaxed);
    *list = rest;
}

fn again_later() {
    // SAFETY: The function stays until `Owed::drop` has waited for it.
    unsafe { bindings::vfio_rs_retry_after(Some(again), AGAIN_MS) }
}

/// Called by a kernel thread.
extern "C" fn again() {
    let mut list = OWED.lock();
    try_all(&mut list);
    let more = !list.is_empty();
    drop(list);
    if more {
        again_later();
    }
}
