// SPDX-License-Identifier: GPL-2.0

//! What fills a range that has not only pinned pages, or not in one piece.
//!
//! A [`MixedMapping`] has the claim to the range, hands its addresses out one after the other
//! ([`RangePart`]), and owns all that is put there. So when it is emptied nothing is mapped in the
//! range, whoever still refers to a part of it.

use core::mem::MaybeUninit;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

use super::{
    device_memory::{
        DeviceMapping,
        DeviceMemory,
        Pieces,
        RangePart, //
    },
    domain::Prot,
    mapping::{
        Departures,
        IoMapping,
        Unmapped, //
    },
    space::{
        IoSpace,
        Replay, //
    },
};
use crate::{
    few::Few,
    locked_vm::{
        LockedVm,
        Tenant, //
    },
    pin::PinnedPages,
    ranges::{
        IovaClaim,
        IovaRange,
        SpaceId, //
    },
    sched,
    shared_page::SharedPage,
    user_sized, //
};

/// How many owners of parts there were, and one.
static NUMBERS: Atomic<u64> = Atomic::new(1);

/// A number that no other owner of parts has.
pub(super) fn next_number() -> u64 {
    NUMBERS.fetch_add(1, Relaxed)
}

/// See the module's documentation. Dropping it unmaps all; may sleep.
///
/// # Invariants
///
/// Has the claim to `range` of `space`, as long as it is there. `number` is that of no other, and
/// not 0. `left` is what of the range is in no part that it gave. `memory` and `devices` are in the
/// space, at addresses of parts, each in one of them.
pub struct MixedMapping<M> {
    space: Arc<IoSpace>,
    range: IovaRange,
    number: u64,
    left: Option<IovaRange>,
    memory: Few<IoMapping>,
    devices: Few<Arc<DeviceMapping>>,
    /// For a use of the owner's.
    pub(super) mark: bool,
    /// What the owner keeps with it, and drops after it.
    pub more: M,
}

impl<M> MixedMapping<M> {
    /// Nothing yet, in the range that `claim` is about.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is of another space, `ENOMEM`; with the claim.
    pub fn new(space: &Arc<IoSpace>, claim: IovaClaim, more: M) -> Result<KBox<Self>, Unmapped> {
        if claim.space() != space.id() {
            return Err((EINVAL, claim));
        }
        let slot: KBox<MaybeUninit<Self>> = match KBox::new_uninit(GFP_KERNEL_ACCOUNT) {
            Ok(slot) => slot,
            Err(err) => return Err((err.into(), claim)),
        };
        // INVARIANT: The claim is given to it, and the number was given to none before.
        Ok(KBox::write(
            slot,
            Self {
                space: space.clone(),
                range: claim.range(),
                number: next_number(),
                left: Some(claim.range()),
                memory: Few::None,
                devices: Few::None,
                mark: false,
                more,
            },
        ))
    }

    /// The next `size` bytes of the range.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are not so many left.
    pub fn part(&mut self, size: usize) -> Result<RangePart> {
        let left = self.left.ok_or(EINVAL)?;
        let range = IovaRange::from_size(left.start(), size as u64).map_err(|_| EINVAL)?;
        if !left.contains(&range) {
            return Err(EINVAL);
        }
        // INVARIANT: Those behind are left, and this was in no part before.
        self.left = left.above(&range);
        Ok(RangePart {
            owner: self.number,
            range,
        })
    }

    /// Adds pinned memory, as [`IoMapping::new`], at the addresses of `part`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the part is of another mapping, `locked` of another space, or one as there.
    pub fn add_memory(
        &mut self,
        part: RangePart,
        locked: LockedVm,
        pages: PinnedPages,
        prot: Prot,
    ) -> Result {
        if part.owner != self.number || !Arc::ptr_eq(&locked.tenant().space, &self.space) {
            return Err(EINVAL);
        }
        // The part is used up.
        let io = IoMapping::part(part.range, locked, pages, prot)?;
        self.memory.push(io, user_sized::gfp())
    }

    /// Adds memory of devices, switched off.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the pieces are none, or at addresses of another mapping; `ENOMEM`.
    pub fn add_devices(&mut self, pieces: Pieces, prot: Prot) -> Result<Arc<DeviceMapping>> {
        self.add(pieces, None, prot)
    }

    /// Adds a page of the kernel's at the addresses of `part`, switched off.
    ///
    /// # Errors
    ///
    /// As [`add_devices`](Self::add_devices).
    pub fn add_page(
        &mut self,
        part: RangePart,
        page: Arc<SharedPage>,
        prot: Prot,
    ) -> Result<Arc<DeviceMapping>> {
        let mut pieces = Pieces::none();
        pieces.push(part, DeviceMemory::of_page(&page))?;
        self.add(pieces, Some(page), prot)
    }

    fn add(
        &mut self,
        pieces: Pieces,
        page: Option<Arc<SharedPage>>,
        prot: Prot,
    ) -> Result<Arc<DeviceMapping>> {
        if pieces.owner() != self.number {
            return Err(EINVAL);
        }
        // The parts are used up.
        let mapping = DeviceMapping::new(&self.space, pieces, page, prot)?;
        self.devices.push(mapping.clone(), user_sized::gfp())?;
        Ok(mapping)
    }

    /// The claim that it has.
    #[inline]
    pub(super) fn claim(&self) -> (SpaceId, IovaRange) {
        (self.space.id(), self.range)
    }

    /// Maps the pinned pages in a new domain too.
    ///
    /// # Errors
    ///
    /// As [`Replay::add`].
    pub fn replay(&self, replay: &Replay<'_>) -> Result {
        self.memory.as_slice().iter().try_for_each(|io| {
            // There may be one for each page.
            sched::pause()?;
            replay.add(io)
        })
    }

    /// Maps the rest in domains that came since.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what the IOMMU driver says; `EINTR` if the task is being killed.
    pub fn refill(&self) -> Result {
        let mut devices = self.devices.as_slice().iter();
        devices.try_for_each(|mapping| mapping.refill())
    }

    /// Has `tenant`, the current process, pay for the pinned pages.
    pub(super) fn pay_with(&mut self, tenant: Arc<Tenant>) -> Result {
        let others = self.memory.as_slice().iter();
        let others = others.filter(|io| !io.is_current());
        let npages = others.fold(0usize, |sum, io| sum.saturating_add(io.npages()));
        let mut locked = LockedVm::charge(tenant, npages)?;
        let others = self.memory.as_mut_slice().iter_mut();
        for io in others.filter(|io| !io.is_current()) {
            let part = locked.split(io.npages());
            // There is enough, and what paid so far gives back.
            let _ = part.and_then(|part| io.pay_with(part));
        }
        Ok(())
    }

    /// Unmaps all of it, and gives the claim back. May sleep.
    pub fn end(this: KBox<Self>) -> IovaClaim {
        let (space, range) = this.claim();
        drop(this);
        // What had the claim is gone.
        IovaClaim::again(space, range)
    }

    /// Whether there is so little memory in it that [`shorten`](Self::shorten) takes all of it.
    #[inline]
    pub fn is_short(&self) -> bool {
        match self.memory.as_slice() {
            [] => true,
            [io] => io.is_short(),
            _ => false,
        }
    }

    /// Ends the mapping in part: takes the last pieces of memory away, as many as can leave
    /// together, or a part of one that is large. Returns whether there is more. What is not memory
    /// goes when this is dropped, all at once, as a device's BARs do that are switched off. May
    /// sleep.
    #[cold]
    pub fn shorten(&mut self) -> bool {
        let mut departures = Departures::none();
        while let Some(io) = self.memory.as_mut_slice().last_mut() {
            if !departures.has_room_for(io) {
                if departures.count() == 0 {
                    // Too large to leave as a whole, so there is more of it.
                    let _ = io.shorten();
                }
                break;
            }
            if let Some(io) = self.memory.pop() {
                departures.join(io);
            }
        }
        let _ = departures.leave();
        !self.memory.as_slice().is_empty()
    }
}

impl<M> Drop for MixedMapping<M> {
    fn drop(&mut self) {
        for mapping in self.devices.as_slice() {
            mapping.end();
        }
        if !self.memory.as_slice().is_empty() {
            while self.shorten() {
                sched::cond_resched();
            }
        }
    }
}
