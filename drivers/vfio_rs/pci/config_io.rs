// SPDX-License-Identifier: GPL-2.0

//! A user's reads and writes of the configuration space, on the real device.
//!
//! The PCI core blocks users' accesses for as long as whoever resets the device has its lock, and
//! for shorter works. That is waited for with no lock held, as a reset waits for accesses that are
//! under way: see `reset_gate.rs`.
//!
//! Locks: `Open::config`, then `Open::memory`.

use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        MutexGuard, //
    },
    uaccess::{
        UserSliceReader,
        UserSliceWriter, //
    },
};
use vfio_kernel::{
    log,
    pci::{
        ConfigWidth,
        IntxPin, //
    },
};

use super::{
    config::{
        ConfigSpace,
        Effects,
        Hardware,
        PowerState,
        Vpd,
        Width, //
    },
    open::{
        COMMAND,
        COMMAND_MASTER, //
    },
    power::{
        MemoryGuard,
        MemoryState, //
    },
    Device,
    Open, //
};

/// The device's own configuration space.
pub(super) struct RealConfig<'a> {
    pub(super) device: &'a Device,
    /// The interrupt pin, once it is known how it is masked: nothing is written before.
    pub(super) pin: Option<&'a IntxPin>,
    /// The device is kept from being a bus master, as [`MemoryState`] says.
    pub(super) no_dma: bool,
}

impl From<Width> for ConfigWidth {
    fn from(width: Width) -> Self {
        match width {
            Width::Byte => Self::Byte,
            Width::Word => Self::Word,
            Width::Dword => Self::Dword,
        }
    }
}

impl Hardware for RealConfig<'_> {
    fn read(&self, offset: u16, width: Width) -> Result<u32> {
        self.device.pci().read_config(offset, width.into())
    }

    fn write(&self, offset: u16, width: Width, value: u32) -> Result {
        let pci = self.device.pci();
        match (offset & !1, self.pin) {
            (COMMAND, Some(pin)) => {
                let kept = match self.no_dma && offset == COMMAND {
                    true => value & !u32::from(COMMAND_MASTER),
                    false => value,
                };
                pin.write_command(offset, width.into(), kept)
            }
            _ => pci.write_config(offset, width.into(), value),
        }
    }

    fn revoke(&self) {
        self.device.zap_bars();
    }
}

type ConfigGuard<'a> = MutexGuard<'a, ConfigSpace>;

/// Accesses up to this size, which is nearly all, need no allocation.
const SMALL: usize = 8;

impl Open {
    /// Reads `offset` bytes into the configuration space; all that is asked for or nothing.
    ///
    /// # Errors
    ///
    /// `EFAULT` beyond the end or if the user's memory is not there; `EIO` if the device does not
    /// wake up; `EINTR`.
    #[inline]
    pub(super) fn config_read(&self, offset: u64, mut writer: UserSliceWriter) -> Result<usize> {
        let len = writer.len();
        let mut small = [0; SMALL];
        let Some(data) = small.get_mut(..len) else {
            return self.config_read_long(offset, writer);
        };
        self.read_config(offset, data)?;
        writer.write_slice(data)?;
        Ok(len)
    }

    #[cold]
    fn config_read_long(&self, offset: u64, mut writer: UserSliceWriter) -> Result<usize> {
        let _awake = self.awake()?;
        let len = writer.len();
        self.check_config_range(offset, len)?;
        let mut data = KVec::from_elem(0, len, GFP_KERNEL)?;
        self.read_settled(offset, &mut data)?;
        writer.write_slice(&data)?;
        Ok(len)
    }

    fn real_config(&self, no_dma: bool) -> RealConfig<'_> {
        RealConfig {
            device: &self.device,
            pin: Some(&self.pin),
            no_dma,
        }
    }

    /// Reads while the device is kept awake, or while its user does not let it sleep.
    #[inline(always)]
    fn read_config(&self, offset: u64, data: &mut [u8]) -> Result {
        if !self.may_sleep.load(Relaxed) {
            self.read_settled(offset, data)?;
            // Else it may have fallen asleep meanwhile, and said nothing true.
            if !self.may_sleep.load(Relaxed) {
                return Ok(());
            }
        }
        self.read_awake(offset, data)
    }

    #[cold]
    fn read_awake(&self, offset: u64, data: &mut [u8]) -> Result {
        let _awake = self.awake()?;
        self.read_settled(offset, data)
    }

    /// Reads while the device is not being reset.
    #[inline(always)]
    fn read_settled(&self, offset: u64, data: &mut [u8]) -> Result {
        let hw = self.real_config(false);
        loop {
            self.pci().wait_config();
            let turns = self.gate.turns();
            let read = self.config.lock().read(&hw, offset, data);
            // What was read from a device in a reset is worth nothing.
            if self.gate.was_open_since(turns) {
                return read;
            }
            self.gate.wait_killable()?;
        }
    }

    /// Writes `offset` bytes into the configuration space, and does what the user asks for by it.
    ///
    /// # Errors
    ///
    /// As for [`config_read`](Self::config_read).
    pub(super) fn config_write(&self, offset: u64, mut reader: UserSliceReader) -> Result<usize> {
        let _awake = self.awake()?;
        let len = reader.len();
        self.check_config_range(offset, len)?;
        let mut data = KVec::from_elem(0, len, GFP_KERNEL)?;
        reader.read_slice(&mut data)?;

        let (mut config, mut memory) = self.lock_config()?;
        let mut done = 0usize;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.checked_add(done as u64).ok_or(EFAULT)?;
            let hw = self.real_config(memory.no_dma);
            let written = config.write(&hw, at, rest)?;
            let effects = written.effects;
            self.perform(&mut memory, &effects);
            if let Some(vpd) = effects.vpd {
                // May take an eighth of a second, which other accesses are not to wait for, and
                // waits while accesses are blocked.
                drop(memory);
                drop(config);
                let data = self.access_vpd(vpd);
                (config, memory) = self.lock_config()?;
                if let Ok(data) = data {
                    config.vpd_done(vpd, data);
                }
            }
            memory.enabled = config.memory_enabled();
            done = done.checked_add(written.len.max(1)).ok_or(EFAULT)?;
        }
        Ok(len)
    }

    /// Takes [`config`](Self::config) and [`memory`](Self::memory), while the device takes accesses
    /// to its configuration space.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is killed while it waits for a reset.
    fn lock_config(&self) -> Result<(ConfigGuard<'_>, MemoryGuard<'_>)> {
        self.settled_killable(|| {
            self.pci().wait_config();
            (self.config.lock(), self.lock_memory())
        })
    }

    fn check_config_range(&self, offset: u64, len: usize) -> Result {
        match offset.checked_add(len as u64) {
            Some(end) if end <= self.pci().cfg_size() as u64 => Ok(()),
            // ERRNO: EFAULT, as vfio_config_do_rw().
            _ => Err(EFAULT),
        }
    }

    /// Does what a write asks for beyond storing bits, but for VPD. `memory` is held for writing. A
    /// failure is the device's, and the user finds out as on real hardware.
    fn perform(&self, memory: &mut MemoryState, effects: &Effects) {
        let pci = self.pci();
        if effects.bars_restored && log::may_log(log::Subject::Devices) {
            dev_info!(pci.device(), "Reset recovery - restoring BARs\n");
        }
        if let Some(disabled) = effects.intx_disable {
            self.pin.set_disabled(disabled);
        }
        if let Some(power) = effects.power {
            let state = match power {
                PowerState::D0 => 0,
                PowerState::D1 => 1,
                PowerState::D2 => 2,
                PowerState::D3hot => {
                    self.device.zap_bars();
                    3
                }
            };
            let _ = self.set_power_state(memory, state);
        }
        if effects.reset {
            self.device.zap_bars();
            let _ = self.reset_locked(memory);
        }
        if let Some(bytes) = effects.read_request {
            pci.set_readrq_at_least_mps(bytes);
        }
    }

    /// Reads four bytes of the vital product data, or writes them.
    ///
    /// # Errors
    ///
    /// What the PCI core says; `EIO` if it would say in the log that this device never answers, and
    /// has said that often.
    fn access_vpd(&self, vpd: Vpd) -> Result<u32> {
        if self.vpd_fails.load(Relaxed) && !log::may_log(log::Subject::Failures) {
            return Err(EIO);
        }
        let result = match vpd {
            Vpd::Read { address, .. } => self.pci().read_vpd(address),
            Vpd::Write { address, data, .. } => self.pci().write_vpd(address, data).map(|()| 0),
        };
        self.vpd_fails.store(result.is_err(), Relaxed);
        result
    }
}
