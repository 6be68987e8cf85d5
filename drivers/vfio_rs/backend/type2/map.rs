// SPDX-License-Identifier: GPL-2.0

//! `VFIO_IOMMU_MAP_DMA` and `UNMAP_DMA` by windows.
//!
//! A mapping of several windows is several mappings, each of which can be unmapped by itself.

use kernel::{
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        atomic::{
            Relaxed,
            Release, //
        },
        Arc, //
    },
};
use vfio_kernel::{
    argsz::UserArg,
    iommu::Prot,
    lockdep::Held,
    locked_vm::Tenant,
    pin::PinnedPages,
    ranges::IovaClaim,
    user_sized, //
};

use super::{
    msi::MsiMode,
    window::{
        WindowParts,
        Windows, //
    },
    Pamu, //
};
use crate::{
    backend::{
        type1::{
            self,
            MapContent,
            NotFilled, //
        },
        Refused, //
    },
    iova::{
        turns::Ticket,
        IovaRange, //
    },
    uapi::dma::{
        self,
        MapDma,
        UnmapDma, //
    },
};

/// Memory that goes into windows.
#[derive(Clone, Copy)]
struct UserMemory {
    vaddr: u64,
    prot: Prot,
    /// Whether a page of a bank may be among it.
    takes_banks: bool,
}

/// Windows that were taken, and for whom.
struct Reserved {
    tenant: Arc<Tenant>,
    /// Whether windows for MSIs are the user's.
    explicit: bool,
    windows: TakenWindows,
}

/// Windows that are busy.
enum TakenWindows {
    One(IovaClaim),
    /// Each with its claim, or what it was filled with.
    Several(KVVec<Option<Result<MapContent, NotFilled>>>),
}

/// What is mapped in window `index`, of which it has the first `bytes`, and the window.
pub(super) fn place(windows: &Windows, index: u32, bytes: u64) -> Result<(IovaRange, IovaRange)> {
    let window = windows.window(index).ok_or(EINVAL)?;
    let range = IovaRange::from_size(window.start(), bytes).map_err(|_| EINVAL)?;
    Ok((range, window))
}

impl Pamu {
    /// `VFIO_IOMMU_MAP_DMA`.
    ///
    /// # Errors
    ///
    /// In this order: `EFAULT`, `EINVAL` (size of the struct, flags, no bytes), `EOVERFLOW`
    /// (wraps), `EINVAL` (neither read nor write), `ENODEV` (there are no windows yet), `EINVAL`
    /// (does not fit windows), `EBUSY` (a window is the kernel's), and for each window as type1:
    /// `EINVAL` (not aligned), `EEXIST`, `ENOSPC`, `EINVAL` (of the window something is not
    /// translated or is reserved), `ENOMEM`, `EFAULT`; `EINVAL` (strict: not one piece, or a bank
    /// of MSI registers not by itself, for writing only, with windows for these being the user's).
    pub(super) fn map_dma(&self, arg: UserArg) -> Result {
        let (range, vaddr, prot) = match MapDma::read(arg, dma::MSI)? {
            MapDma::Memory { range, vaddr, prot } => (range, vaddr, prot),
            MapDma::Msi { range } => return self.map_all_banks(range),
            MapDma::Vaddr { .. } => return Err(EINVAL),
        };
        let (held, reserved) = self.space.in_turn(range, |held, ticket| {
            self.reserve_windows(held, ticket, range, vaddr)
        })?;
        let memory = UserMemory {
            vaddr,
            prot,
            takes_banks: reserved.explicit,
        };
        match reserved.windows {
            TakenWindows::One(claim) => {
                let filled = self.fill(claim, memory, reserved.tenant);
                self.space.settle(&held, filled)
            }
            TakenWindows::Several(all) => self.fill_windows(&held, all, memory, reserved.tenant),
        }
    }

    /// Takes the windows of `range`, empty and busy, or none.
    #[inline(never)]
    fn reserve_windows(
        &self,
        held: &Held<'_>,
        ticket: Ticket,
        range: IovaRange,
        vaddr: u64,
    ) -> Result<Reserved, Refused> {
        let state = self.state.lock();
        let windows = state.geometry.windows().ok_or(ENODEV)?;
        let parts = windows.parts(range).ok_or(EINVAL)?;
        if self.is_kernels(&state, &windows, parts) {
            return Err(EBUSY.into());
        }
        let (taken, tenant) = match parts.count {
            1 => {
                let window = windows.window(parts.first).ok_or(EINVAL)?;
                let (claim, tenant) = self.space.reserve(held, ticket, range, window, vaddr)?;
                (TakenWindows::One(claim), tenant)
            }
            _ => self.reserve_several(held, ticket, &windows, parts, vaddr)?,
        };
        Ok(Reserved {
            tenant,
            // It stays so while something is busy.
            explicit: state.msi.mode() == MsiMode::Explicit,
            windows: taken,
        })
    }

    /// Takes several windows, empty and busy, or none. Holds `state`.
    #[cold]
    fn reserve_several(
        &self,
        held: &Held<'_>,
        ticket: Ticket,
        windows: &Windows,
        parts: WindowParts,
        vaddr: u64,
    ) -> Result<(TakenWindows, Arc<Tenant>), Refused> {
        let mut all = KVVec::with_capacity(parts.count as usize, user_sized::gfp())?;
        let mut reserved = Err(EINVAL.into());
        for index in parts.indices() {
            reserved = place(windows, index, parts.bytes)
                .map_err(Refused::from)
                .and_then(|(range, window)| self.space.reserve(held, ticket, range, window, vaddr))
                .and_then(|(claim, tenant)| {
                    // There is room.
                    all.push(Some(Err((ECANCELED, claim).into())), user_sized::gfp())?;
                    Ok(tenant)
                });
            if reserved.is_err() {
                break;
            }
        }
        match reserved {
            Ok(tenant) => Ok((TakenWindows::Several(all), tenant)),
            Err(refused) => {
                for claim in all.into_iter().flatten() {
                    let _ = self.space.settle(held, claim);
                }
                Err(refused)
            }
        }
    }

    /// Fills several windows that are busy, or none; if the task is being killed meanwhile, maybe
    /// some, in part.
    fn fill_windows(
        &self,
        held: &Held<'_>,
        mut all: KVVec<Option<Result<MapContent, NotFilled>>>,
        memory: UserMemory,
        tenant: Arc<Tenant>,
    ) -> Result {
        let mut result = Ok(());
        let mut vaddr = memory.vaddr;
        for window in &mut all {
            if let Some(Err(NotFilled::Empty((_, claim)))) = window.take() {
                let bytes = claim.range().size().unwrap_or(0);
                let part = UserMemory { vaddr, ..memory };
                let filled = match result {
                    Ok(()) => self.fill(claim, part, tenant.clone()),
                    Err(err) => Err((err, claim).into()),
                };
                result = filled
                    .as_ref()
                    .map_or_else(|refused| Err(refused.errno()), |_| Ok(()));
                *window = Some(filled);
                vaddr = vaddr.wrapping_add(bytes);
            }
        }
        // Only now, as what is ready may be unmapped at once.
        for filled in all.into_iter().flatten() {
            let filled = filled.and_then(|content| match result {
                Ok(()) => Ok(content),
                Err(err) => type1::give_up(content, err),
            });
            let _ = self.space.settle(held, filled);
        }
        result
    }

    /// Pins and maps what a window gets. Holds no lock.
    fn fill(
        &self,
        claim: IovaClaim,
        memory: UserMemory,
        tenant: Arc<Tenant>,
    ) -> Result<MapContent, NotFilled> {
        let UserMemory { vaddr, prot, .. } = memory;
        let filled = self.space.fill(claim, vaddr, prot, tenant, |pages| {
            self.check_pages(pages, memory)
        })?;
        match filled {
            MapContent::Mixed(mixed) if self.strict => Err(NotFilled::after(EINVAL, mixed)),
            filled => Ok(filled),
        }
    }

    /// Whether these pages may be mapped. A range is busy, so this takes no lock.
    fn check_pages(&self, pages: &PinnedPages, memory: UserMemory) -> Result {
        if self.strict {
            let first = pages.adjacent().ok_or(EINVAL)?;
            if first & (pages.npages() as u64).wrapping_sub(1) != 0 {
                return Err(EINVAL);
            }
        }
        let one_page = pages.npages() << PAGE_SHIFT == PAGE_SIZE;
        let fits_banks = memory.takes_banks && !memory.prot.readable() && one_page;
        if !fits_banks && self.banks.has_page_of(pages) {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// `VFIO_IOMMU_UNMAP_DMA`; tells in `size` how many bytes were unmapped.
    ///
    /// # Errors
    ///
    /// In this order: `EFAULT`, `EINVAL` (size of the struct, flags, no bytes), `EOVERFLOW`
    /// (wraps), `EINVAL` (does not fit windows, cuts what is mapped in one). What is not mapped, or
    /// the kernel's, is no error.
    pub(super) fn unmap_dma(&self, arg: UserArg) -> Result {
        let unmap = UnmapDma::read(arg, UnmapDma::ALL)?;
        let range = match (unmap.all, unmap.iova(), unmap.size()) {
            (true, 0, 0) => IovaRange::ALL,
            (true, ..) | (false, _, 0) => return Err(EINVAL),
            (false, iova, size) => IovaRange::from_size(iova, size).map_err(|_| EOVERFLOW)?,
        };
        let bytes = self.unmap(range)?;
        unmap.answer(arg, bytes)
    }

    fn unmap(&self, range: IovaRange) -> Result<u64> {
        let state = self.state.lock();
        let Some(windows) = state.geometry.windows() else {
            return Ok(0);
        };
        let range = windows.unmapped_by(range).ok_or(EINVAL)?;
        let Some(range) = self.without_kernels(&state, &windows, range) else {
            return Ok(0);
        };
        // Whoever sees no unmap under the lock sees what the last one did.
        self.unmapping.fetch_add(1, Relaxed);
        drop(state);
        let unmapped = self.space.unmap_range(range);
        self.unmapping.fetch_sub(1, Release);
        unmapped
    }
}
