// SPDX-License-Identifier: GPL-2.0

//! What of guests' tables is mapped, and the way from one state to the next.
//!
//! A walk is [taken over](Shadow::take_over) into the record first: what has to leave goes to a
//! list, what enters waits in the record, and nothing that a device sees has changed. Then all of
//! it is [settled](Shadow::settle) together: unmapped, the IOMMU told once, unpinned, mapped. No
//! group may be attached in between.
//!
//! Lock: `Shadow::record`, not held while memory is pinned, mapped or unmapped. Who has
//! `Shadow::work` is the only one to change what is mapped.

use core::mem::replace;
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    iommu::{
        self,
        Arrivals,
        Attachment,
        Prot,
        Replay,
        ShadowExtent,
        ShadowPages, //
    },
    locked_vm::{
        self,
        LockedVm,
        Tenant, //
    },
    params, sched,
};

use super::Shadow;
use crate::{
    backend::p2p::{
        BarMapping,
        BarPart,
        BarPieces, //
    },
    iova::{
        nested::diff::{
            self,
            Change,
            Compared,
            Entering,
            Extent,
            Found,
            Pages,
            Unit, //
        },
        Allowed,
        IovaRange,
        Map,
        Starts, //
    },
};

/// Extents that leave together when memory for a list of them may be short.
const BATCH: usize = 1024;

/// A part of the record.
pub(super) enum Entry {
    /// Pinned and mapped.
    Mapped(ShadowExtent),
    Other(New),
}

/// What is not mapped yet, or is a device's.
pub(super) struct New(KBox<Other>);

struct Other {
    start: u64,
    what: What,
}

enum What {
    /// Pinned, to be mapped.
    Pages(ShadowPages),
    /// A part of a BAR; to be mapped if it is not.
    Bar {
        part: BarPart,
        prot: Prot,
        mapping: Option<BarMapping>,
    },
    /// It is somewhere else for a moment.
    Taken,
}

impl New {
    /// Pages for the I/O address `start` on.
    pub(super) fn pages(start: u64, pages: ShadowPages) -> Result<Self> {
        Self::with(start, What::Pages(pages))
    }

    /// A part of a BAR.
    pub(super) fn bar(start: u64, part: BarPart, prot: Prot) -> Result<Self> {
        let mapping = None;
        Self::with(
            start,
            What::Bar {
                part,
                prot,
                mapping,
            },
        )
    }

    fn with(start: u64, what: What) -> Result<Self> {
        Ok(Self(KBox::new(Other { start, what }, GFP_KERNEL_ACCOUNT)?))
    }

    /// How many pages that are paid for.
    fn pinned(&self) -> usize {
        match &self.0.what {
            What::Pages(pages) => pages.npages(),
            What::Bar { .. } | What::Taken => 0,
        }
    }

    fn unit(&self) -> Unit {
        match &self.0.what {
            What::Pages(pages) => Unit::Bytes(pages.largest().bytes() as u64),
            What::Bar { .. } | What::Taken => Unit::Whole,
        }
    }
}

impl Pages for New {
    fn cut_front(&mut self, npages: usize) -> Result<Self> {
        let Other { start, what } = &mut *self.0;
        let What::Pages(pages) = what else {
            return Err(EINVAL);
        };
        // The box first: what was cut off cannot be put back.
        let mut front = Self::with(*start, What::Taken)?;
        front.0.what = What::Pages(pages.cut_front(npages)?);
        *start = start.wrapping_add((npages as u64) << PAGE_SHIFT);
        Ok(front)
    }
}

impl Starts for Entry {
    fn start(&self) -> u64 {
        match self {
            Self::Mapped(extent) => extent.iova(),
            Self::Other(other) => other.0.start,
        }
    }
}

impl Extent for Entry {
    type New = New;

    fn unit(&self) -> Unit {
        match self {
            Self::Mapped(extent) => Unit::Bytes(extent.largest().bytes() as u64),
            Self::Other(other) => other.unit(),
        }
    }

    fn cut_front(&mut self, npages: usize) -> Result<Self> {
        match self {
            Self::Mapped(extent) => extent.cut_front(npages).map(Self::Mapped),
            Self::Other(other) => other.cut_front(npages).map(Self::Other),
        }
    }

    fn compare(&self, at: usize, new: &New, new_at: usize, most: usize) -> Compared {
        let compared = match (self, &new.0.what) {
            (Self::Mapped(extent), What::Pages(pages)) => extent.compare(at, pages, new_at, most),
            (Self::Other(New(other)), new) => match (&other.what, new) {
                (What::Pages(old), What::Pages(new)) => old.compare(at, new, new_at, most),
                (
                    What::Bar { part, prot, .. },
                    What::Bar {
                        part: new,
                        prot: new_prot,
                        ..
                    },
                ) => {
                    let whole = (at, new_at, most) == (0, 0, new.len() >> PAGE_SHIFT);
                    (whole && prot == new_prot && part.is_same(new), most)
                }
                _ => (false, most),
            },
            _ => (false, most),
        };
        match compared {
            (true, count) => Compared::Same(count),
            (false, count) => Compared::Other(count),
        }
    }
}

impl Entry {
    /// Maps pinned pages in a new domain too; all is settled.
    pub(super) fn replay(&self, replay: &Replay<'_>) -> Result {
        match self {
            Self::Mapped(extent) => replay.add_extent(extent),
            Self::Other(_) => Ok(()),
        }
    }

    /// Maps the rest in domains that came since.
    pub(super) fn refill(&self) -> Result {
        match self {
            Self::Mapped(_) => Ok(()),
            Self::Other(New(other)) => match &other.what {
                What::Bar { mapping, .. } => {
                    let mapping = mapping.as_ref();
                    mapping.map_or(Ok(()), |mapping| mapping.mapping().refill())
                }
                What::Pages(_) | What::Taken => Ok(()),
            },
        }
    }

    /// What it is, for debugfs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Mapped(_) => "memory",
            Self::Other(New(other)) => match &other.what {
                What::Bar { .. } => "memory of a device",
                What::Pages(_) | What::Taken => "memory, not yet",
            },
        }
    }

    /// How many pages that are paid for.
    fn pinned(&self) -> usize {
        match self {
            Self::Mapped(extent) => extent.npages(),
            Self::Other(other) => other.pinned(),
        }
    }
}

/// How many entries of a guest's table `range` is, at least.
fn entries(unit: Unit, range: IovaRange) -> u64 {
    match unit {
        Unit::Bytes(unit) => {
            let shift = unit.trailing_zeros();
            let number = |iova: u64| iova.checked_shr(shift).unwrap_or(0);
            number(range.last())
                .wrapping_sub(number(range.start()))
                .saturating_add(1)
        }
        Unit::Whole => 1,
    }
}

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
    leaving: KVVec<ShadowExtent>,
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
    fn remove(&mut self, range: IovaRange) -> Option<Entry> {
        let entry = self.map.remove(range)?;
        self.pages = self.pages.saturating_sub(entry.pinned() as u64);
        self.entries = self.entries.saturating_sub(entries(entry.unit(), range));
        Some(entry)
    }

    /// Adds what is to be in a range.
    fn insert(&mut self, new: Entering<Entry>) {
        let Entering { range, pages, slot } = new;
        self.pages = self.pages.saturating_add(pages.pinned() as u64);
        self.entries = self.entries.saturating_add(entries(pages.unit(), range));
        self.map.insert(range.last(), Entry::Other(pages), slot);
    }

    /// Takes out what could not be mapped in `range`, of which nothing is known any more.
    #[cold]
    fn forget(&mut self, range: IovaRange) {
        let _ = self.map.remove(range);
        (self.pages, self.entries) = (0, 0);
        for (range, entry) in self.map.iter() {
            self.pages = self.pages.saturating_add(entry.pinned() as u64);
            self.entries = self.entries.saturating_add(entries(entry.unit(), range));
        }
    }
}

/// What is owed and paid on the way to the next state.
pub(super) struct Ledger {
    tenant: Arc<Tenant>,
    /// What was paid ahead.
    locked: LockedVm,
    /// Pages that enter, and that leave.
    entering: usize,
    leaving: usize,
    /// What had to stay out although it was found: the first address, and why.
    pub(super) refused: Option<(u64, Error)>,
    /// Parts of BARs that do not answer now, where the first one is, and how many.
    pub(super) silent: Option<(u64, u32)>,
}

impl Ledger {
    /// Nothing yet, for the current process.
    pub(super) fn new(tenant: Arc<Tenant>) -> Result<Self> {
        Ok(Self {
            locked: LockedVm::charge(tenant.clone(), 0)?,
            tenant,
            entering: 0,
            leaving: 0,
            refused: None,
            silent: None,
        })
    }

    /// Pays for what enters more than leaves.
    ///
    /// # Errors
    ///
    /// As [`LockedVm::charge`]; then nothing has changed.
    fn pay(&mut self, entering: usize, leaving: usize) -> Result {
        let all_entering = self.entering.saturating_add(entering);
        let all_leaving = self.leaving.saturating_add(leaving);
        let paid = all_leaving.saturating_add(self.locked.npages());
        if let Some(more) = all_entering.checked_sub(paid).filter(|more| *more != 0) {
            let more = LockedVm::charge(self.tenant.clone(), more).inspect_err(|err| {
                if *err == ENOMEM {
                    locked_vm::warn(more);
                }
            })?;
            self.locked.join(more);
        }
        (self.entering, self.leaving) = (all_entering, all_leaving);
        Ok(())
    }
}

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
        found: KVVec<(IovaRange, Found<New>)>,
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
        record.leaving.reserve(mapped, GFP_KERNEL_ACCOUNT)?;
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
                    let _ = gone.push(what, GFP_KERNEL_ACCOUNT);
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
            let mut extents = KVVec::with_capacity(BATCH, GFP_KERNEL).unwrap_or(KVVec::new());
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

impl Ledger {
    fn refuse(&mut self, iova: u64, why: Error) {
        if self.refused.is_none_or(|(first, _)| iova < first) {
            self.refused = Some((iova, why));
        }
    }

    /// Notes that what should be in `range` is not.
    fn fail(&mut self, range: IovaRange, why: Error) {
        if why != EFAULT {
            return self.refuse(range.start(), why);
        }
        let (first, count) = self.silent.unwrap_or((range.start(), 0));
        self.silent = Some((first, count.saturating_add(1)));
    }
}
