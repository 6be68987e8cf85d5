// SPDX-License-Identifier: GPL-2.0

//! What of guests' tables is mapped.
//!
//! Lock: `Shadow::record`, not held while memory is pinned, mapped or unmapped. Who has
//! `Shadow::work` is the only one to change what is mapped.

use kernel::prelude::*;
use vfio_kernel::iommu::{
    Attachment,
    ShadowExtent, //
};

use super::entry::{
    entries,
    Entry, //
};
use crate::iova::{
    nested::diff::{
        Entering,
        Extent as _, //
    },
    Allowed,
    IovaRange,
    Map, //
};

/// A group in the address space, with what it can have mapped.
pub(super) struct ShadowMember {
    pub(super) attachment: Attachment,
    pub(super) allowed: Allowed,
}

/// The state of an address space.
pub(super) struct Record {
    pub(super) map: Map<Entry>,
    /// It differs from what is mapped.
    pub(super) unsettled: bool,
    /// What is mapped and is to leave.
    pub(super) leaving: KVVec<ShadowExtent>,
    /// Pages that are pinned, and entries of guests' tables, of all that is in `map`.
    pub(super) pages: u64,
    pub(super) entries: u64,
    pub(super) members: KVec<ShadowMember>,
    /// What may be mapped: what all groups translate and none reserves; nothing without a group.
    pub(super) allowed: Option<Allowed>,
    /// How often a group was attached.
    pub(super) attached: u64,
}

impl Record {
    pub(super) fn new() -> Self {
        Self {
            map: Map::new(),
            unsettled: false,
            leaving: KVVec::new(),
            pages: 0,
            entries: 0,
            members: KVec::new(),
            allowed: None,
            attached: 0,
        }
    }

    /// Takes what is exactly in `range` out.
    pub(super) fn remove(&mut self, range: IovaRange) -> Option<Entry> {
        let entry = self.map.remove(range)?;
        self.pages = self.pages.saturating_sub(entry.pinned() as u64);
        self.entries = self.entries.saturating_sub(entries(entry.unit(), range));
        Some(entry)
    }

    /// Adds what is to be in a range.
    pub(super) fn insert(&mut self, new: Entering<Entry>) {
        let Entering { range, pages, slot } = new;
        self.pages = self.pages.saturating_add(pages.pinned() as u64);
        self.entries = self.entries.saturating_add(entries(pages.unit(), range));
        self.map.insert(range.last(), Entry::Other(pages), slot);
    }

    /// Takes out what could not be mapped in `range`, of which nothing is known any more.
    #[cold]
    pub(super) fn forget(&mut self, range: IovaRange) {
        let _ = self.map.remove(range);
        (self.pages, self.entries) = (0, 0);
        for (range, entry) in self.map.iter() {
            self.pages = self.pages.saturating_add(entry.pinned() as u64);
            self.entries = self.entries.saturating_add(entries(entry.unit(), range));
        }
    }
}
