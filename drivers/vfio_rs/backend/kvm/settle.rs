// SPDX-License-Identifier: GPL-2.0

//! The way from one state of the record to the next.
//!
//! A walk is [taken over](Shadow::take_over) into the record first: what has to leave goes to a
//! list, what enters waits in the record, and nothing that a device sees has changed. Then all of
//! it is [settled](Shadow::settle) together: unmapped, the IOMMU told once, unpinned, mapped. No
//! group may be attached in between.
//!
//! Locks: `Shadow::work`, which the caller has, and `Shadow::record`.

use core::mem::replace;
use kernel::prelude::*;
use vfio_kernel::{
    iommu::{
        self,
        Arrivals,
        Prot,
        ShadowExtent, //
    },
    params, sched, user_sized,
};

use super::{
    entry::{
        entries,
        Entry,
        New,
        What, //
    },
    ledger::Ledger,
    Shadow, //
};
use crate::{
    backend::p2p::{
        BarPart,
        BarPieces, //
    },
    iova::{
        nested::diff::{
            self,
            Change,
            Extent as _,
            FoundExtent, //
        },
        IovaRange, //
    },
};

/// Extents that leave together when memory for a list of them may be short.
const BATCH: usize = 1024;

impl Shadow {
    /// Whether exactly `new` is what the record has in `range`.
    pub(super) fn is_same(&self, range: IovaRange, new: &New) -> bool {
        diff::is_same(&self.record.lock().map, range, new)
    }

    /// Has the record be in `range`, which is [`widened`](diff::widened), what was `found`, and
    /// nothing else. [`settle`](Self::settle) must follow. `attached` is how often a group had been
    /// attached when what may be mapped was looked at. The caller has `work`.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if a group was attached meanwhile; `ENOMEM`, also if there are too many entries or
    /// too much locked memory; `EINTR`. Then nothing has changed.
    pub(super) fn take_over(
        &self,
        ledger: &mut Ledger,
        range: IovaRange,
        attached: u64,
        found: KVVec<(IovaRange, FoundExtent<New>)>,
    ) -> Result {
        let mut record = self.record.lock();
        let change = Change::of(&mut record.map, range, found)?;
        if change.leaving.is_empty() && change.entering.is_empty() {
            return Ok(());
        }
        let (mut leaving, mut fewer, mut mapped) = (0usize, 0u64, 0usize);
        for range in change.leaving.iter() {
            if let Some(entry) = record.map.get(*range) {
                fewer = fewer.saturating_add(entries(entry.unit(), *range));
                leaving = leaving.saturating_add(entry.pinned());
                mapped = mapped.saturating_add(1);
            }
        }
        let (mut entering, mut more) = (0usize, 0u64);
        for new in change.entering.iter() {
            more = more.saturating_add(entries(new.pages.unit(), new.range));
            entering = entering.saturating_add(new.pages.pinned());
        }
        let all = record.entries.saturating_add(more).saturating_sub(fewer);
        if all > params::kvm_entry_limit().into() && more > fewer {
            return Err(ENOMEM);
        }
        record.leaving.reserve(mapped, user_sized::gfp())?;
        drop(record);

        // Waits for the process's memory. What is mapped stays as it is meanwhile, as nobody else
        // has `work`.
        ledger.pay(entering, leaving)?;
        let mut record = self.record.lock();
        if record.attached != attached {
            // What was paid is given back, or used by who tries again.
            ledger.entering = ledger.entering.saturating_sub(entering);
            ledger.leaving = ledger.leaving.saturating_sub(leaving);
            return Err(EAGAIN);
        }
        record.unsettled = true;
        let mut gone = KVVec::new();
        for range in change.leaving {
            match record.remove(range) {
                // There is room.
                Some(Entry::Mapped(extent)) => {
                    let _ = record.leaving.push_within_capacity(extent);
                }
                // Not mapped yet, or a BAR: it goes by itself, without the lock.
                Some(Entry::Other(New(mut other))) => {
                    if let What::Pages(pages) = &other.what {
                        // It was counted as entering before.
                        let pinned = pages.npages();
                        ledger.entering = ledger.entering.saturating_sub(pinned);
                        ledger.leaving = ledger.leaving.saturating_sub(pinned);
                    }
                    let what = replace(&mut other.what, What::Taken);
                    // Without memory for the list it goes under the lock.
                    let _ = gone.push(what, user_sized::gfp());
                }
                None => {}
            }
        }
        for new in change.entering {
            record.insert(new);
        }
        drop(record);
        drop(gone);
        Ok(())
    }

    /// Maps and unmaps what the record says; the IOMMU is told once of what goes, and once of what
    /// comes. `ranges` have all that is not mapped yet. What cannot be is taken out, and noted in
    /// the ledger. The caller has `work`.
    pub(super) fn settle(&self, ledger: &mut Ledger, ranges: &[IovaRange]) {
        let mut record = self.record.lock();
        if !record.unsettled {
            return;
        }
        let leaving = replace(&mut record.leaving, KVVec::new());
        drop(record);

        if !leaving.is_empty() {
            let (paid, departed) = iommu::depart(&ledger.tenant, leaving);
            // No device sees them any more.
            drop(departed);
            ledger.locked.join(paid);
        }
        let mut arrivals = Arrivals::none(&self.space, ledger.tenant.clone());
        for range in ranges {
            self.map_waiting(ledger, &mut arrivals, *range);
        }
        if let Err(err) = arrivals.finish() {
            // Devices may see some of it or not.
            for range in ranges {
                self.clear(*range);
                ledger.refuse(range.start(), err);
            }
        }
        self.record.lock().unsettled = false;
        (ledger.entering, ledger.leaving) = (0, 0);
    }

    /// Maps what waits in `range`.
    fn map_waiting(&self, ledger: &mut Ledger, arrivals: &mut Arrivals, range: IovaRange) {
        let mut left = Some(range);
        while let Some(rest) = left {
            let mut record = self.record.lock();
            let Some(place) = record.map.first_overlap(rest) else {
                return;
            };
            left = rest.above(&place);
            let Some(Entry::Other(New(other))) = record.map.get_mut(place) else {
                continue;
            };
            if matches!(
                &other.what,
                What::Bar {
                    mapping: Some(_),
                    ..
                }
            ) {
                continue;
            }
            let what = replace(&mut other.what, What::Taken);
            drop(record);

            let mapped = match what {
                What::Pages(pages) => {
                    let extent = arrivals.arrive(&mut ledger.locked, place.start(), pages);
                    extent.map(Entry::Mapped)
                }
                What::Bar { part, prot, .. } => self.map_bar(place, part, prot),
                What::Taken => Err(EINVAL),
            };
            let mut record = self.record.lock();
            match mapped {
                Ok(mapped) => {
                    if let Some(entry) = record.map.get_mut(place) {
                        *entry = mapped;
                    }
                }
                Err(err) => {
                    record.forget(place);
                    drop(record);
                    ledger.fail(place, err);
                }
            }
            sched::cond_resched();
        }
    }

    fn map_bar(&self, place: IovaRange, part: BarPart, prot: Prot) -> Result<Entry> {
        let pieces = BarPieces::new(self.space.part(place), part.clone())?;
        let mapping = Some(pieces.map(|pieces| self.space.add_devices(pieces, prot))?);
        let what = What::Bar {
            part,
            prot,
            mapping,
        };
        New::with(place.start(), what).map(Entry::Other)
    }

    /// Takes all out that has an address in `range`, as a whole, unmaps and unpins it. The caller
    /// has `work`. Waits for no user memory, and needs none.
    pub(super) fn clear(&self, range: IovaRange) {
        loop {
            // Without memory for a list they leave one by one.
            let mut extents =
                KVVec::with_capacity(BATCH, user_sized::gfp()).unwrap_or(KVVec::new());
            let mut one = None;
            let mut record = self.record.lock();
            while let Some(place) = record.map.first_overlap(range) {
                match record.remove(place) {
                    Some(Entry::Mapped(extent)) => {
                        if let Err(err) = extents.push_within_capacity(extent) {
                            one = Some(Entry::Mapped(err.0));
                        }
                    }
                    other => one = other,
                }
                if one.is_some() || extents.len() == extents.capacity() {
                    break;
                }
            }
            drop(record);
            let Some(tenant) = extents
                .first()
                .map(|extent: &ShadowExtent| extent.tenant().clone())
            else {
                if one.is_none() {
                    return;
                }
                continue;
            };
            drop(iommu::depart(&tenant, extents));
            drop(one);
            sched::cond_resched();
        }
    }

    /// Lets go of what was taken over and not settled. The caller has `work`.
    pub(super) fn drop_leaving(&self) {
        let mut record = self.record.lock();
        let leaving = replace(&mut record.leaving, KVVec::new());
        drop(record);
        if let Some(tenant) = leaving.first().map(|extent| extent.tenant().clone()) {
            drop(iommu::depart(&tenant, leaving));
        }
        self.record.lock().unsettled = false;
    }
}
