// SPDX-License-Identifier: GPL-2.0

//! A user's reads and writes of the configuration space, on the real device.
//!
//! The PCI core blocks users' accesses for as long as whoever resets the device has its lock, and
//! for shorter works. That is waited for with no lock held, as a reset waits for accesses that are
//! under way: see `reset_gate.rs`.
//!
//! Most writes only store bits, in the copy or in the device, and change nothing of whether the
//! device's memory answers. They take `Open::memory` for reading, which keeps resets and changes of
//! the power state away. Those that may ask for more take it for writing.
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
        Cut,
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
        AwakeAccess,
        MemoryGuard, //
        MemoryState,
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
    #[inline]
    pub(super) fn config_write(&self, offset: u64, mut reader: UserSliceReader) -> Result<usize> {
        let len = reader.len();
        let mut small = [0; SMALL];
        let Some(data) = small.get_mut(..len) else {
            return self.config_write_long(offset, reader);
        };
        let access = self.access()?;
        self.check_config_range(offset, len)?;
        reader.read_slice(data)?;
        self.write_config(access, offset, data)?;
        Ok(len)
    }

    #[cold]
    fn config_write_long(&self, offset: u64, mut reader: UserSliceReader) -> Result<usize> {
        let access = AwakeAccess::kept(self.awake()?);
        let len = reader.len();
        self.check_config_range(offset, len)?;
        let mut data = KVec::from_elem(0, len, GFP_KERNEL)?;
        reader.read_slice(&mut data)?;
        self.write_config(access, offset, &data)?;
        Ok(len)
    }

    #[inline(always)]
    fn write_config(&self, mut access: AwakeAccess, offset: u64, data: &[u8]) -> Result {
        let done = self.write_piece(&mut access, offset, data)?;
        match data.get(done..) {
            None | Some([]) => Ok(()),
            Some(rest) => {
                let offset = offset.checked_add(done as u64).ok_or(EFAULT)?;
                self.write_rest(access, offset, rest)
            }
        }
    }

    /// Writes what is more than one piece: the device is kept awake from one to the next.
    #[cold]
    fn write_rest(&self, mut access: AwakeAccess, offset: u64, data: &[u8]) -> Result {
        if !access.is_kept() {
            access = AwakeAccess::kept(self.awake()?);
        }
        let mut done = 0usize;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.checked_add(done as u64).ok_or(EFAULT)?;
            let len = self.write_piece(&mut access, at, rest)?;
            done = done.checked_add(len.max(1)).ok_or(EFAULT)?;
        }
        Ok(())
    }

    /// Writes the first piece of `data`, and does what it asks for; returns its length.
    #[inline(always)]
    fn write_piece(&self, access: &mut AwakeAccess, at: u64, data: &[u8]) -> Result<usize> {
        loop {
            self.pci().wait_config();
            let mut config = self.config.lock();
            let cut = config.cut(at, data)?;
            if cut.only_stores() {
                let memory = self.memory.read();
                if !self.gate.is_shut() && access.holds(&memory) {
                    let hw = self.real_config(memory.no_dma);
                    config.put(&hw, &cut)?;
                    return Ok(cut.len());
                }
            } else {
                let memory = self.lock_memory();
                if !self.gate.is_shut() && access.holds(&memory) {
                    return self.put_alone(config, memory, &cut);
                }
            }
            drop(config);
            self.wait_to_write(access)?;
        }
    }

    /// Waits until the device is not being reset and is awake, which is kept so. Holds no lock.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is killed meanwhile; `EIO` if the device does not wake up.
    #[cold]
    fn wait_to_write(&self, access: &mut AwakeAccess) -> Result {
        self.gate.wait_killable()?;
        if !access.is_kept() {
            // Its user lets it sleep since this access began, which is therefore one that wakes it
            // up.
            *access = AwakeAccess::kept(self.awake()?);
        }
        Ok(())
    }

    /// Writes a piece that may do more than to store bits.
    #[inline]
    fn put_alone(
        &self,
        mut config: ConfigGuard<'_>,
        mut memory: MemoryGuard<'_>,
        cut: &Cut,
    ) -> Result<usize> {
        let hw = self.real_config(memory.no_dma);
        let effects = config.put(&hw, cut)?;
        if effects != Effects::default() {
            self.perform(&mut memory, &effects);
        }
        memory.enabled = config.memory_enabled();
        if let Some(vpd) = effects.vpd {
            drop((config, memory));
            self.settle_vpd(vpd)?;
        }
        Ok(cut.len())
    }

    /// Does the access to the vital product data that a write asked for. It may take an eighth of a
    /// second, which other accesses are not to wait for, and waits while accesses are blocked: so
    /// no lock is held meanwhile.
    #[cold]
    fn settle_vpd(&self, vpd: Vpd) -> Result {
        let _awake = self.awake()?;
        let data = self.access_vpd(vpd);
        if let Ok(data) = data {
            self.config.lock().vpd_done(vpd, data);
        }
        Ok(())
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
    #[cold]
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
