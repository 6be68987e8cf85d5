// SPDX-License-Identifier: GPL-2.0

//! Which virtual machine the groups of an address space belong to, and whose guest owns it.
//!
//! KVM says that a machine leaves with its own mutexes held, so that is noted under a spinlock:
//! from then on no walk begins or goes on ([`Machines::check_bound`]). What has to be unmapped is
//! *owed*, by whoever has `Shadow::work` then or gets it next.
//!
//! Lock: `Machines`, before `KvmSlot`.

use core::mem::replace;
use kernel::{
    new_spinlock,
    prelude::*,
    sync::SpinLock, //
};
use vfio_kernel::{
    iommu::IommuGroup,
    kvm::{
        Kvm,
        KvmId, //
    },
};

use crate::backend::GroupMachine;

/// See the module's documentation.
#[pin_data]
pub(super) struct Machines {
    #[pin]
    state: SpinLock<MachineState>,
}

struct MachineState {
    /// The machines of the groups, by the groups' numbers.
    groups: KVec<(i32, GroupMachine)>,
    owner: SpaceOwner,
    /// There are bindings of a machine that left.
    owed: bool,
}

/// Whose guest owns the address space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SpaceOwner {
    /// Nobody's: there are no bindings.
    Nobody,
    /// That of this one, as long as a group belongs to it.
    Bound(KvmId),
    /// That of one that has left, and of no other since.
    Left,
}

impl MachineState {
    fn any_has(&self, id: KvmId) -> bool {
        self.groups
            .iter()
            .any(|(_, machine)| machine.id() == Some(id))
    }
}

impl Machines {
    /// Without groups.
    pub(super) fn new() -> impl PinInit<Self> {
        let state = MachineState {
            groups: KVec::new(),
            owner: SpaceOwner::Nobody,
            owed: false,
        };
        pin_init!(Self {
            state <- new_spinlock!(state, "Machines"),
        })
    }

    /// Adds a group.
    ///
    /// # Errors
    ///
    /// `EXDEV` if it belongs to another machine than the one whose guest owns the address space;
    /// `ENOMEM`.
    pub(super) fn add(&self, group: &IommuGroup, machine: &GroupMachine) -> Result {
        // The callers' lock keeps the number of groups as it is.
        let count = self.state.lock().groups.len();
        let mut groups = KVec::with_capacity(count.saturating_add(1), GFP_KERNEL)?;
        let machine = machine.clone();
        let mut state = self.state.lock();
        if let (SpaceOwner::Bound(owner), Some(id)) = (state.owner, machine.id()) {
            if owner != id {
                return Err(EXDEV);
            }
        }
        for known in state.groups.iter() {
            groups
                .push_within_capacity(known.clone())
                .map_err(|_| ENOMEM)?;
        }
        groups
            .push_within_capacity((group.id(), machine))
            .map_err(|_| ENOMEM)?;
        let old = replace(&mut state.groups, groups);
        drop(state);
        drop(old);
        Ok(())
    }

    /// Takes a group out. Bindings stay.
    pub(super) fn remove(&self, group: &IommuGroup) {
        let mut state = self.state.lock();
        let at = state.groups.iter().position(|(id, _)| *id == group.id());
        let old = at.and_then(|at| state.groups.remove(at).ok());
        drop(state);
        drop(old);
    }

    /// The machine of the groups, whose guest owns the address space from now on.
    ///
    /// # Errors
    ///
    /// `ENODEV` if no group has one, or one is just leaving; `EXDEV` if they have several, or
    /// bindings are another one's.
    pub(super) fn bind(&self) -> Result<Kvm> {
        let mut state = self.state.lock();
        if state.owed {
            return Err(ENODEV);
        }
        let mut found: Option<KvmId> = None;
        let mut at = None;
        for (i, (_, machine)) in state.groups.iter().enumerate() {
            let Some(id) = machine.id() else { continue };
            if found.is_some_and(|found| found != id) {
                return Err(EXDEV);
            }
            (found, at) = (Some(id), Some(i));
        }
        let machine = at.and_then(|at| state.groups.get(at));
        // With the lock held, so that it does not leave unnoticed.
        let kvm = machine
            .and_then(|(_, machine)| machine.get())
            .ok_or(ENODEV)?;
        match state.owner {
            SpaceOwner::Bound(owner) if owner != kvm.id() => {
                drop(state);
                return Err(EXDEV);
            }
            _ => state.owner = SpaceOwner::Bound(kvm.id()),
        }
        Ok(kvm)
    }

    /// The last binding has gone.
    pub(super) fn unbind(&self) {
        let mut state = self.state.lock();
        if matches!(state.owner, SpaceOwner::Bound(_)) {
            state.owner = SpaceOwner::Nobody;
        }
    }

    /// Whether a machine has left, and none came since.
    pub(super) fn has_left(&self) -> bool {
        self.state.lock().owner == SpaceOwner::Left
    }

    /// Whether some group belongs to a machine.
    pub(super) fn has_any(&self) -> bool {
        let state = self.state.lock();
        let mut groups = state.groups.iter();
        groups.any(|(_, machine)| machine.id().is_some())
    }

    /// Fails with `ENODEV` if the machine that there are bindings of has left.
    pub(super) fn check_bound(&self) -> Result {
        match self.state.lock().owner {
            SpaceOwner::Left => Err(ENODEV),
            SpaceOwner::Bound(_) | SpaceOwner::Nobody => Ok(()),
        }
    }

    /// Some group belongs to another machine than before. Returns whether the one has left that
    /// there are bindings of.
    pub(super) fn check(&self) -> bool {
        let mut state = self.state.lock();
        let SpaceOwner::Bound(owner) = state.owner else {
            return false;
        };
        let left = !state.any_has(owner);
        if left {
            state.owner = SpaceOwner::Left;
            state.owed = true;
        }
        left
    }

    /// The machine leaves, whatever groups belong to it.
    pub(super) fn leave(&self) {
        let mut state = self.state.lock();
        if matches!(state.owner, SpaceOwner::Bound(_)) {
            state.owner = SpaceOwner::Left;
            state.owed = true;
        }
    }

    /// Whether bindings of a machine that left are to be ended.
    pub(super) fn is_owed(&self) -> bool {
        self.state.lock().owed
    }

    /// The same, for who ends them.
    pub(super) fn take_owed(&self) -> bool {
        replace(&mut self.state.lock().owed, false)
    }
}
