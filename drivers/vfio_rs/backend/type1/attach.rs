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
    limits::{
        allowed_for,
        check_isolated,
        sw_msi_base,
        translated, //
    },
    maps::{
        cpu_pgsizes,
        MapEntry,
        Maps,
        SpaceMember, //
    },
    Type1,
};
use crate::{
    backend::Refused,
    iova::{
        Allowed,
        IovaRange, //
    },
};

impl Type1 {
    /// Lets a group see everything that is mapped, and will be. Its IOMMU must translate all of
    /// `aperture`, and what lies `around` each mapping must be free for it.
    ///
    /// # Errors
    ///
    /// [`Refused::Busy`], see [`when_idle`](Self::when_idle); `EBUSY` while a mapping has no
    /// address; `EINVAL` if something is mapped that the group's IOMMU cannot translate or
    /// reserves, or if nothing could be mapped any more; `EPERM` if interrupts of the group are not
    /// isolated and nobody opted in to that; `EXDEV` if it needs a domain of its own and must not;
    /// `EINTR` if the task is being killed; what the IOMMU driver says.
    pub(in crate::backend) fn attach(
        &self,
        owner: Arc<DmaOwner>,
        sharing: Sharing,
        aperture: Option<IovaRange>,
        around: impl Fn(IovaRange) -> IovaRange,
    ) -> Result<(), Refused> {
        let resv = owner.group().resv_regions()?;
        let mut maps = self.maps.lock();
        // With the lock held no range becomes busy, so what is ready is all there is.
        if maps.ranges.is_busy(IovaRange::ALL) {
            return Err(Refused::Busy);
        }
        if maps.vaddr_invalid != 0 {
            return Err(EBUSY.into());
        }
        maps.members.reserve(1, GFP_KERNEL)?;

        let isolated = owner.group().has_isolated_msi();
        let mut own = None;
        let attachment = self.space.attach(
            owner,
            sharing,
            sw_msi_base(&resv),
            |geometry| {
                let allowed = own.insert(allowed_for(geometry, &resv)?);
                let outside =
                    |aperture| !translated(geometry).is_ok_and(|all| all.contains(&aperture));
                // All that is mapped is where it was allowed; of windows more must be.
                let allows_all = aperture.is_none()
                    && maps
                        .allowed
                        .as_ref()
                        .is_some_and(|so_far| allowed.contains_all(so_far));
                let misfit = |(range, _)| !allowed.contains(&around(range));
                if aperture.is_some_and(outside) || !allows_all && maps.ranges.iter().any(misfit) {
                    return Err(EINVAL);
                }
                check_isolated(isolated)
            },
            |replay| {
                for (_, entry) in maps.ranges.iter() {
                    // There are as many as the user made.
                    sched::pause()?;
                    if let MapEntry::Pages(io) = entry {
                        replay.add(io)?;
                    } else if let Some(mixed) = entry.as_mixed() {
                        mixed.replay(&replay)?;
                    }
                }
                Ok(())
            },
        )?;
        if maps.ranges.has_mixed() {
            // On failure the group is detached again.
            for (_, entry) in maps.ranges.iter() {
                if let Some(mixed) = entry.as_mixed() {
                    mixed.refill()?;
                }
            }
        }
        let allowed = own.ok_or(EINVAL)?;
        maps.allowed = maps.allowed_with(Some(&allowed))?;
        let member = SpaceMember {
            attachment,
            allowed,
        };
        maps.members.push(member, GFP_KERNEL)?;
        maps.pgsizes = cpu_pgsizes(self.space.pgsize_bitmap());
        Ok(())
    }

    /// Cuts a group off. What it alone forbade may be mapped again.
    pub(in crate::backend) fn detach(&self, group: &IommuGroup) {
        let mut maps = self.maps.lock();
        let at = maps
            .members
            .iter()
            .position(|member| member.attachment.owner().group().id() == group.id());
        if let Some(member) = at.and_then(|at| maps.members.remove(at).ok()) {
            drop(member);
            // Without memory for the new list the old, stricter one stays.
            if let Ok(allowed) = maps.allowed_with(None) {
                maps.allowed = allowed;
            }
            maps.pgsizes = cpu_pgsizes(self.space.pgsize_bitmap());
        }
    }
}

impl Type1 {
    /// The addresses that the IOMMUs of all groups translate.
    ///
    /// # Errors
    ///
    /// `ENODEV` without a group, `EINVAL` if there is none.
    pub(in crate::backend) fn translated(&self) -> Result<IovaRange> {
        let maps = self.maps.lock();
        let mut all = Err(ENODEV);
        for member in &maps.members {
            let own = translated(member.attachment.geometry())?;
            all = match all {
                Ok(all) => own.intersection(&all).ok_or(EINVAL),
                Err(_) => Ok(own),
            };
            all?;
        }
        all
    }
}

impl Maps {
    /// What may be mapped with the present groups, and one more if there is `new`.
    fn allowed_with(&self, new: Option<&Allowed>) -> Result<Option<Allowed>> {
        let present = self.members.iter().map(|member| &member.allowed);
        Allowed::by_all(Iterator::chain(present, new))
    }
}
