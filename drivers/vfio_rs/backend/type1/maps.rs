// SPDX-License-Identifier: GPL-2.0

//! Which ranges of the address space are taken, and which may be.

use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    iommu::{
        self,
        Attachment,
        IoSpace,
        RangeSlot,
        Ranges, //
    },
    locked_vm::Tenant,
    params,
};

use super::mixed::More;
use crate::iova::{
    turns::{
        Ticket,
        Turns, //
    },
    Allowed,
    IovaRange, //
};

/// A mutex guard over [`Maps`].
pub(super) type Guard<'a> = kernel::sync::lock::mutex::MutexGuard<'a, Maps>;

/// What fills a range.
pub(in crate::backend) type MapContent = iommu::Content<More>;

/// What a taken range has.
pub(in crate::backend) type MapEntry = iommu::RangeEntry<More>;

/// A group in the address space, with what it can have mapped.
pub(super) struct SpaceMember {
    pub(super) attachment: Attachment,
    pub(super) allowed: Allowed,
}

/// The state of an address space.
pub(super) struct Maps {
    pub(super) ranges: Ranges<More>,
    /// Who waits for ranges, and who has all of one to themselves.
    pub(super) turns: Turns,
    /// How many threads sleep until something of this changes.
    pub(super) waiting: usize,
    /// How many more ranges the user may take.
    pub(super) avail: u32,
    /// What may be mapped: what all groups translate and none reserves; nothing without a group.
    pub(super) allowed: Option<Allowed>,
    /// The page sizes of the address space, one bit each.
    pub(super) pgsizes: usize,
    pub(super) members: KVec<SpaceMember>,
    /// Whether the user asked for dirty pages to be tracked.
    pub(super) dirty: bool,
    /// How many mappings have no address.
    pub(super) vaddr_invalid: usize,
    /// Who mapped last.
    pub(super) tenant: Option<Arc<Tenant>>,
    /// Memory of a range that went, for one that comes.
    pub(super) spare: Option<RangeSlot<More>>,
}

impl Maps {
    pub(super) fn new(ranges: Ranges<More>) -> Self {
        Self {
            ranges,
            turns: Turns::new(),
            waiting: 0,
            avail: params::dma_entry_limit(),
            allowed: None,
            pgsizes: cpu_pgsizes(usize::MAX),
            members: KVec::new(),
            dirty: false,
            vaddr_invalid: 0,
            tenant: None,
            spare: None,
        }
    }

    /// What addresses and sizes must be a multiple of.
    pub(super) fn granule(&self) -> u64 {
        1u64.checked_shl(self.pgsizes.trailing_zeros())
            .unwrap_or(PAGE_SIZE as u64)
    }

    /// Whether `value` is a multiple of the granule.
    pub(super) fn aligned(&self, value: u64) -> bool {
        value & self.granule().wrapping_sub(1) == 0
    }

    /// Whether who has `ticket` must wait before new mappings are made in `range`.
    #[inline]
    pub(super) fn is_contended(&self, ticket: Ticket, range: IovaRange) -> bool {
        self.ranges.is_leaving(range) || !self.turns.is_first(ticket, range)
    }
}

/// The current process in `space`; `last` is who mapped last.
#[inline(always)]
pub(super) fn tenant(last: &mut Option<Arc<Tenant>>, space: &Arc<IoSpace>) -> Result<Arc<Tenant>> {
    if let Some(tenant) = last.as_ref().filter(|tenant| tenant.is_current()) {
        return Ok(tenant.clone());
    }
    new_tenant(last, space)
}

/// Once, unless several processes take turns.
#[cold]
fn new_tenant(last: &mut Option<Arc<Tenant>>, space: &Arc<IoSpace>) -> Result<Arc<Tenant>> {
    Ok(last.insert(Tenant::current(space)?).clone())
}

/// Sizes below the CPU's page cannot be pinned; say so by the page size itself.
pub(super) fn cpu_pgsizes(pgsizes: usize) -> usize {
    let below = PAGE_SIZE.wrapping_sub(1);
    if pgsizes & below != 0 {
        (pgsizes & !below) | PAGE_SIZE
    } else {
        pgsizes
    }
}
