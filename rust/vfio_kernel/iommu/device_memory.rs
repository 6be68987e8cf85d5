// SPDX-License-Identifier: GPL-2.0

//! Device memory in an I/O address space, so that devices can reach each other's BARs.
//!
//! It is not the kernel's, so it is not pinned. (A [`SharedPage`] is, and goes along here as what
//! it stands for is a register of a device.) Instead it can be switched off, when the device stops
//! answering or goes away, and on again: a [`DeviceMapping`] then is there or is not, in all
//! domains of its [`IoSpace`] alike. It consists of [`Pieces`], as a user may have mapped the
//! device's memory in any order; all of them are switched by one call, and the IOMMU is told once
//! for many.
//!
//! Lock: `DeviceMapping::on`, before `IoSpace::domains`.

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

    /// Bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }
}

/// Device memory at one place of an I/O address space.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) iova: u64,
    pub(super) phys: u64,
    pub(super) len: usize,
}

/// Device memory at several places of an I/O address space, in ascending order.
pub struct Pieces(Few<Piece>);

impl Pieces {
    /// How many there can be.
    pub const MOST: usize = 1 << 16;

    /// None yet.
    pub const fn none() -> Self {
        Self(Few::None)
    }

    /// Adds `memory` at `iova`, behind all others. Returns whether that takes a piece of its own,
    /// as it does not go on where the last one ends.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not behind all others, `ENOSPC` if there are too many, `ENOMEM`.
    pub fn push(&mut self, iova: u64, memory: DeviceMemory) -> Result<bool> {
        let DeviceMemory { phys, len } = memory;
        if let Some(last) = self.0.as_mut_slice().last_mut() {
            let end = last.iova.checked_add(last.len as u64).ok_or(EINVAL)?;
            if iova < end {
                return Err(EINVAL);
            }
            if iova == end && last.phys.checked_add(last.len as u64) == Some(phys) {
                last.len = last.len.checked_add(len).ok_or(EINVAL)?;
                return Ok(false);
            }
        }
        if self.count() >= Self::MOST {
            return Err(ENOSPC);
        }
        self.0.push(Piece { iova, phys, len }, user_sized::gfp())?;
        Ok(true)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.as_slice().len()
    }
}

/// See the module's documentation. Dropping it unmaps; may sleep.
#[pin_data(PinnedDrop)]
pub struct DeviceMapping {
    space: Arc<IoSpace>,
    pieces: Pieces,
    /// Whose the memory is, if it is the kernel's after all.
    page: Option<Arc<SharedPage>>,
    prot: Prot,
    /// Whether devices reach it.
    #[pin]
    on: Mutex<bool>,
}

impl DeviceMapping {
    /// Puts `pieces` where they belong, and where nothing else may be; switched off at first.
    pub fn new(space: &Arc<IoSpace>, pieces: Pieces, prot: Prot) -> Result<Arc<Self>> {
        Self::with(space, pieces, None, prot)
    }

    /// As [`new`](Self::new), for a page of the kernel's at `iova`.
    pub fn of_page(
        space: &Arc<IoSpace>,
        iova: u64,
        page: Arc<SharedPage>,
        prot: Prot,
    ) -> Result<Arc<Self>> {
        let mut pieces = Pieces::none();
        pieces.push(iova, DeviceMemory::new(page.phys(), PAGE_SIZE))?;
        Self::with(space, pieces, Some(page), prot)
    }

    fn with(
        space: &Arc<IoSpace>,
        pieces: Pieces,
        page: Option<Arc<SharedPage>>,
        prot: Prot,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                space: space.clone(),
                pieces,
                page,
                prot,
                on <- new_mutex!(false, "DeviceMapping::on"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// How many pieces it has.
    pub fn count(&self) -> usize {
        self.pieces.count()
    }

    /// Lets devices reach the memory. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what the IOMMU driver says; `EINTR` if the task is being killed and `stop` says
    /// that this matters. Then it stays off.
    pub fn switch_on(&self, stop: Stop) -> Result {
        let mut on = self.on.lock();
        if !*on {
            self.map(Domains::All, stop)?;
            *on = true;
        }
        Ok(())
    }

    /// Keeps devices from the memory. When this returns no access is under way. May sleep.
    pub fn switch_off(&self) {
        let mut on = self.on.lock();
        if *on {
            self.space.unmap_device(self.pieces.0.as_slice());
            *on = false;
        }
    }

    /// Maps the memory in domains that the space got since; on failure nothing has changed for
    /// the others. May sleep.
    pub fn refill(&self) -> Result {
        let on = self.on.lock();
        if *on {
            self.map(Domains::New, Stop::WhenKilled)?;
        }
        Ok(())
    }

    fn map(&self, domains: Domains, stop: Stop) -> Result {
        let of_kernel = self.page.is_some();
        let pieces = self.pieces.0.as_slice();
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
