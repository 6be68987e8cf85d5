// SPDX-License-Identifier: GPL-2.0

//! Work on behalf of users, `include/linux/workqueue.h`: in a queue of the module's own, by one
//! worker of the kernel at a time for each [`Worker`], and rationed where no user pays for it.
//!
//! A user who has the processor while asking pays, and cannot ask more often than they run. An
//! interrupt that asks, or a kernel thread, as the worker itself, runs on nobody's account, and
//! what it asks for may raise the next interrupt, and so on without end. Such jobs get so many
//! turns a second, and if there are more, each has to wait for its own.
//!
//! `kernel::workqueue` makes no queue of one's own, and cannot wait for a work that was queued, as
//! whoever drops a [`Worker`] or takes a job from it must.
//!
//! Lock: `Worker::jobs`, held while a job runs; no job may take what is held when one is added or
//! removed.

use core::ptr::NonNull;
use kernel::{
    container_of,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    types::Opaque, //
};
use vfio_bindings as bindings;

use crate::sched;

/// Turns per second of jobs that nobody pays for.
const UNPAID_PER_SECOND: u32 = 2000;

/// The same per tick of the kernel's clock.
const UNPAID_PER_TICK: u32 = match UNPAID_PER_SECOND / bindings::VFIO_RS_HZ {
    0 => 1,
    turns => turns,
};

/// After so many jobs the worker lets others have its place in the queue.
const PASS: u32 = 1024;

/// A workqueue, whose threads are bound to no CPU. Dropping it waits until it is empty.
///
/// # Invariants
///
/// The pointer is to a queue that belongs to this.
pub struct WorkQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: The queue has locks of its own.
unsafe impl Send for WorkQueue {}
// SAFETY: As above.
unsafe impl Sync for WorkQueue {}

impl WorkQueue {
    /// Makes a queue, shown as `name` in `/sys/bus/workqueue/devices`. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(name: &'static CStr) -> Result<Arc<Self>> {
        // SAFETY: The name is a string.
        let queue = unsafe { bindings::vfio_rs_alloc_workqueue(name.as_char_ptr()) };
        // INVARIANT: Made above.
        let queue = Self(NonNull::new(queue).ok_or(ENOMEM)?);
        Ok(Arc::new(queue, GFP_KERNEL)?)
    }

    /// Runs `f` once, some time. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn spawn(&self, f: impl FnOnce() + Send + 'static) -> Result {
        let mut once = KBox::new(
            Once {
                work: Opaque::zeroed(),
                f,
            },
            GFP_KERNEL,
        )?;
        // SAFETY: The work is in an allocation of its own, which `run_once` frees, and the queue is
        // there until it has run.
        unsafe {
            bindings::vfio_rs_init_work(once.work.get(), Some(run_once_of(&mut once)));
            bindings::queue_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int,
                self.as_ptr(),
                KBox::into_raw(once).cast(),
            );
        }
        Ok(())
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::workqueue_struct {
        self.0.as_ptr()
    }
}

/// Something to be run once.
#[repr(C)]
struct Once<F> {
    // First, so that a pointer to it is one to the whole.
    work: Opaque<bindings::work_struct>,
    f: F,
}

/// The function of the work of `once`.
fn run_once_of<F: FnOnce()>(
    _once: &mut Once<F>,
) -> unsafe extern "C" fn(*mut bindings::work_struct) {
    run_once::<F>
}

/// The function of a [`Once`].
///
/// # Safety
///
/// Called by the workqueue, once, with the `work` of a leaked `KBox<Once<F>>`.
unsafe extern "C" fn run_once<F: FnOnce()>(work: *mut bindings::work_struct) {
    // SAFETY: By the contract of this function; `work` is the first field. The workqueue does not
    // look at a work that has begun to run.
    let once = unsafe { KBox::from_raw(work.cast::<Once<F>>()) };
    let Once { f, .. } = KBox::into_inner(once);
    f();
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        // SAFETY: The queue is ours by the type invariant. Who has works in it has a reference
        // until they are done.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) }
    }
}

/// On whose account somebody runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payer {
    User,
    Nobody,
}

impl Payer {
    /// That of the caller. Any context.
    pub(crate) fn current() -> Self {
        // SAFETY: May be called in any context.
        match unsafe { bindings::vfio_rs_user_pays() } {
            true => Self::User,
            false => Self::Nobody,
        }
    }
}

/// What somebody may ask for.
pub(crate) trait Job: Send + Sync {
    /// Whether it was asked for.
    fn asked(&self) -> &Asked;

    /// Does it. May sleep.
    fn run(&self);
}

/// Whether a job was asked for, and on whose account.
pub(crate) struct Asked {
    by_user: Atomic<bool>,
    by_nobody: Atomic<bool>,
}

impl Asked {
    pub(crate) fn new() -> Self {
        Self {
            by_user: Atomic::new(false),
            by_nobody: Atomic::new(false),
        }
    }

    /// Whether it was; it is not any more.
    fn take(&self) -> bool {
        // Not the shortcut: both are to be taken.
        self.by_user.xchg(false, Full) | self.by_nobody.xchg(false, Full)
    }
}

/// Does the jobs of one owner, one after the other.
///
/// # Invariants
///
/// `work` is initialised, with the function [`work`], and pinned. It is in no queue but `queue`,
/// and is neither in it nor runs when this is gone.
#[pin_data(PinnedDrop)]
pub struct Worker {
    queue: Arc<WorkQueue>,
    #[pin]
    work: Opaque<bindings::delayed_work>,
    #[pin]
    jobs: Mutex<Jobs>,
}

// SAFETY: `work` is only used by the workqueue (type invariant), which locks it; the rest is
// `Send`.
unsafe impl Send for Worker {}
// SAFETY: As above; the rest is `Sync`.
unsafe impl Sync for Worker {}

struct Jobs {
    all: KVec<Arc<dyn Job>>,
    /// Where to look first, so that each has its turn.
    at: usize,
    ration: Ration,
}

/// Turns that are left to jobs that nobody pays for.
struct Ration {
    /// When it was given out.
    tick: usize,
    left: u32,
}

/// What there is to do.
enum Next {
    Run(Arc<dyn Job>),
    /// There are jobs, but no turns are left.
    Wait,
    Nothing,
}

impl Worker {
    /// Without jobs.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(queue: &Arc<WorkQueue>) -> Result<Arc<Self>> {
        let jobs = Jobs {
            all: KVec::new(),
            at: 0,
            ration: Ration { tick: 0, left: 0 },
        };
        Arc::pin_init(
            // INVARIANT: In no queue yet.
            pin_init!(Self {
                queue: queue.clone(),
                // SAFETY: `slot` is valid for writes, and the work is pinned.
                work <- Opaque::ffi_init(|slot| unsafe {
                    bindings::vfio_rs_init_delayed_work(slot, Some(work))
                }),
                jobs <- new_mutex!(jobs, "Worker::jobs"),
            }),
            GFP_KERNEL,
        )
    }

    /// Has `job` done whenever it is asked for. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn add(&self, job: Arc<dyn Job>) -> Result {
        Ok(self.jobs.lock().all.push(job, GFP_KERNEL)?)
    }

    /// Removes a job that nobody can ask for any more; if somebody did, it is done. May sleep.
    pub(crate) fn remove(&self, job: &dyn Job) {
        let mut jobs = self.jobs.lock();
        let at = jobs.all.iter().position(|one| is(&**one, job));
        let removed = at.and_then(|at| jobs.all.remove(at).ok());
        if job.asked().take() {
            job.run();
        }
        drop(jobs);
        drop(removed);
    }

    /// Does `job` if it was asked for, and waits for it if it runs. May sleep.
    pub(crate) fn finish(&self, job: &dyn Job) {
        let jobs = self.jobs.lock();
        if job.asked().take() {
            job.run();
        }
        drop(jobs);
    }

    /// Asks for the job that `asked` is of. Any context.
    pub(crate) fn ask(&self, asked: &Asked, payer: Payer) {
        let (flag, delay) = match payer {
            Payer::User => (&asked.by_user, Delay::None),
            Payer::Nobody => (&asked.by_nobody, Delay::AsBefore),
        };
        // Who finds it set has a worker to come that will see it.
        if !flag.xchg(true, Full) {
            self.wake(delay);
        }
    }

    fn wake(&self, delay: Delay) {
        let (queue, work) = (self.queue.0.as_ptr(), self.work.get());
        // SAFETY: The queue is there (type invariant of `WorkQueue`), the work is initialised and
        // pinned (type invariant).
        // INVARIANT: It is put into `queue`, and `drop` waits for it.
        unsafe {
            match delay {
                Delay::None => bindings::vfio_rs_work_now(queue, work),
                Delay::AsBefore => bindings::vfio_rs_work_after(queue, work, 0),
                Delay::Tick => bindings::vfio_rs_work_after(queue, work, 1),
            }
        }
    }

    fn work(&self) {
        for _ in 0..PASS {
            let mut jobs = self.jobs.lock();
            match jobs.next() {
                Next::Run(job) => {
                    job.run();
                    // Not the last reference, as the list has one.
                    drop(job);
                    drop(jobs);
                }
                Next::Wait => return self.wake(Delay::Tick),
                Next::Nothing => return,
            }
            sched::cond_resched();
        }
        self.wake(Delay::None);
    }
}

/// When the worker is to run.
enum Delay {
    /// At once.
    None,
    /// At once, unless it is about to run anyway, maybe later.
    AsBefore,
    /// At the next tick, unless it is about to run anyway.
    Tick,
}

impl Jobs {
    fn next(&mut self) -> Next {
        let mut next = Next::Nothing;
        for _ in 0..self.all.len() {
            let at = if self.at < self.all.len() { self.at } else { 0 };
            self.at = at + 1;
            let Some(job) = self.all.get(at) else {
                break;
            };
            let asked = job.asked();
            if !asked.by_user.load(Relaxed) {
                if !asked.by_nobody.load(Relaxed) {
                    continue;
                }
                if !self.ration.take() {
                    next = Next::Wait;
                    continue;
                }
            }
            if asked.take() {
                return Next::Run(job.clone());
            }
        }
        next
    }
}

impl Ration {
    /// Takes a turn, if one is left.
    fn take(&mut self) -> bool {
        // SAFETY: No preconditions.
        let tick = unsafe { bindings::vfio_rs_jiffies() };
        if tick != self.tick {
            self.tick = tick;
            self.left = UNPAID_PER_TICK;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// Whether two are one.
fn is(one: &dyn Job, other: &dyn Job) -> bool {
    core::ptr::eq(one.asked(), other.asked())
}

#[pinned_drop]
impl PinnedDrop for Worker {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The work is initialised (type invariant).
        // INVARIANT: It is nowhere when this returns, and nobody is left who could ask for it.
        unsafe { bindings::cancel_delayed_work_sync(self.work.get()) };
    }
}

/// The function of the work.
///
/// # Safety
///
/// Called by the workqueue, with the `work` of the `delayed_work` of a [`Worker`].
unsafe extern "C" fn work(work: *mut bindings::work_struct) {
    // SAFETY: By the contract of this function; a worker whose work runs is there (type invariant).
    let worker = unsafe {
        let work = container_of!(work, bindings::delayed_work, work);
        &*container_of!(Opaque::cast_from(work), Worker, work)
    };
    worker.work();
}
