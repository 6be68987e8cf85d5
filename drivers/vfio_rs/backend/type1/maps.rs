// SPDX-License-Identifier: GPL-2.0

//! Which ranges of the address space are taken, and which may be.

use core::mem::{
    replace,
    size_of, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    iommu::{
        Attachment,
        IoMapping,
        IoSpace, //
    },
    locked_vm::Tenant,
    params,
};

use super::mixed::Mixed;
use crate::iova::{
    turns::{
        Ticket,
        Turns, //
    },
    Allowed,
    IovaRange,
    Map,
    Slot,
    Starts, //
};

/// A mutex guard over [`Maps`].
pub(super) type Guard<'a> = kernel::sync::lock::mutex::MutexGuard<'a, Maps>;

/// What a taken range holds. Users may have millions.
pub(in crate::backend) enum RangeEntry {
    /// Pinned pages. Marked if the user took the address back; see `vaddr.rs`.
    Pages(IoMapping),
    Other(Other),
}

/// What is rarer.
pub(in crate::backend) struct Other {
    start: u64,
    /// Not only pinned pages; nothing while somebody is filling or emptying the range, without the
    /// lock.
    pub(super) mixed: Option<KBox<Mixed>>,
}

// With key and links of the tree's node 64 bytes.
const _: () = assert!(size_of::<RangeEntry>() == 32);

impl RangeEntry {
    /// A range that somebody is filling or emptying, without the lock.
    #[inline]
    pub(super) fn busy(start: u64) -> Self {
        Self::Other(Other { start, mixed: None })
    }

    pub(super) fn mixed(start: u64, mixed: KBox<Mixed>) -> Self {
        let mixed = Some(mixed);
        Self::Other(Other { start, mixed })
    }

    /// What is in the range, which is busy from now on.
    #[inline]
    pub(super) fn take(&mut self) -> Self {
        let busy = Self::busy(self.start());
        replace(self, busy)
    }

    /// Whether it has pinned pages and nothing else.
    pub(in crate::backend) fn is_pinned(&self) -> bool {
        matches!(self, Self::Pages(_))
    }

    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Other(Other { mixed: None, .. }))
    }

    pub(super) fn as_mixed(&self) -> Option<&Mixed> {
        match self {
            Self::Pages(_) => None,
            Self::Other(other) => other.mixed.as_deref(),
        }
    }

    /// Ends what is in the range in part; returns whether there is more that can end in parts. What
    /// then is left goes with the entry. May sleep.
    pub(super) fn shorten(&mut self) -> bool {
        match self {
            Self::Pages(io) => io.shorten(),
            Self::Other(other) => other.mixed.as_mut().is_some_and(|mixed| mixed.shorten()),
        }
    }

    /// Whether the user took the address back.
    pub(super) fn vaddr_invalid(&self) -> bool {
        match self {
            Self::Pages(io) => io.mark(),
            Self::Other(other) => other
                .mixed
                .as_ref()
                .is_some_and(|mixed| mixed.vaddr_invalid),
        }
    }

    /// Says whether the user took the address back.
    pub(super) fn set_vaddr_invalid(&mut self, invalid: bool) {
        match self {
            Self::Pages(io) => io.set_mark(invalid),
            Self::Other(other) => {
                if let Some(mixed) = &mut other.mixed {
                    mixed.vaddr_invalid = invalid;
                }
            }
        }
    }
}

impl Starts for RangeEntry {
    #[inline]
    fn start(&self) -> u64 {
        match self {
            Self::Pages(io) => io.iova(),
            Self::Other(other) => other.start,
        }
    }
}

/// Ranges that can be emptied at a time and be known; of others only how many there are.
const LEAVING: usize = 8;

/// A group in the address space, with what it can have mapped.
pub(super) struct SpaceMember {
    pub(super) attachment: Attachment,
    pub(super) allowed: Allowed,
}

/// The state of an address space.
pub(super) struct Maps {
    pub(super) ranges: Map<RangeEntry>,
    /// How many ranges are busy.
    pub(super) busy: usize,
    /// Busy ranges that are no longer in `ranges`, as they are being emptied.
    leaving: [Option<IovaRange>; LEAVING],
    /// How many more of these there are.
    leaving_somewhere: usize,
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
    tenant: Option<Arc<Tenant>>,
    /// Memory of a range that went, for one that comes.
    pub(super) spare: Option<Slot<RangeEntry>>,
}

impl Maps {
    pub(super) fn new() -> Self {
        Self {
            ranges: Map::new(),
            busy: 0,
            leaving: [None; LEAVING],
            leaving_somewhere: 0,
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

    /// The current process in `space`.
    #[inline(always)]
    pub(super) fn tenant(&mut self, space: &Arc<IoSpace>) -> Result<Arc<Tenant>> {
        if let Some(tenant) = self.tenant.as_ref().filter(|tenant| tenant.is_current()) {
            return Ok(tenant.clone());
        }
        self.new_tenant(space)
    }

    /// Once, unless several processes take turns.
    #[cold]
    fn new_tenant(&mut self, space: &Arc<IoSpace>) -> Result<Arc<Tenant>> {
        Ok(self.tenant.insert(Tenant::current(space)?).clone())
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

    /// Whether an address in `range` is in a range that is being emptied, or may be.
    fn is_leaving(&self, range: IovaRange) -> bool {
        self.leaving_somewhere != 0 || self.leaving.iter().flatten().any(|at| at.overlaps(&range))
    }

    /// Whether who has `ticket` must wait before new mappings are made in `range`.
    #[inline]
    pub(super) fn is_contended(&self, ticket: Ticket, range: IovaRange) -> bool {
        (self.busy != 0 && self.is_leaving(range)) || !self.turns.is_first(ticket, range)
    }

    /// Notes that `range`, or all that was in it, is busy being emptied.
    #[inline]
    pub(super) fn begin_leaving(&mut self, range: IovaRange) {
        match self.leaving.iter_mut().find(|at| at.is_none()) {
            Some(free) => *free = Some(range),
            None => self.leaving_somewhere = self.leaving_somewhere.saturating_add(1),
        }
        self.busy = self.busy.saturating_add(1);
    }

    /// Notes that `range` is empty. It is busy until [`end_busy`](Type1::end_busy).
    pub(super) fn end_leaving(&mut self, range: IovaRange) {
        match self.leaving.iter_mut().find(|at| **at == Some(range)) {
            Some(at) => *at = None,
            None => self.leaving_somewhere = self.leaving_somewhere.saturating_sub(1),
        }
    }

    /// Whether a busy range has an address in `range`.
    #[inline]
    pub(super) fn is_busy(&self, range: IovaRange) -> bool {
        if self.busy == 0 || range == IovaRange::ALL {
            return self.busy != 0;
        }
        if self.is_leaving(range) {
            return true;
        }
        let mut left = Some(range);
        while let Some(found) = left.and_then(|left| self.ranges.first_overlap(left)) {
            if self.ranges.get(found).is_some_and(RangeEntry::is_busy) {
                return true;
            }
            left = range.above(&found);
        }
        false
    }
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
