// SPDX-License-Identifier: GPL-2.0

//! Devices that can only be reset together: all behind one bridge, or in one slot.
//!
//! A set knows those of them that are bound to the driver. Its lock is held while one of them is
//! opened or closed and during a reset of all, so none comes or goes in the middle. Users are kept
//! off each of them in turn (`reset_gate.rs`), so that no two locks of a kind are held at once.
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
use vfio_kernel::{
    count::Count,
    pci::{
        Awake,
        BoundPci,
        PciDevice,
        ResetSetId, //
    },
};

use super::{
    reset::{
        DevId,
        ResetOwner, //
    },
    Device,
    Open, //
};
use crate::core::Iommufd;

/// All sets.
#[pin_data]
pub(crate) struct DevSets {
    #[pin]
    all: Mutex<KVec<SetEntry>>,
}

struct SetEntry {
    set: Arc<DevSet>,
    /// How many devices joined.
    devices: Count,
}

/// See the module's documentation.
#[pin_data]
pub(super) struct DevSet {
    id: ResetSetId,
    #[pin]
    pub(super) members: Mutex<SetMembers>,
}

/// The members of a set, under its lock.
pub(super) struct SetMembers(KVec<Arc<Device>>);

impl DevSets {
    /// No set yet.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self { all <- new_mutex!(KVec::new(), "DevSets::all") }),
            GFP_KERNEL,
        )
    }

    /// The set of a device that is being bound; made for the first one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn join(self: &Arc<Self>, pci: &PciDevice) -> Result<SetUser> {
        let id = pci.reset_set();
        let mut all = self.all.lock();
        if let Some(entry) = all.iter_mut().find(|entry| entry.set.id == id) {
            entry.devices.inc();
            return Ok(self.user_of(&entry.set));
        }
        let set = Arc::pin_init(
            pin_init!(DevSet {
                id,
                members <- new_mutex!(SetMembers(KVec::new()), "DevSet::members"),
            }),
            GFP_KERNEL,
        )?;
        let entry = SetEntry {
            set: set.clone(),
            devices: Count::ONE,
        };
        all.push(entry, GFP_KERNEL)?;
        Ok(self.user_of(&set))
    }

    /// For a device that is counted.
    fn user_of(self: &Arc<Self>, set: &Arc<DevSet>) -> SetUser {
        SetUser {
            sets: self.clone(),
            set: set.clone(),
        }
    }

    /// Counts one device less.
    fn leave(&self, set: &Arc<DevSet>) {
        let mut all = self.all.lock();
        for entry in all.iter_mut() {
            if Arc::ptr_eq(&entry.set, set) {
                entry.devices.dec();
            }
        }
        all.retain(|entry| !entry.devices.is_none());
    }
}

/// A device that is bound, for which there is a set.
pub(super) struct SetUser {
    sets: Arc<DevSets>,
    set: Arc<DevSet>,
}

impl SetUser {
    /// The set.
    pub(super) fn set(&self) -> &Arc<DevSet> {
        &self.set
    }
}

impl Drop for SetUser {
    fn drop(&mut self) {
        self.sets.leave(&self.set);
    }
}

/// A device that is a member of a set, until dropped.
pub(super) struct SetMember {
    set: Arc<DevSet>,
    device: Arc<Device>,
}

impl Drop for SetMember {
    fn drop(&mut self) {
        let mut members = self.set.members.lock();
        members.0.retain(|other| !Arc::ptr_eq(other, &self.device));
    }
}

impl DevSet {
    /// Makes a device a member.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn add(self: &Arc<Self>, device: Arc<Device>) -> Result<SetMember> {
        self.members.lock().0.push(device.clone(), GFP_KERNEL)?;
        Ok(SetMember {
            set: self.clone(),
            device,
        })
    }

    /// What each member is to the context of `iommufd`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn ids(&self, iommufd: &Iommufd) -> Result<KVec<(PciDevice, DevId)>> {
        let members = self.members.lock();
        let mut ids = KVec::with_capacity(members.0.len(), GFP_KERNEL)?;
        for device in &members.0 {
            let id = DevId::of(device, iommufd);
            ids.push((PciDevice::clone(device.pci()), id), GFP_KERNEL)?;
        }
        Ok(ids)
    }

    /// Resets all members by the bridge above them. Each must be among what `owner` has.
    ///
    /// # Errors
    ///
    /// `EINVAL` if a reset would reach a device that is no member, or a member is somebody else's;
    /// `EAGAIN` if a member is locked, or just being reset from outside; `ENOMEM`.
    pub(super) fn hot_reset(&self, owner: ResetOwner<'_>) -> Result {
        let members = self.members.lock();
        let pci = members.resettable().ok_or(EINVAL)?;
        if !members.0.iter().all(|device| owner.owns(device)) {
            return Err(EINVAL);
        }
        let _awake = members.awake()?;
        let opens = members.opens()?;
        // All of a member's before the next one's: they are let go of in that order, too.
        let mut claims = KVec::with_capacity(opens.len(), GFP_KERNEL)?;
        let mut quiet = KVec::with_capacity(opens.len(), GFP_KERNEL)?;
        let mut own = KVec::with_capacity(opens.len(), GFP_KERNEL)?;
        for device in &members.0 {
            claims.push(device.resets().try_claim()?, GFP_KERNEL)?;
        }
        for open in opens.iter().flatten() {
            quiet.push(open.quiet(), GFP_KERNEL)?;
        }
        for device in &members.0 {
            own.push(device.resets().by_ourselves(), GFP_KERNEL)?;
        }
        let result = pci.reset_bus();
        // In this order: interrupts of a device come back before others may reset it.
        drop(own);
        drop(quiet);
        drop(claims);
        result
    }
}

impl SetMembers {
    /// The device to call [`BoundPci::reset_bus`] of, if that reaches members only.
    fn resettable(&self) -> Option<&BoundPci> {
        // For all members a reset reaches the same devices.
        let pci = self.0.first()?.pci();
        pci.for_each_reset_with(pci.reset_scope()?, |reached| {
            if self.0.iter().any(|member| member.pci().is(reached)) {
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
