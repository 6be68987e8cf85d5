// SPDX-License-Identifier: GPL-2.0

//! Devices that can only be reset together: all behind one bridge, or in one slot.
//!
//! A set knows those of them that are bound to the driver. Its lock is held while one of them is
//! opened or closed and during a reset of all, so none comes or goes in the middle. What each of
//! them has open is locked by trying only, as several locks of a kind are taken in no fixed order.
//!
//! Locks: `DevSets::all`, then `DevSet::members`, then what opening and closing takes.
//! Stands for vfio_assign_device_set() of drivers/vfio/vfio_main.c and the second half of
//! drivers/vfio/pci/vfio_pci_core.c.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};
use vfio_kernel::pci::{
    Awake,
    PciDevice,
    ResetSetId, //
};

use super::{
    Device,
    Open, //
};
use crate::iommu_group::Group;

/// All sets.
#[pin_data]
pub(crate) struct DevSets {
    #[pin]
    all: Mutex<KVec<Entry>>,
}

struct Entry {
    set: Arc<DevSet>,
    /// How many devices joined.
    devices: usize,
}

/// See the module's documentation.
#[pin_data]
pub(super) struct DevSet {
    id: ResetSetId,
    #[pin]
    pub(super) members: Mutex<Members>,
}

/// The members of a set, under its lock.
pub(super) struct Members(KVec<Arc<Device>>);

impl DevSets {
    /// No set yet.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self { all <- new_mutex!(KVec::new(), "DevSets::all") }),
            GFP_KERNEL,
        )
    }

    /// The set of a device that is being bound; made for the first one. To be undone by
    /// [`leave`](Self::leave).
    pub(super) fn join(&self, pci: &PciDevice) -> Result<Arc<DevSet>> {
        let id = pci.reset_set();
        let mut all = self.all.lock();
        if let Some(entry) = all.iter_mut().find(|entry| entry.set.id == id) {
            entry.devices = entry.devices.saturating_add(1);
            return Ok(entry.set.clone());
        }
        let set = Arc::pin_init(
            pin_init!(DevSet {
                id,
                members <- new_mutex!(Members(KVec::new()), "DevSet::members"),
            }),
            GFP_KERNEL,
        )?;
        let entry = Entry {
            set: set.clone(),
            devices: 1,
        };
        all.push(entry, GFP_KERNEL)?;
        Ok(set)
    }

    /// Undoes a [`join`](Self::join).
    pub(super) fn leave(&self, set: &Arc<DevSet>) {
        let mut all = self.all.lock();
        for entry in all.iter_mut() {
            if Arc::ptr_eq(&entry.set, set) {
                entry.devices = entry.devices.saturating_sub(1);
            }
        }
        all.retain(|entry| entry.devices != 0);
    }
}

impl DevSet {
    /// Makes a device a member.
    pub(super) fn add(&self, device: Arc<Device>) -> Result {
        self.members.lock().0.push(device, GFP_KERNEL)?;
        Ok(())
    }

    /// Undoes [`add`](Self::add).
    pub(super) fn remove(&self, device: &Device) {
        self.members
            .lock()
            .0
            .retain(|other| !core::ptr::eq(&**other, device));
    }

    /// Resets all members by the bridge above them. Each must be in one of `groups`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if a reset would reach a device that is no member, or a member is in none of
    /// `groups`; `EBUSY` if a member's memory is being used; `EAGAIN` if one is locked; `ENOMEM`.
    pub(super) fn hot_reset(&self, groups: &[Arc<Group>]) -> Result {
        let members = self.members.lock();
        let pci = members.resettable().ok_or(EINVAL)?;
        let _awake = members.awake()?;
        let opens = members.opens()?;
        let mut locked = KVec::with_capacity(opens.len(), GFP_KERNEL)?;
        for (device, open) in members.0.iter().zip(&opens) {
            if !groups
                .iter()
                .any(|group| Arc::ptr_eq(group, device.group()))
            {
                return Err(EINVAL);
            }
            // One that is not open has no user whose accesses could hit the reset.
            if let Some(open) = open {
                let memory = open.try_write_memory().ok_or(EBUSY)?;
                open.zap_bars();
                locked.push((open, memory), GFP_KERNEL)?;
            }
        }
        // The reset wakes them up without restoring what they forgot.
        for (open, memory) in &mut locked {
            let _ = open.set_power_state(memory, 0);
        }
        let result = pci.reset_bus();
        drop(locked);
        for open in opens.iter().flatten() {
            open.restore_intx_pin();
        }
        result
    }
}

impl Members {
    /// The device to call [`PciDevice::reset_bus`] of, if that reaches members only.
    fn resettable(&self) -> Option<&PciDevice> {
        // For all members a reset reaches the same devices.
        let pci = self.0.first()?.pci();
        pci.for_each_reset_with(pci.reset_scope()?, |reached| {
            if self.0.iter().any(|member| member.pci() == reached) {
                Ok(())
            } else {
                Err(ENODEV)
            }
        })
        .ok()?;
        Some(pci)
    }

    /// Keeps all members awake.
    fn awake(&self) -> Result<KVec<Awake>> {
        let mut awake = KVec::with_capacity(self.0.len(), GFP_KERNEL)?;
        for member in &self.0 {
            awake.push(member.pci().awake()?, GFP_KERNEL)?;
        }
        Ok(awake)
    }

    /// What each member has open.
    fn opens(&self) -> Result<KVec<Option<Arc<Open>>>> {
        let mut opens = KVec::with_capacity(self.0.len(), GFP_KERNEL)?;
        for member in &self.0 {
            opens.push(member.current(), GFP_KERNEL)?;
        }
        Ok(opens)
    }

    /// Resets all members if none is open, and one could not be reset by itself when it was
    /// closed. For a release path: cannot fail.
    pub(super) fn reset_unused(&self) {
        if self.0.iter().any(|member| member.current().is_some())
            || !self.0.iter().any(|member| member.needs_reset())
        {
            return;
        }
        let Some(pci) = self.resettable() else {
            return;
        };
        let Ok(_awake) = self.awake() else {
            return;
        };
        if pci.reset_bus().is_ok() {
            for member in &self.0 {
                member.set_needs_reset(false);
            }
        }
    }
}
