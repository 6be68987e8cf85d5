// SPDX-License-Identifier: GPL-2.0

//! What is to be mapped in a range: what a guest's table says, or its memory slots.
//!
//! Pages are pinned as they are found, in batches of adjacent I/O addresses, and compared with the
//! record at once: what is there already is unpinned again, so no more than one batch of it is
//! pinned twice. Nothing is changed here.

use kernel::{
    page::PAGE_SHIFT,
    prelude::*, //
};
use vfio_kernel::{
    iommu::{
        Largest,
        Prot,
        ShadowPages, //
    },
    kvm_slots::MemSlot,
    params,
    sched,
    uapi,
    user_area::UserArea,
    user_sized, //
};

use super::{
    entry::New,
    guest::{
        GuestMemory,
        Part, //
    },
    Shadow, //
};
use crate::iova::{
    nested::{
        diff::FoundExtent,
        format::{
            EntryAccess,
            Reason, //
        },
        walk::{
            Leaf,
            Visitor,
            WalkFault, //
        },
    },
    IovaRange, //
};

/// A batch ends before each multiple of so many bytes.
const BATCH: u64 = 1 << 21;
/// The same where the memory slots say what is mapped.
const LARGE_BATCH: u64 = 1 << 30;
/// Entries between two looks whether somebody wants this to end.
const PAUSE: u32 = 512;
const PAGE: u64 = 1 << PAGE_SHIFT;

/// Whether bad entries end a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WalkMode {
    /// They are counted.
    Lenient,
    /// The first one does.
    Strict,
}

/// Guest memory at adjacent I/O addresses, and at adjacent addresses of its process.
#[derive(Clone, Copy)]
struct LeafPiece {
    range: IovaRange,
    vaddr: usize,
    prot: Prot,
    largest: Largest,
    /// The guest's address, and the level of the entry.
    gpa: u64,
    level: u16,
}

/// What is found, in ascending order.
pub(super) struct Finder<'a> {
    shadow: &'a Shadow,
    guest: GuestMemory<'a>,
    /// The addresses of the binding.
    window: IovaRange,
    /// What may be mapped.
    allowed: &'a [IovaRange],
    mode: WalkMode,
    /// What was found.
    pub(super) found: KVVec<(IovaRange, FoundExtent<New>)>,
    /// What was walked: all of the range, and of the entries that have a part of it.
    pub(super) walked: IovaRange,
    pub(super) result: uapi::vfio_kvm_walk_result,
    /// Pages that are pinned and not compared yet, from this address on.
    batch: Option<(u64, ShadowPages)>,
    /// What is to be pinned next, adjacent to the batch.
    piece: Option<LeafPiece>,
    /// Entries that there still may be.
    budget: u32,
    until_pause: u32,
}

impl<'a> Finder<'a> {
    pub(super) fn new(
        shadow: &'a Shadow,
        guest: GuestMemory<'a>,
        window: IovaRange,
        range: IovaRange,
        allowed: &'a [IovaRange],
        mode: WalkMode,
    ) -> Self {
        Self {
            shadow,
            guest,
            window,
            allowed,
            mode,
            found: KVVec::new(),
            walked: range,
            result: uapi::vfio_kvm_walk_result::default(),
            batch: None,
            piece: None,
            budget: params::kvm_entry_limit(),
            until_pause: PAUSE,
        }
    }

    /// All slots are to be mapped at their guest addresses, as far as they are in `range`; what
    /// `known` has is there already.
    ///
    /// # Errors
    ///
    /// As a [walk](crate::iova::nested::walk::walk).
    pub(super) fn find_slots(
        &mut self,
        slots: &[MemSlot],
        known: &[MemSlot],
        access: EntryAccess,
        range: IovaRange,
    ) -> Result {
        // Both are in order.
        let mut known = known.iter().peekable();
        for slot in slots {
            self.step()?;
            let Some(all) = IovaRange::from_last(slot.gpa, slot.last) else {
                continue;
            };
            let Some(part) = all.intersection(&range) else {
                continue;
            };
            while known.next_if(|known| known.gpa < slot.gpa).is_some() {}
            let mut left = Some(part);
            if known.peek().is_some_and(|known| *known == slot) {
                self.same(part)?;
                left = None;
            }
            let write = access.write && !slot.read_only;
            while let Some(rest) = left {
                let last = rest.start() | LARGE_BATCH.wrapping_sub(1);
                let next = IovaRange::from_last(rest.start(), last.min(rest.last()));
                let Some(next) = next else { break };
                left = rest.above(&next);
                self.target(
                    next,
                    *slot,
                    next.start(),
                    Prot::new(true, write),
                    Largest::Large,
                    0,
                )?;
                self.end_piece()?;
                self.end_batch()?;
            }
        }
        Ok(())
    }

    /// Ends the search.
    pub(super) fn finish(&mut self) -> Result {
        self.end_piece()?;
        self.end_batch()?;
        self.result.done = bytes(self.walked);
        Ok(())
    }

    /// A number that differs after a change of the memory slots.
    pub(super) fn generation(&self) -> u64 {
        self.guest.generation()
    }

    /// Maps what a slot has from the guest address `gpa` on to `range`, as far as that is allowed.
    fn target(
        &mut self,
        range: IovaRange,
        slot: MemSlot,
        gpa: u64,
        prot: Prot,
        largest: Largest,
        level: u16,
    ) -> Result {
        let allowed = self.allowed;
        let mut bytes_left = bytes(range);
        for allowed in allowed {
            let Some(part) = allowed.intersection(&range) else {
                continue;
            };
            bytes_left = bytes_left.saturating_sub(bytes(part));
            let offset = part.start().wrapping_sub(range.start());
            let gpa = gpa.wrapping_add(offset);
            self.add(LeafPiece {
                range: part,
                vaddr: slot.vaddr.wrapping_add(gpa.wrapping_sub(slot.gpa) as usize),
                prot,
                largest,
                gpa,
                level,
            })?;
        }
        if bytes_left != 0 {
            let first = allowed
                .iter()
                .filter(|allowed| allowed.start() <= range.start())
                .find(|allowed| range.start() <= allowed.last())
                .and_then(|allowed| allowed.last().checked_add(1))
                .unwrap_or(range.start());
            self.fault(WalkFault {
                iova: first,
                gpa: gpa.wrapping_add(first.wrapping_sub(range.start())),
                reason: Reason::ReservedIova,
                level,
            })?;
        }
        Ok(())
    }

    /// Adds a piece behind those before.
    fn add(&mut self, piece: LeafPiece) -> Result {
        if let Some(last) = &mut self.piece {
            let follows = last.range.last().wrapping_add(1) == piece.range.start()
                && last.vaddr.wrapping_add(bytes(last.range) as usize) == piece.vaddr
                && last.prot == piece.prot
                && last.largest == piece.largest
                && piece.range.start() % BATCH != 0;
            let both = IovaRange::from_last(last.range.start(), piece.range.last());
            if let Some(both) = both.filter(|_| follows) {
                last.range = both;
                return Ok(());
            }
        }
        self.end_piece()?;
        self.piece = Some(piece);
        Ok(())
    }

    /// Pins the last piece, behind the batch if it belongs there.
    fn end_piece(&mut self) -> Result {
        let Some(piece) = self.piece.take() else {
            return Ok(());
        };
        let mut left = Some(piece.range);
        while let Some(rest) = left {
            let npages = (bytes(rest) >> PAGE_SHIFT) as usize;
            let vaddr = piece.vaddr_of(rest.start());
            let pages = self.batch_for(rest.start(), &piece)?;
            let total = pages.npages().saturating_add(npages);
            let (count, result) = pages.pin(vaddr, npages, total);
            let pinned = (count as u64) << PAGE_SHIFT;
            self.result.mapped = self.result.mapped.saturating_add(pinned);
            match result {
                Ok(()) => return Ok(()),
                Err(err) if err == ENOMEM || err == EINTR => return Err(err),
                Err(_) => {}
            }
            // Not what can be pinned: a BAR maybe.
            self.end_batch()?;
            let at = rest.start().saturating_add(pinned);
            let Some(rest) = IovaRange::from_last(at, rest.last()) else {
                return Ok(());
            };
            let done = self.find_bar(rest, &piece)?;
            left = rest.above(&done);
            sched::pause()?;
            self.shadow.machines.check_bound()?;
        }
        Ok(())
    }

    /// The batch that a page at `iova` goes to.
    fn batch_for(&mut self, iova: u64, piece: &LeafPiece) -> Result<&mut ShadowPages> {
        let fits = self.batch.as_ref().is_some_and(|(start, pages)| {
            let next = start.wrapping_add((pages.npages() as u64) << PAGE_SHIFT);
            next == iova && iova % BATCH != 0 && pages.is_for(piece.prot, piece.largest)
        });
        if !fits {
            self.end_batch()?;
        }
        let new = || (iova, ShadowPages::none(piece.prot, piece.largest));
        Ok(&mut self.batch.get_or_insert_with(new).1)
    }

    /// Compares the batch with what is there, and keeps it if it differs.
    fn end_batch(&mut self) -> Result {
        let Some((start, mut pages)) = self.batch.take() else {
            return Ok(());
        };
        let size = (pages.npages() as u64) << PAGE_SHIFT;
        let Ok(range) = IovaRange::from_size(start, size) else {
            return Ok(());
        };
        pages.trim();
        self.compare(range, New::pages(start, pages)?)
    }

    fn compare(&mut self, range: IovaRange, new: New) -> Result {
        if self.shadow.is_same(range, &new) {
            return self.add_same(range);
        }
        Ok(self
            .found
            .push((range, FoundExtent::New(new)), user_sized::gfp())?)
    }

    /// What is there in `range` is so.
    fn same(&mut self, range: IovaRange) -> Result {
        self.end_piece()?;
        self.end_batch()?;
        self.result.mapped = self.result.mapped.saturating_add(bytes(range));
        self.add_same(range)
    }

    fn add_same(&mut self, range: IovaRange) -> Result {
        if let Some((last, FoundExtent::Same)) = self.found.last_mut() {
            let both = IovaRange::from_last(last.start(), range.last());
            if let Some(both) = both.filter(|_| last.last().wrapping_add(1) == range.start()) {
                *last = both;
                return Ok(());
            }
        }
        Ok(self
            .found
            .push((range, FoundExtent::Same), user_sized::gfp())?)
    }

    /// What is at the start of `range` cannot be pinned. Returns for which part of it that is dealt
    /// with.
    fn find_bar(&mut self, range: IovaRange, piece: &LeafPiece) -> Result<IovaRange> {
        let page = IovaRange::from_last(range.start(), range.start() | PAGE.wrapping_sub(1));
        let page = page.unwrap_or(range);
        // A BAR is mapped entry by entry, as it cannot be cut.
        let last = match piece.level {
            0 => range.last(),
            _ => range.start() | (piece.largest.bytes() as u64).wrapping_sub(1),
        };
        let wanted = IovaRange::from_last(range.start(), last.min(range.last())).unwrap_or(page);
        let vaddr = piece.vaddr_of(range.start());
        let writable = piece.prot.writable();
        if let Ok(UserArea::Own(part)) =
            (self.shadow.area_at)(vaddr, bytes(wanted) as usize, writable)
        {
            let size = part.len() as u64;
            if let Ok(range) = IovaRange::from_size(range.start(), size) {
                self.result.mapped = self.result.mapped.saturating_add(size);
                self.compare(range, New::bar(range.start(), part, piece.prot)?)?;
                return Ok(range);
            }
        }
        self.fault(WalkFault {
            iova: range.start(),
            gpa: piece
                .gpa
                .wrapping_add(range.start().wrapping_sub(piece.range.start())),
            reason: Reason::NotPinned,
            level: piece.level,
        })?;
        Ok(page)
    }
}

impl LeafPiece {
    fn vaddr_of(&self, iova: u64) -> usize {
        self.vaddr
            .wrapping_add(iova.wrapping_sub(self.range.start()) as usize)
    }
}

/// How many bytes; one less for all.
pub(super) fn bytes(range: IovaRange) -> u64 {
    range.size().unwrap_or(u64::MAX)
}

impl Visitor for Finder<'_> {
    fn read(&mut self, gpa: u64, entries: &mut [u64]) -> Result<bool> {
        self.guest.read(gpa, entries)
    }

    fn step(&mut self) -> Result {
        self.budget = self.budget.checked_sub(1).ok_or(ENOMEM)?;
        self.until_pause = self.until_pause.saturating_sub(1);
        if self.until_pause == 0 {
            self.until_pause = PAUSE;
            sched::pause()?;
            self.shadow.machines.check_bound()?;
        }
        Ok(())
    }

    fn leaf(&mut self, leaf: Leaf) -> Result {
        let Some(range) = leaf.range.intersection(&self.window) else {
            return Ok(());
        };
        let start = self.walked.start().min(range.start());
        let last = self.walked.last().max(range.last());
        self.walked = IovaRange::from_last(start, last).unwrap_or(self.walked);

        let largest = Largest::up_to(bytes(leaf.range));
        let prot = Prot::new(leaf.access.read, leaf.access.write);
        let mut left = Some(range);
        while let Some(rest) = left {
            let offset = rest.start().wrapping_sub(leaf.range.start());
            let gpa = leaf.gpa.wrapping_add(offset);
            let gpa_last = gpa.saturating_add(bytes(rest).wrapping_sub(1));
            let fault = |reason| WalkFault {
                iova: rest.start(),
                gpa,
                reason,
                level: leaf.level,
            };
            let part = self.guest.part(gpa, gpa_last)?;
            let part_last = match &part {
                Part::Hole(last) => *last,
                Part::Slot(slot) => slot.last.min(gpa_last),
            };
            let iova_last = rest.start().saturating_add(part_last.wrapping_sub(gpa));
            let Some(iovas) = IovaRange::from_last(rest.start(), iova_last) else {
                break;
            };
            match part {
                Part::Hole(_) => self.fault(fault(Reason::TargetOutside))?,
                Part::Slot(slot) if slot.read_only && leaf.access.write => {
                    self.fault(fault(Reason::ReadOnly))?;
                }
                Part::Slot(slot) => self.target(iovas, slot, gpa, prot, largest, leaf.level)?,
            }
            left = rest.above(&iovas);
        }
        Ok(())
    }

    fn fault(&mut self, fault: WalkFault) -> Result {
        if self.result.fault_count == 0 {
            self.result.fault_iova = fault.iova;
            self.result.fault_gpa = fault.gpa;
            self.result.fault_reason = fault.reason as u16;
            self.result.fault_level = fault.level;
        }
        self.result.fault_count = self.result.fault_count.saturating_add(1);
        if self.mode == WalkMode::Lenient {
            return Ok(());
        }
        Err(match fault.reason {
            Reason::TableOutside | Reason::TargetOutside | Reason::NotPinned => EFAULT,
            Reason::ReadOnly => EPERM,
            Reason::Reserved
            | Reason::Misaligned
            | Reason::ReservedIova
            | Reason::WrongType
            | Reason::BeyondGpaBits => EINVAL,
        })
    }
}
