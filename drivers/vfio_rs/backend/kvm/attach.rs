// SPDX-License-Identifier: GPL-2.0

//! Groups coming to an address space and leaving it.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    iommu::{
        DmaOwner,
        IommuGroup,
        Sharing, //
    },
    sched, //
};

use super::{
    record::{
        Record,
        ShadowMember, //
    },
    Shadow,
};
use crate::{
    backend::{
        type1::limits,
        GroupMachine,
        Refused, //
    },
    iova::{
        Allowed,
        IovaRange, //
    },
};

impl Shadow {
    /// Lets a group see everything that is mapped, and will be.
    ///
    /// # Errors
    ///
    /// [`Refused::Busy`] while somebody is at work; `EXDEV` if the group belongs to another machine
    /// than the bindings, or needs a domain of its own and must not; `EINVAL` if something is
    /// mapped that its IOMMU cannot translate or reserves, or if nothing could be mapped any more;
    /// `EPERM` if its interrupts are not isolated and nobody opted in to that; `EINTR` if the task
    /// is being killed; what the IOMMU driver says.
    pub(super) fn attach(
        &self,
        owner: Arc<DmaOwner>,
        sharing: Sharing,
        machine: &GroupMachine,
    ) -> Result<(), Refused> {
        let resv = owner.group().resv_regions()?;
        let mut record = self.record.lock();
        if record.unsettled {
            return Err(Refused::Busy);
        }
        self.machines.add(owner.group(), machine)?;
        let added = self.attach_in(&mut record, owner.clone(), sharing, &resv);
        if added.is_err() {
            self.machines.remove(owner.group());
        }
        Ok(added?)
    }

    fn attach_in(
        &self,
        record: &mut Record,
        owner: Arc<DmaOwner>,
        sharing: Sharing,
        resv: &[vfio_kernel::iommu::ResvRegion],
    ) -> Result {
        record.members.reserve(1, GFP_KERNEL)?;
        let isolated = owner.group().has_isolated_msi();
        let mut own = None;
        let map = &record.map;
        let attachment = self.space.attach(
            owner,
            sharing,
            limits::sw_msi_base(resv),
            |geometry| {
                let allowed = own.insert(limits::allowed_for(geometry, resv)?);
                if map.iter().any(|(range, _)| !allowed.contains(&range)) {
                    return Err(EINVAL);
                }
                limits::check_isolated(isolated)
            },
            |replay| {
                map.iter().try_for_each(|(_, entry)| {
                    // There are as many as the guest has entries.
                    sched::pause()?;
                    entry.replay(&replay)
                })
            },
        )?;
        // On failure the group is detached again.
        for (_, entry) in record.map.iter() {
            entry.refill()?;
        }
        let allowed = own.ok_or(EINVAL)?;
        record.allowed = record.allowed_with(Some(&allowed))?;
        record.attached = record.attached.wrapping_add(1);
        let member = ShadowMember {
            attachment,
            allowed,
        };
        Ok(record.members.push(member, GFP_KERNEL)?)
    }

    /// Cuts a group off; bindings stay. What it alone forbade may be mapped again.
    pub(super) fn detach(&self, group: &IommuGroup) {
        let mut record = self.record.lock();
        let is = |member: &ShadowMember| member.attachment.owner().group().id() == group.id();
        let at = record.members.iter().position(is);
        if let Some(member) = at.and_then(|at| record.members.remove(at).ok()) {
            drop(member);
            self.machines.remove(group);
            // Without memory for the new list the old, stricter one stays.
            if let Ok(allowed) = record.allowed_with(None) {
                record.allowed = allowed;
            }
        }
    }

    /// Whether the IOMMUs of all groups translate all of `window`; some may be reserved.
    pub(super) fn translates(&self, window: IovaRange) -> Result<bool> {
        let record = self.record.lock();
        for member in record.members.iter() {
            if !limits::translated(member.attachment.geometry())?.contains(&window) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Record {
    /// What may be mapped with the present groups, and one more if there is `new`.
    fn allowed_with(&self, new: Option<&Allowed>) -> Result<Option<Allowed>> {
        let present = self.members.iter().map(|member| &member.allowed);
        Allowed::by_all(Iterator::chain(present, new))
    }
}
