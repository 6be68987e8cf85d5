// SPDX-License-Identifier: GPL-2.0

//! Which ranges of the address space are taken, and which may be.

use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::CondVar, //
};
use vfio_kernel::{
    iommu::{
        Attachment,
        IoMapping, //
    },
    locked_vm::LockedVm,
    params,
};

use super::mixed::Mixed;
use crate::iova::{
    Allowed,
    IovaRange,
    Map, //
};

/// A mutex guard over [`Maps`].
pub(super) type Guard<'a> = kernel::sync::lock::mutex::MutexGuard<'a, Maps>;

/// What a taken range holds.
pub(super) enum Entry {
    /// Somebody is filling or emptying it, without the lock.
    Busy,
    /// Pinned, mapped and accounted memory.
    Ready(Mapped),
}

/// Memory that devices reach. Unmapped and unpinned first, then no longer accounted.
pub(super) struct Mapped {
    pub(super) content: Content,
    pub(super) locked: LockedVm,
    /// The user took the address back; see `vaddr.rs`.
    pub(super) vaddr_invalid: bool,
}

/// What is mapped.
pub(super) enum Content {
    /// Pinned pages.
    Pages(IoMapping),
    /// Not only pinned pages.
    Mixed(KBox<Mixed>),
}

/// Ranges that can be emptied at a time; whoever comes next waits.
const LEAVING: usize = 8;

/// A group in the address space, with what it can have mapped.
pub(super) struct Member {
    pub(super) attachment: Attachment,
    pub(super) allowed: Allowed,
}

/// The state of an address space.
pub(super) struct Maps {
    pub(super) ranges: Map<Entry>,
    /// How many ranges are busy.
    pub(super) busy: usize,
    /// Busy ranges that are no longer in `ranges`, as they are being emptied.
    leaving: [Option<IovaRange>; LEAVING],
    /// How many threads wait for one not to be busy.
    waiting: usize,
    /// How many more ranges the user may take.
    pub(super) avail: u32,
    /// What may be mapped: what all groups translate and none reserves; nothing without a group.
    pub(super) allowed: Option<Allowed>,
    /// The page sizes of the address space, one bit each.
    pub(super) pgsizes: usize,
    pub(super) members: KVec<Member>,
    /// Whether the user asked for dirty pages to be tracked.
    pub(super) dirty: bool,
    /// How many mappings have no address.
    pub(super) vaddr_invalid: usize,
}

impl Maps {
    pub(super) fn new() -> Self {
        Self {
            ranges: Map::new(),
            busy: 0,
            leaving: [None; LEAVING],
            waiting: 0,
            avail: params::dma_entry_limit(),
            allowed: None,
            pgsizes: cpu_pgsizes(usize::MAX),
            members: KVec::new(),
            dirty: false,
            vaddr_invalid: 0,
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

    /// Whether an address in `range` is in a range that is being emptied.
    pub(super) fn is_leaving(&self, range: IovaRange) -> bool {
        self.busy != 0 && self.leaving.iter().flatten().any(|at| at.overlaps(&range))
    }

    /// Notes that `range` is busy being emptied; returns `false` if too many are.
    pub(super) fn begin_leaving(&mut self, range: IovaRange) -> bool {
        let Some(free) = self.leaving.iter_mut().find(|at| at.is_none()) else {
            return false;
        };
        *free = Some(range);
        self.busy = self.busy.saturating_add(1);
        true
    }

    /// Notes that `range` is empty, or back. It is busy until [`end_busy`].
    pub(super) fn end_leaving(&mut self, range: IovaRange) {
        if let Some(at) = self.leaving.iter_mut().find(|at| **at == Some(range)) {
            *at = None;
        }
    }

    /// Whether a busy range has an address in `range`.
    #[inline]
    fn is_busy(&self, range: IovaRange) -> bool {
        if self.busy == 0 || range == IovaRange::ALL {
            return self.busy != 0;
        }
        if self.is_leaving(range) {
            return true;
        }
        let mut left = Some(range);
        while let Some(found) = left.and_then(|left| self.ranges.first_overlap(left)) {
            if matches!(self.ranges.get(found), Some(Entry::Busy)) {
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

/// Waits until no range with an address in `range` is busy.
#[inline]
pub(super) fn wait_idle(maps: &mut Guard<'_>, idle: &CondVar, range: IovaRange) {
    while maps.is_busy(range) {
        wait(maps, idle);
    }
}

/// Waits until some range is no longer busy.
pub(super) fn wait(maps: &mut Guard<'_>, idle: &CondVar) {
    maps.waiting = maps.waiting.saturating_add(1);
    idle.wait(maps);
    maps.waiting = maps.waiting.saturating_sub(1);
}

/// Says that a range is no longer busy.
pub(super) fn end_busy(maps: &mut Guard<'_>, idle: &CondVar) {
    maps.busy = maps.busy.saturating_sub(1);
    if maps.waiting != 0 {
        idle.notify_all();
    }
}
