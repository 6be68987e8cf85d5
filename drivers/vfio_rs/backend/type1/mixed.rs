// SPDX-License-Identifier: GPL-2.0

//! Mappings of user memory that shows devices (`VM_PFNMAP`), in part or as a whole.
//!
//! Only looked at after pinning has failed, so that mappings of ordinary memory pay nothing for it.
//! Maps of our own devices' files are mapped as what they are, parts of BARs, without a fault: see
//! `pci/bar_dma.rs` for when devices reach them. Of all other areas what the page tables say at
//! this moment is mapped; nobody tells when it changes, as in C. Neither counts as locked memory.

use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    iommu::{
        DeviceMapping,
        DeviceMemory,
        IoMapping,
        Prot,
        Replay, //
    },
    locked_vm::{
        self,
        LockedVm,
        Tenant, //
    },
    pin::PinnedPages,
    sched,
    shared_page::SharedPage,
    user_area::{
        self,
        UserArea, //
    },
};

use super::{
    maps::Entry,
    Type1, //
};
use crate::{
    iova::IovaRange,
    pci::BarMapping,
    uapi::device, //
};

/// What a mapping consists of that has not only pinned pages.
pub(super) struct Mixed {
    parts: KVec<Part>,
    /// The user took the address back; see `vaddr.rs`.
    pub(super) vaddr_invalid: bool,
}

enum Part {
    Memory(IoMapping),
    Bar(BarMapping),
    Device(Arc<DeviceMapping>),
    Page(Arc<DeviceMapping>),
}

/// Memory of some device that was found and not mapped yet, and its place in the mapping.
struct Found {
    at: usize,
    memory: DeviceMemory,
}

impl Mixed {
    /// Maps the pinned pages in a new domain too.
    pub(super) fn replay(&self, replay: &Replay<'_>) -> Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Memory(io) => replay.add(io),
            Part::Bar(_) | Part::Device(_) | Part::Page(_) => Ok(()),
        })
    }

    /// Maps the rest in domains that came since.
    pub(super) fn refill(&self) -> Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Memory(_) => Ok(()),
            Part::Bar(bar) => bar.mapping().refill(),
            Part::Device(mapping) | Part::Page(mapping) => mapping.refill(),
        })
    }

    /// Has `tenant`, the current process, pay for the pinned pages.
    ///
    /// # Errors
    ///
    /// As [`LockedVm::charge`]; then nothing has changed.
    pub(super) fn pay_with(&mut self, tenant: Arc<Tenant>) -> Result {
        let mut npages = 0usize;
        self.others(|io| npages = npages.saturating_add(io.npages()));
        let mut locked = LockedVm::charge(tenant, npages)?;
        self.others(|io| {
            let part = locked.split(io.npages());
            // There is enough, and what paid so far gives back.
            let _ = part.and_then(|part| io.pay_with(part));
        });
        Ok(())
    }

    /// Calls `f` with the pinned pages for which the current process does not pay.
    fn others(&mut self, mut f: impl FnMut(&mut IoMapping)) {
        for part in &mut self.parts {
            match part {
                Part::Memory(io) if !io.is_current() => f(io),
                _ => {}
            }
        }
    }
}

impl Type1 {
    /// Whether exactly `range` has a page of the kernel's; see [`fill_page`](Self::fill_page).
    pub(in crate::backend) fn has_page(&self, range: IovaRange) -> bool {
        let maps = self.maps.lock();
        maps.ranges
            .get(range)
            .and_then(Entry::as_mixed)
            .is_some_and(|mixed| matches!(mixed.parts.as_slice(), [Part::Page(_)]))
    }

    /// Maps `size` bytes of which some may be a device's, if `check` likes the pages of the rest.
    /// Holds no lock; the range is busy.
    ///
    /// # Errors
    ///
    /// `why`, with which pinning all of it failed, if no device is there either, with a log line if
    /// it was the limit of locked memory; else as for pinned memory.
    #[cold]
    pub(super) fn fill_mixed(
        &self,
        range: IovaRange,
        vaddr: usize,
        size: usize,
        prot: Prot,
        check: &dyn Fn(&PinnedPages) -> Result,
        (why, over_limit): (Error, bool),
    ) -> Result<Entry> {
        let Some(memory) = user_area::memory_beside_devices(vaddr, size) else {
            if over_limit {
                locked_vm::warn(size >> PAGE_SHIFT);
            }
            return Err(why);
        };
        let tenant = self.maps.lock().tenant(&self.space)?;
        let mut locked = LockedVm::charge(tenant, memory >> PAGE_SHIFT).inspect_err(|err| {
            if *err == ENOMEM {
                locked_vm::warn(memory >> PAGE_SHIFT);
            }
        })?;
        let mut mixed = Mixed {
            parts: KVec::new(),
            vaddr_invalid: false,
        };
        let mut found: Option<Found> = None;
        let mut done = 0usize;
        while done < size {
            let at = vaddr.wrapping_add(done);
            let area = device::area_at(at, size.wrapping_sub(done), prot.writable())?;
            let iova = range.start().wrapping_add(done as u64);
            if let UserArea::Device(next) = area {
                let len = next.len();
                if !found.as_mut().is_some_and(|found| found.memory.join(next)) {
                    self.map_found(range, prot, found.take(), &mut mixed)?;
                    found = Some(Found {
                        at: done,
                        memory: next,
                    });
                }
                done = done.saturating_add(len);
                sched::cond_resched();
                continue;
            }
            self.map_found(range, prot, found.take(), &mut mixed)?;
            let (part, len) = match area {
                UserArea::Own((open, memory)) => {
                    let bar = open.map_for_dma(&self.space, iova, memory, prot)?;
                    (Part::Bar(bar), memory.len())
                }
                UserArea::Memory(len) => {
                    let npages = len >> PAGE_SHIFT;
                    // Less was charged if the user has changed the areas meanwhile.
                    let locked = locked.split(npages)?;
                    let pages = PinnedPages::pin(at, npages, prot.writable())?;
                    check(&pages)?;
                    let io = IoMapping::new(locked, iova, pages, prot)?;
                    (Part::Memory(io), len)
                }
                UserArea::Device(_) => return Err(EINVAL),
            };
            mixed.parts.push(part, GFP_KERNEL_ACCOUNT)?;
            done = done.saturating_add(len);
        }
        self.map_found(range, prot, found, &mut mixed)?;
        let mixed = KBox::new(mixed, GFP_KERNEL_ACCOUNT)?;
        Ok(Entry::mixed(range.start(), mixed))
    }

    /// Maps a page of the kernel's at `iova`. Holds no lock; the range is busy.
    pub(in crate::backend) fn fill_page(
        &self,
        iova: u64,
        page: Arc<SharedPage>,
        prot: Prot,
    ) -> Result<Entry> {
        let mapping = DeviceMapping::of_page(&self.space, iova, page, prot)?;
        mapping.switch_on()?;
        let mut parts = KVec::with_capacity(1, GFP_KERNEL_ACCOUNT)?;
        parts.push(Part::Page(mapping), GFP_KERNEL_ACCOUNT)?;
        let mixed = Mixed {
            parts,
            vaddr_invalid: false,
        };
        let mixed = KBox::new(mixed, GFP_KERNEL_ACCOUNT)?;
        Ok(Entry::mixed(iova, mixed))
    }

    fn map_found(
        &self,
        range: IovaRange,
        prot: Prot,
        found: Option<Found>,
        mixed: &mut Mixed,
    ) -> Result {
        let Some(Found { at, memory }) = found else {
            return Ok(());
        };
        let iova = range.start().wrapping_add(at as u64);
        let mapping = DeviceMapping::new(&self.space, iova, memory, prot)?;
        mapping.switch_on()?;
        mixed
            .parts
            .push(Part::Device(mapping), GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }
}
