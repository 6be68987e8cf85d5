// SPDX-License-Identifier: GPL-2.0

//! Device memory in an I/O address space, so that devices can reach each other's BARs.
//!
//! It is not the kernel's, so it is not pinned. (A [`SharedPage`] is, and goes along here as what
//! it stands for is a register of a device.) Instead it can be switched off, when the device stops
//! answering or goes away, and on again: a [`DeviceMapping`] then is there or is not, in all
//! domains of its [`IoSpace`] alike. It consists of [`Pieces`], as a user may have mapped the
//! device's memory in any order; all of them are switched by one call, and the IOMMU is told once
//! for many. It is made by the [`MixedMapping`](super::MixedMapping) that has the claim to its
//! addresses, and ended with that, whoever else still refers to it.
//!
//! Lock: `DeviceMapping::power`, before `IoSpace::domains`.

use kernel::{
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

use super::{
    domain::Prot,
    space::{
        Domains,
        IoSpace, //
    },
};
use crate::{
    few::Few,
    ranges::IovaRange,
    sched::Stop,
    shared_page::SharedPage,
    user_sized, //
};

/// Physically contiguous memory of a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    phys: u64,
    len: usize,
}

impl DeviceMemory {
    /// The caller has made sure that it is not memory that the kernel manages.
    pub(crate) fn new(phys: u64, len: usize) -> Self {
        Self { phys, len }
    }

    /// A page of the kernel's, which the caller keeps where it is.
    pub(super) fn of_page(page: &SharedPage) -> Self {
        Self::new(page.phys(), PAGE_SIZE)
    }

    /// Bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }
}

/// Device memory at one place of an I/O address space.
#[derive(Clone, Copy)]
pub(super) struct DevicePiece {
    pub(super) iova: u64,
    pub(super) phys: u64,
    pub(super) len: usize,
}

/// A part of the addresses that a [`MixedMapping`](super::MixedMapping) has the claim to, or of an
/// [`OwnedSpace`](super::OwnedSpace), for what it is to have there.
///
/// # Invariants
///
/// No other part that the owner with this number ever gave has an address of `range`.
pub struct RangePart {
    pub(super) owner: u64,
    pub(super) range: IovaRange,
}

impl RangePart {
    /// Which addresses these are.
    pub fn range(&self) -> IovaRange {
        self.range
    }
}

/// Device memory at several places of an I/O address space, in ascending order.
///
/// # Invariants
///
/// The pieces are at addresses of parts that the owner with this number gave, and that were used
/// up.
pub struct Pieces {
    owner: u64,
    pieces: Few<DevicePiece>,
}

impl Pieces {
    /// How many there can be.
    pub const MOST: usize = 1 << 16;

    /// None yet.
    pub const fn none() -> Self {
        Self {
            owner: 0,
            pieces: Few::None,
        }
    }

    /// Adds `memory` at the addresses of `part`, behind all others. Returns whether that takes a
    /// piece of its own, as it does not go on where the last one ends.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not behind all others, of another size or the part of another mapping;
    /// `ENOSPC` if there are too many, `ENOMEM`.
    pub fn push(&mut self, part: RangePart, memory: DeviceMemory) -> Result<bool> {
        let DeviceMemory { phys, len } = memory;
        let iova = part.range.start();
        if part.range.size() != Some(len as u64) {
            return Err(EINVAL);
        }
        if let Some(last) = self.pieces.as_mut_slice().last_mut() {
            let end = last.iova.checked_add(last.len as u64).ok_or(EINVAL)?;
            if iova < end || self.owner != part.owner {
                return Err(EINVAL);
            }
            if iova == end && last.phys.checked_add(last.len as u64) == Some(phys) {
                // INVARIANT: The part goes on where the last piece ends.
                last.len = last.len.checked_add(len).ok_or(EINVAL)?;
                return Ok(false);
            }
        }
        if self.count() >= Self::MOST {
            return Err(ENOSPC);
        }
        // INVARIANT: At the addresses of the part, which is of the others' owner, if there are any.
        self.pieces
            .push(DevicePiece { iova, phys, len }, user_sized::gfp())?;
        self.owner = part.owner;
        Ok(true)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.pieces.as_slice().len()
    }

    /// Whose the addresses are.
    pub(super) fn owner(&self) -> u64 {
        self.owner
    }
}

/// Whether devices reach memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Power {
    Off,
    On,
    /// Off for good: the addresses belong to others.
    Ended,
}

/// See the module's documentation. Dropping it unmaps; may sleep.
///
/// # Invariants
///
/// The addresses of `pieces` in `space` belong to this until its `power` is `Ended`. If the memory
/// is the kernel's, `page` keeps it.
#[pin_data(PinnedDrop)]
pub struct DeviceMapping {
    space: Arc<IoSpace>,
    pieces: Pieces,
    /// Whose the memory is, if it is the kernel's after all.
    page: Option<Arc<SharedPage>>,
    prot: Prot,
    #[pin]
    power: Mutex<Power>,
}

impl DeviceMapping {
    /// Puts `pieces`, whose addresses in `space` belong to the caller until they
    /// [`end`](Self::end) this, where they belong; switched off at first.
    pub(super) fn new(
        space: &Arc<IoSpace>,
        pieces: Pieces,
        page: Option<Arc<SharedPage>>,
        prot: Prot,
    ) -> Result<Arc<Self>> {
        // INVARIANT: By the caller.
        Arc::pin_init(
            pin_init!(Self {
                space: space.clone(),
                pieces,
                page,
                prot,
                power <- new_mutex!(Power::Off, "DeviceMapping::power"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// How many pieces it has.
    pub fn count(&self) -> usize {
        self.pieces.count()
    }

    /// Lets devices reach the memory, unless it is mapped no more. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what the IOMMU driver says; `EINTR` if the task is being killed and `stop` says
    /// that this matters. Then it stays off.
    pub fn switch_on(&self, stop: Stop) -> Result {
        let mut power = self.power.lock();
        if *power == Power::Off {
            self.map(Domains::All, stop)?;
            *power = Power::On;
        }
        Ok(())
    }

    /// Keeps devices from the memory. When this returns no access is under way. May sleep.
    pub fn switch_off(&self) {
        let mut power = self.power.lock();
        if *power == Power::On {
            self.space.unmap_device(self.pieces.pieces.as_slice());
            *power = Power::Off;
        }
    }

    /// As [`switch_off`](Self::switch_off), for good.
    pub(super) fn end(&self) {
        let mut power = self.power.lock();
        if *power == Power::On {
            self.space.unmap_device(self.pieces.pieces.as_slice());
        }
        // INVARIANT: Nothing is mapped, nor will be.
        *power = Power::Ended;
    }

    /// Maps the memory in domains that the space got since; on failure nothing has changed for
    /// the others. May sleep.
    pub fn refill(&self) -> Result {
        let power = self.power.lock();
        if *power == Power::On {
            self.map(Domains::New, Stop::WhenKilled)?;
        }
        Ok(())
    }

    fn map(&self, domains: Domains, stop: Stop) -> Result {
        let of_kernel = self.page.is_some();
        let pieces = self.pieces.pieces.as_slice();
        self.space
            .map_device(domains, pieces, self.prot, of_kernel, stop)
    }
}

#[pinned_drop]
impl PinnedDrop for DeviceMapping {
    fn drop(self: Pin<&mut Self>) {
        self.switch_off();
    }
}
