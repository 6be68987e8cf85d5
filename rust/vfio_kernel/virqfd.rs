// SPDX-License-Identifier: GPL-2.0

//! Eventfds that the user signals and the kernel listens to; named after `drivers/vfio/virqfd.c`.
//!
//! A signal by a user's task runs a function right there, under the lock of the eventfd's wait
//! queue, and only what that cannot do goes to a [`Worker`]. A signal from an interrupt or a kernel
//! thread goes there always: the function may have a device interrupt again, at once, which may be
//! what signals the eventfd. Done in the interrupt, it would be all that the CPU does from then on.
//!
//! The owner of a [`Virqfd`] tears it down, and nobody else: when the user closes the eventfd
//! first, the hook leaves the queue and the rest stays until its owner drops it.
//!
//! The `kernel` crate has no eventfds, and no entry of a wait queue that calls a function; for why
//! not `kernel::workqueue` see [`worker`](crate::worker).

use kernel::{
    container_of,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc,
    },
    types::Opaque, //
};
use vfio_bindings as bindings;

use crate::{
    eventfd::{
        EventFd,
        EventFdFile, //
    },
    worker::{
        Asked,
        Job,
        Payer,
        Worker, //
    },
};

/// `EPOLLIN` and `EPOLLHUP`, `include/uapi/linux/eventpoll.h`.
const EPOLLIN: usize = 0x1;
const EPOLLHUP: usize = 0x10;

/// What a signal does.
pub trait OnSignal: Send + Sync + 'static {
    /// Called at signals by users' tasks, with interrupts off and the eventfd locked: must not
    /// sleep nor signal an eventfd. Says whether [`work`](Self::work) is to run.
    fn wake(&self) -> bool;

    /// Called after that by the [`Worker`], and at all other signals, once for several that come
    /// before it runs. May sleep.
    fn work(&self);
}

/// When a signal by a user's task takes effect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// At once, if that is possible.
    AtOnce,
    /// Later, as so many others hang on the same eventfd, and interrupts are off meanwhile.
    Later,
}

/// A function hooked to an eventfd. Dropping it unhooks it and waits for a running function, and
/// for one that was asked for; may sleep.
///
/// # Invariants
///
/// `wait` of the hook was put into the wait queue of its `eventfd`, and is taken out by this one's
/// drop; it is in no other. The hook is one of the jobs of its worker until then.
pub struct Virqfd<T: OnSignal>(Arc<Hook<T>>);

/// What is hooked.
///
/// # Invariants
///
/// `wait` is initialised, with the function [`wake`] of `T`, and pinned. It is in no queue, or in
/// that of `eventfd`, whose lock is held for each change of that. Who has it in the queue keeps the
/// hook.
#[pin_data]
struct Hook<T> {
    #[pin]
    wait: Opaque<bindings::wait_queue_entry>,
    asked: Asked,
    worker: Arc<Worker>,
    effect: Effect,
    eventfd: EventFd,
    /// The user closed the eventfd, and `wait` is in no queue.
    hung_up: Atomic<bool>,
    target: T,
}

// SAFETY: `wait` is only used under the lock of the queue (type invariant); the rest is `Send`.
unsafe impl<T: OnSignal> Send for Hook<T> {}
// SAFETY: As above; the rest is `Sync`.
unsafe impl<T: OnSignal> Sync for Hook<T> {}

impl<T: OnSignal> Virqfd<T> {
    /// Has `target` called at each signal of `eventfd`, and once now if a signal is there already,
    /// which then stays there for the user. `worker` does what cannot be done at once. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(
        eventfd: EventFdFile,
        worker: &Arc<Worker>,
        effect: Effect,
        target: T,
    ) -> Result<Self> {
        let EventFdFile { file, eventfd } = eventfd;
        let hook = Arc::pin_init(
            // INVARIANT: In no queue yet.
            pin_init!(Hook {
                // SAFETY: `slot` is valid for writes.
                wait <- Opaque::ffi_init(|slot| unsafe {
                    bindings::vfio_rs_init_wait_func(slot, Some(wake::<T>))
                }),
                asked: Asked::new(),
                worker: worker.clone(),
                effect,
                eventfd,
                hung_up: Atomic::new(false),
                target,
            }),
            GFP_KERNEL,
        )?;
        worker.add(hook.clone())?;
        // SAFETY: The file is that of an eventfd, so there is one queue, and it lives as long as
        // the context that `hook` holds. `wait` is initialised and pinned (invariant of `Hook`).
        // INVARIANT: `drop` takes it out, and has the hook until then.
        let events = unsafe { bindings::vfio_rs_hook_eventfd(file.as_ptr(), hook.wait.get()) };
        if events as usize & EPOLLIN != 0 {
            hook.signalled();
        }
        Ok(Self(hook))
    }

    /// Whether the user closed the eventfd, so that no signal will come.
    pub fn is_hung_up(&self) -> bool {
        self.0.hung_up.load(Acquire)
    }

    /// Whether it is `eventfd` that this listens to.
    pub fn listens_to(&self, eventfd: &EventFdFile) -> bool {
        core::ptr::eq(self.0.eventfd.as_ptr(), eventfd.eventfd.as_ptr())
    }

    /// Does what was asked for, or waits until it is done. May sleep.
    pub fn flush(&self) {
        self.0.worker.finish(&*self.0);
    }
}

impl<T: OnSignal> Hook<T> {
    fn signalled(&self) {
        let payer = match self.effect {
            Effect::AtOnce => Payer::current(),
            Effect::Later => Payer::Nobody,
        };
        if payer == Payer::Nobody || self.target.wake() {
            self.worker.ask(&self.asked, payer);
        }
    }
}

impl<T: OnSignal> Job for Hook<T> {
    fn asked(&self) -> &Asked {
        &self.asked
    }

    fn run(&self) {
        self.target.work();
    }
}

impl<T: OnSignal> Drop for Virqfd<T> {
    fn drop(&mut self) {
        let mut count = 0;
        // SAFETY: The context is referenced by the hook; `wait` is in its queue (type invariant),
        // or an empty list after a hang-up. Takes the queue's lock, so no `wake` runs when it
        // returns.
        unsafe {
            bindings::eventfd_ctx_remove_wait_queue(
                self.0.eventfd.as_ptr(),
                self.0.wait.get(),
                &mut count,
            )
        };
        // Nobody can ask again.
        self.0.worker.remove(&*self.0);
    }
}

/// The function in the wait queue.
///
/// # Safety
///
/// Called with the queue locked, with the `wait` of a [`Hook`] of `T` that is in the queue.
unsafe extern "C" fn wake<T: OnSignal>(
    wait: *mut bindings::wait_queue_entry,
    _mode: c_uint,
    _flags: c_int,
    key: *mut c_void,
) -> c_int {
    // SAFETY: By the contract of this function; by the invariant of `Hook` it is there as long as
    // the entry is in the queue, which is locked.
    let hook = unsafe { &*container_of!(Opaque::cast_from(wait), Hook<T>, wait) };
    let events = key as usize;
    if events & EPOLLIN != 0 {
        let mut count = 0;
        // SAFETY: The context is referenced by the hook, and its queue locked.
        unsafe { bindings::eventfd_ctx_do_read(hook.eventfd.as_ptr(), &mut count) };
        hook.signalled();
    }
    if events & EPOLLHUP != 0 {
        // SAFETY: `wait` is in the queue, which is locked, and the walk through it allows for that.
        unsafe { bindings::vfio_rs_unhook_locked(wait) };
        hook.hung_up.store(true, Release);
    }
    0
}
