// SPDX-License-Identifier: GPL-2.0

//! Banks of MSI registers: what a device writes to when it interrupts.
//!
//! Where the IOMMU remaps interrupts, as on x86, writes to the doorbell never reach a window, and
//! there is no bank: the doorbell is reserved and never mapped for anyone. Takes no lock.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};
use vfio_kernel::{
    iommu::{
        ResvKind,
        ResvRegion, //
    },
    params,
    pin::PinnedPages,
    shared_page::SharedPage,
};

/// Who knows where the banks of a container are.
pub(super) trait BankProvider: Send + Sync {
    /// How many there are.
    fn count(&self) -> u32;

    /// The registers of a bank, if they are to be mapped.
    fn page(&self, index: u32) -> Option<&Arc<SharedPage>>;

    /// The I/O address at which the kernel maps the only bank by itself.
    fn fixed(&self) -> Option<u64>;

    /// A group with these reserved regions came to the container.
    fn joined(&self, regions: &[ResvRegion]);

    /// Whether a page of a bank is among `pages`.
    fn has_page_of(&self, pages: &PinnedPages) -> bool {
        (0..self.count())
            .filter_map(|index| self.page(index))
            .any(|page| pages.contains(page))
    }
}

/// The provider for a new container.
pub(super) fn provider() -> Result<KBox<dyn BankProvider>> {
    let count = params::msi_test_banks();
    Ok(match count {
        0 => KBox::new(Platform::new(), GFP_KERNEL)?,
        _ => KBox::new(TestBanks::new(count)?, GFP_KERNEL)?,
    })
}

/// Pages of the module's own in the place of registers, so that the windows can be tried where
/// there are none. They interrupt nobody. Each container has its own.
struct TestBanks {
    pages: KVec<Arc<SharedPage>>,
}

impl TestBanks {
    fn new(count: u32) -> Result<Self> {
        let mut pages = KVec::new();
        for _ in 0..count {
            pages.push(SharedPage::new()?, GFP_KERNEL)?;
        }
        Ok(Self { pages })
    }
}

impl BankProvider for TestBanks {
    fn count(&self) -> u32 {
        // CAST: As many as the parameter says.
        self.pages.len() as u32
    }

    fn page(&self, index: u32) -> Option<&Arc<SharedPage>> {
        self.pages.get(index as usize)
    }

    fn fixed(&self) -> Option<u64> {
        None
    }

    fn joined(&self, _regions: &[ResvRegion]) {}
}

/// What the IOMMU drivers say. Where they want a doorbell mapped, the interrupt code does that, at
/// an address that they choose ([`ResvKind::SwMsi`]).
struct Platform {
    /// That address, or [`NOWHERE`].
    base: Atomic<u64>,
}

/// No address of a page.
const NOWHERE: u64 = u64::MAX;

impl Platform {
    fn new() -> Self {
        Self {
            base: Atomic::new(NOWHERE),
        }
    }
}

impl BankProvider for Platform {
    fn count(&self) -> u32 {
        self.fixed().is_some().into()
    }

    fn page(&self, _index: u32) -> Option<&Arc<SharedPage>> {
        None
    }

    fn fixed(&self) -> Option<u64> {
        Some(self.base.load(Relaxed)).filter(|base| *base != NOWHERE)
    }

    fn joined(&self, regions: &[ResvRegion]) {
        let of_kind = |kind| regions.iter().find(|region| region.kind == kind);
        if let (None, Some(region)) = (of_kind(ResvKind::Msi), of_kind(ResvKind::SwMsi)) {
            self.base.store(region.start, Relaxed);
        }
    }
}
