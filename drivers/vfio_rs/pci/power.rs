// SPDX-License-Identifier: GPL-2.0

//! Power states of an open device, and what they mean for its memory.
//!
//! A device in D3hot answers no memory access. One without No_Soft_Reset in its Power Management
//! capability also forgets its configuration when it leaves D3hot, so that is saved on the way in
//! and restored on the way out; but for the command register, which its user may have written.
//!
//! Lock: `Open::memory`, held for writing by whoever changes the state.

use core::ops::{
    Deref,
    DerefMut, //
};
use kernel::{
    prelude::*,
    sync::atomic::Relaxed, //
};
use vfio_kernel::{
    eventfd::EventFd,
    log,
    pci::{
        Awake,
        MaySleep,
        SavedState, //
    },
    rwsem::WriteGuard,
};

use super::{
    open::COMMAND,
    Open, //
};

/// Whether and how the device's memory may be used.
pub(super) struct MemoryState {
    /// The user has memory accesses enabled.
    pub(super) enabled: bool,
    /// What a device that forgets it had configured before it went to D3hot.
    forgotten: Option<SavedState>,
    /// The user lets the device sleep: there are no maps of its memory.
    pub(super) low_power: Option<LowPower>,
    /// The device is kept from DMA, and there are no maps of its memory.
    pub(super) no_dma: bool,
}

/// A device that its user lets sleep.
pub(super) struct LowPower {
    /// Told when the device wakes up, which then stays awake.
    wakeup: Option<EventFd>,
    _may_sleep: MaySleep,
}

impl MemoryState {
    pub(super) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            forgotten: None,
            low_power: None,
            no_dma: false,
        }
    }

    /// The user does not let the device sleep any more; it is awake.
    pub(super) fn stay_awake(&mut self, open: &Open) {
        self.low_power = None;
        open.may_sleep.store(false, Relaxed);
    }
}

/// An access that finds the device awake: kept so, or as its user does not let it sleep.
pub(crate) struct AwakeAccess(Option<Awake>);

impl AwakeAccess {
    /// For all that is done as long as it lives.
    pub(super) fn kept(awake: Awake) -> Self {
        Self(Some(awake))
    }

    /// Whether it is for all that is done as long as this lives.
    pub(super) fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Whether that is still so.
    #[inline(always)]
    pub(super) fn holds(&self, memory: &MemoryState) -> bool {
        self.0.is_some() || memory.low_power.is_none()
    }
}

/// [`Open::memory`], held for writing.
pub(super) struct MemoryGuard<'a> {
    open: &'a Open,
    memory: WriteGuard<'a, MemoryState>,
}

impl Deref for MemoryGuard<'_> {
    type Target = MemoryState;

    fn deref(&self) -> &MemoryState {
        &self.memory
    }
}

impl DerefMut for MemoryGuard<'_> {
    fn deref_mut(&mut self) -> &mut MemoryState {
        &mut self.memory
    }
}

impl Drop for MemoryGuard<'_> {
    fn drop(&mut self) {
        if self.open.gate.is_shut() {
            // The device is being reset, and this one has to wait: who resets it comes here again.
            return;
        }
        let answers = self.open.maps(&self.memory);
        self.open.device.bar_dma().decide(answers);
    }
}

impl Open {
    /// Takes [`memory`](Self::memory) to change it; not while the device is being reset. If the
    /// device answers in the end, its BARs are mapped again for other devices' DMA.
    pub(super) fn write_memory(&self) -> MemoryGuard<'_> {
        self.settled(|| self.lock_memory())
    }

    /// As [`write_memory`](Self::write_memory), also while the device is being reset.
    pub(super) fn lock_memory(&self) -> MemoryGuard<'_> {
        MemoryGuard {
            open: self,
            memory: self.memory.write(),
        }
    }

    /// Whether memory accesses are answered: the user enabled them, and the device is awake. The
    /// caller took the lock when the gate was open, or looks at it as well.
    pub(super) fn answers(&self, memory: &MemoryState) -> bool {
        memory.enabled && !self.pci().is_asleep()
    }

    /// Whether maps may be made and filled in: nothing wakes the device up for an access to those.
    pub(super) fn maps(&self, memory: &MemoryState) -> bool {
        memory.low_power.is_none() && !memory.no_dma && self.answers(memory)
    }

    /// Keeps the device from DMA until it is closed, whatever its user writes.
    pub(super) fn stop_dma(&self) {
        let mut memory = self.write_memory();
        memory.no_dma = true;
        self.zap_bars();
        self.pci().clear_master();
    }

    /// Keeps the device awake for an access.
    ///
    /// # Errors
    ///
    /// `EIO` if it does not wake up.
    #[inline(never)]
    pub(crate) fn awake(&self) -> Result<Awake> {
        // ERRNO: EIO whatever the reason, as vfio_device_pm_runtime_get() and vfio_pci_rw().
        self.pci().awake().map_err(|err| {
            if log::may_log(log::Subject::Devices) {
                dev_info!(
                    self.pci().device(),
                    "runtime resume failed {}\n",
                    err.to_errno()
                );
            }
            EIO
        })
    }

    /// As [`awake`](Self::awake), but for nothing where the user does not let the device sleep.
    /// They may from then on, so the access has to ask [`AwakeAccess::holds`] with `memory` locked.
    /// If it does not, the access is one that begins just now, and wakes the device up; so this is
    /// for those that are one access to the device, or one piece of a write to the configuration
    /// space. Any other keeps it awake from its first to its last.
    ///
    /// # Errors
    ///
    /// `EIO` if it does not wake up.
    #[inline(always)]
    pub(crate) fn access(&self) -> Result<AwakeAccess> {
        let awake = match self.may_sleep.load(Relaxed) {
            true => Some(self.awake()?),
            false => None,
        };
        Ok(AwakeAccess(awake))
    }

    /// Lets the device sleep when the ioctl in progress is over, until it is used; with `wakeup`,
    /// which is then signalled, until it is used or wakes up for another reason.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it may sleep already.
    pub(crate) fn enter_low_power(&self, wakeup: Option<EventFd>) -> Result {
        let mut memory = self.write_memory();
        self.zap_bars();
        if memory.low_power.is_some() {
            return Err(EINVAL);
        }
        self.may_sleep.store(true, Relaxed);
        memory.low_power = Some(LowPower {
            wakeup,
            _may_sleep: self.pci().let_sleep(),
        });
        Ok(())
    }

    /// Undoes [`enter_low_power`](Self::enter_low_power), if it was called.
    pub(crate) fn leave_low_power(&self) {
        self.write_memory().stay_awake(self);
    }

    /// Prepares the device for its sleep.
    pub(super) fn suspend(&self) {
        // The PCI core restores what it finds, which must be a device that is awake.
        let _ = self.set_power_state(&mut self.write_memory(), 0);
        self.pin.suspend();
    }

    /// Makes the device usable after its sleep.
    pub(super) fn resume(&self) {
        let mut memory = self.write_memory();
        let wakeup = memory
            .low_power
            .as_ref()
            .and_then(|low| low.wakeup.as_ref());
        if let Some(wakeup) = wakeup {
            wakeup.signal();
            memory.stay_awake(self);
        }
        drop(memory);
        self.pin.resume();
    }

    /// Goes to the power state D0 (0) to D3hot (3). Before D3hot the caller revokes all maps.
    ///
    /// # Errors
    ///
    /// `EBUSY` if virtual functions of the device are on, which must not sleep; what the PCI core
    /// says. Then the device is where it was.
    pub(super) fn set_power_state(&self, memory: &mut MemoryState, state: i32) -> Result {
        const D3HOT: i32 = 3;

        if state > 0 && self.device.function().holds_vfs() {
            return Err(EBUSY);
        }
        let _pin = self.pin.hold();
        let pci = self.pci();
        let forgets = self.device.forgets_in_d3();
        let asleep = pci.is_asleep();
        let command = pci.read_config_word(COMMAND);
        if forgets && !asleep && state >= D3HOT {
            pci.save_state();
        }
        pci.set_power_state(state)?;
        // Some devices cannot sleep, and stay awake without an error.
        if forgets && !asleep && pci.is_asleep() {
            memory.forgotten = pci.store_saved_state();
        } else if forgets && asleep && state <= 0 {
            if let Some(saved) = memory.forgotten.take() {
                if pci.load_saved_state(&saved).is_ok() {
                    pci.restore_state();
                    // All ones if the device did not answer.
                    if command != u16::MAX {
                        pci.write_config_word(COMMAND, command);
                    }
                }
            }
        }
        Ok(())
    }
}
