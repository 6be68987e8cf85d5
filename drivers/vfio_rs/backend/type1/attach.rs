// SPDX-License-Identifier: GPL-2.0

//! Groups coming to an address space and leaving it.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    iommu::{
        DmaOwner,
        Geometry,
        Group,
        ResvKind,
        ResvRegion,
        Sharing, //
    },
    log,
    params, //
};

use super::{
    maps::{
        cpu_pgsizes,
        Maps,
        RangeEntry,
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
    /// what the IOMMU driver says.
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
        if maps.is_busy(IovaRange::ALL) {
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
                if aperture.is_some_and(outside)
                    || maps
                        .ranges
                        .iter()
                        .any(|(range, _)| !allowed.contains(&around(range)))
                {
                    return Err(EINVAL);
                }
                if !isolated && !params::allow_unsafe_interrupts() {
                    if log::may_log(log::Subject::Interrupts) {
                        pr_warn!(
                            "No interrupt remapping support.  Use the module param \
                             \"allow_unsafe_interrupts\" to enable VFIO IOMMU support on this \
                             platform\n"
                        );
                    }
                    return Err(EPERM);
                }
                Ok(())
            },
            |replay| {
                for (_, entry) in maps.ranges.iter() {
                    if let RangeEntry::Pages(io) = entry {
                        replay.add(io)?;
                    } else if let Some(mixed) = entry.as_mixed() {
                        mixed.replay(&replay)?;
                    }
                }
                Ok(())
            },
        )?;
        // On failure the group is detached again.
        for (_, entry) in maps.ranges.iter() {
            if let Some(mixed) = entry.as_mixed() {
                mixed.refill()?;
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
    pub(in crate::backend) fn detach(&self, group: &Group) {
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
        let mut all: Option<Allowed> = None;
        let present = self.members.iter().map(|member| &member.allowed);
        for allowed in Iterator::chain(present, new) {
            let so_far = all.as_ref().unwrap_or(allowed);
            all = Some(so_far.intersection(allowed)?);
        }
        Ok(all)
    }
}

/// What a group's IOMMU translates.
fn translated(geometry: Geometry) -> Result<IovaRange> {
    IovaRange::from_last(geometry.start, geometry.last).ok_or(EINVAL)
}

/// Where the kernel wants to map doorbells for the group, if it has to.
fn sw_msi_base(resv: &[ResvRegion]) -> Option<u64> {
    if resv.iter().any(|region| region.kind == ResvKind::Msi) {
        return None;
    }
    resv.iter()
        .find(|region| region.kind == ResvKind::SwMsi)
        .map(|region| region.start)
}

/// What a group can have mapped: what its IOMMU translates and nothing reserves.
fn allowed_for(geometry: Geometry, resv: &[ResvRegion]) -> Result<Allowed> {
    let aperture = translated(geometry)?;
    let mut reserved = KVec::with_capacity(resv.len(), GFP_KERNEL)?;
    for region in resv {
        if region.kind == ResvKind::DirectRelaxable {
            continue;
        }
        if let Ok(range) = IovaRange::from_size(region.start, region.len) {
            reserved.push(range, GFP_KERNEL)?;
        }
    }
    Allowed::new(aperture, &reserved)
}
