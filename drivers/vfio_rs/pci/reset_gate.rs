// SPDX-License-Identifier: GPL-2.0

//! What resets a device may be in the middle of, and how its users are kept off it meanwhile.
//!
//! Anybody may reset a device: its user, the driver, an administrator by sysfs, another driver by
//! the bridge above. The PCI core tells of all of them by `reset_prepare` and `reset_done`, with
//! the device's lock held and, mostly, with configuration accesses blocked. Between the two the
//! device answers nothing, and the PCI core writes back what it saved, messages of MSIs among it.
//! So from before the first to after the second the device's *gate* is shut: accesses to BARs and
//! the configuration, page faults and changes of interrupts wait for it, and hold nothing that
//! those two take. A write of an eventfd to a BAR is lost, as in a reset of real hardware.
//!
//! No lock is held from the first to the second, as a reset of a bus prepares all devices on it
//! before it is done with any. Whoever resets a device on behalf of its user holds its locks, so
//! the two do nothing in such a thread. Switching a device on or off is one piece, too, for which a
//! reset from outside waits.
//!
//! Locks: `Resets::phase`, a leaf.

use kernel::{
    new_condvar, new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        CondVar,
        Mutex, //
    },
};
use vfio_kernel::{
    gate::Gate,
    pci::Awake,
    rwsem::ReadGuard,
    sched, //
};

use super::{
    power::MemoryState,
    Device,
    Open, //
};

/// See the module's documentation.
#[pin_data]
pub(super) struct Resets {
    #[pin]
    phase: Mutex<Phase>,
    #[pin]
    changed: CondVar,
    gate: Arc<Gate>,
    /// The thread that has the PCI core reset the device while it holds our locks; 0 for none.
    own: Atomic<i32>,
}

/// Who has the device as a whole.
enum Phase {
    /// Nobody.
    Free,
    /// We: it is being switched on or off, or reset together with others.
    Ours,
    /// Who resets it from outside; it is kept awake.
    Theirs { _awake: Option<Awake> },
}

impl Resets {
    pub(super) fn new() -> Result<impl PinInit<Self>> {
        let gate = Gate::new()?;
        Ok(pin_init!(Self {
            phase <- new_mutex!(Phase::Free, "Resets::phase"),
            changed <- new_condvar!("Resets::changed"),
            gate,
            own: Atomic::new(0),
        }))
    }

    /// Shut while the device is being reset and its memory is not locked.
    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Takes the device to switch it on, or to reset it with others.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if it is being reset from outside.
    pub(super) fn try_claim(&self) -> Result<Claim<'_>> {
        let mut phase = self.phase.lock();
        match *phase {
            Phase::Free => *phase = Phase::Ours,
            Phase::Ours | Phase::Theirs { .. } => return Err(EAGAIN),
        }
        Ok(Claim(self))
    }

    /// Takes the device to switch it off. Waits for a reset from outside, which waits for nothing
    /// that a user could withhold.
    pub(super) fn claim(&self) -> Claim<'_> {
        self.enter(Phase::Ours);
        Claim(self)
    }

    fn enter(&self, new: Phase) {
        let mut phase = self.phase.lock();
        while !matches!(*phase, Phase::Free) {
            self.changed.wait(&mut phase);
        }
        *phase = new;
    }

    /// Returns the phase that is over.
    fn leave(&self) -> Phase {
        let old = core::mem::replace(&mut *self.phase.lock(), Phase::Free);
        self.changed.notify_all();
        old
    }

    /// Notes that this thread resets the device with locks of ours held. One does at a time: it
    /// has a [`Claim`], or `Open::memory` of a device that is open.
    pub(super) fn by_ourselves(&self) -> OwnReset<'_> {
        self.own.store(sched::current_pid(), Relaxed);
        OwnReset(self)
    }

    fn is_own(&self) -> bool {
        // Equal only if this very thread stored it.
        self.own.load(Relaxed) == sched::current_pid()
    }
}

/// Keeps resets from outside waiting.
pub(super) struct Claim<'a>(&'a Resets);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let _ours = self.0.leave();
    }
}

/// A reset that this thread makes; the PCI core's calls in it do nothing.
pub(super) struct OwnReset<'a>(&'a Resets);

impl Drop for OwnReset<'_> {
    fn drop(&mut self) {
        self.0.own.store(0, Relaxed);
    }
}

impl Device {
    /// `reset_prepare` of the PCI core, with the device's lock held.
    pub(super) fn begin_reset(&self) {
        let resets = self.resets();
        if resets.is_own() {
            return;
        }
        resets.enter(Phase::Theirs { _awake: None });
        // A sleeping device takes no part in a reset. Before the gate is shut, as it may call us.
        let awake = self.pci().awake().ok();
        *resets.phase.lock() = Phase::Theirs { _awake: awake };
        match self.current() {
            Some(open) => open.begin_quiet(),
            None => resets.gate.shut(),
        }
    }

    /// `reset_done` of the PCI core.
    pub(super) fn end_reset(&self) {
        let resets = self.resets();
        if resets.is_own() {
            return;
        }
        // As in `begin_reset`: nobody opens or closes the device meanwhile.
        match self.current() {
            Some(open) => open.end_quiet(),
            None => resets.gate.open(),
        }
        let _theirs = resets.leave();
    }
}

/// A device that nobody touches.
pub(super) struct Quiet<'a>(&'a Open);

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        self.0.end_quiet();
    }
}

impl Open {
    /// Keeps everybody off the device, which the caller has a [`Claim`] of. Waits for accesses that
    /// are under way, each of which is short and waits for no user.
    pub(super) fn quiet(&self) -> Quiet<'_> {
        self.begin_quiet();
        Quiet(self)
    }

    fn begin_quiet(&self) {
        self.gate.shut();
        // Who got the lock before this saw an open gate and leaves; who gets it later sees it shut.
        let mut memory = self.memory.write();
        self.zap_bars();
        self.pin.begin_hold();
        // A reset wakes it up without restoring what it forgot.
        let _ = self.set_power_state(&mut memory, 0);
    }

    fn end_quiet(&self) {
        let memory = self.lock_memory();
        self.gate.open();
        // Restores the maps for other devices, as the device answers again.
        drop(memory);
        self.pin.end_hold();
    }

    /// Takes a lock by `lock`, and not while the device is being reset.
    #[inline]
    pub(super) fn settled<G>(&self, lock: impl Fn() -> G) -> G {
        loop {
            let guard = lock();
            if !self.gate.is_shut() {
                return guard;
            }
            drop(guard);
            self.gate.wait();
        }
    }

    /// As [`settled`](Self::settled).
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is killed while it waits for a reset.
    #[inline]
    pub(super) fn settled_killable<G>(&self, lock: impl Fn() -> G) -> Result<G> {
        loop {
            let guard = lock();
            if !self.gate.is_shut() {
                return Ok(guard);
            }
            drop(guard);
            self.gate.wait_killable()?;
        }
    }

    /// Takes [`memory`](Self::memory) to use it; not while the device is being reset.
    pub(super) fn read_memory(&self) -> ReadGuard<'_, MemoryState> {
        self.settled(|| self.memory.read())
    }
}
