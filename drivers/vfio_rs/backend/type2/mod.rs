// SPDX-License-Identifier: GPL-2.0

//! type2: an I/O address space as Freescale's PAMU has it, one aperture cut into windows.
//!
//! The windows are a rule about what may be mapped where; what is mapped is in a [`Type1`], whose
//! bookkeeping, accounting, pinning and groups these are. So it works over any IOMMU. In the order
//! of their states: nothing is set; the aperture is; it is cut into windows; something is mapped,
//! and then nothing of this can be changed.
//!
//! | file          | has                                                     |
//! |---------------|---------------------------------------------------------|
//! | `window.rs`   | the rule; pure                                          |
//! | `budget.rs`   | how many windows there can be in all containers         |
//! | `attr.rs`     | `VFIO_IOMMU_PAMU_GET_ATTR` and `SET_ATTR`               |
//! | `map.rs`      | `VFIO_IOMMU_MAP_DMA` and `UNMAP_DMA`                    |
//! | `bank.rs`     | where MSI registers are                                 |
//! | `msi.rs`      | windows for them, in three ways                         |
//!
//! Lock: `Pamu::state`, then `Type1::maps`. Whoever takes a window does so under both, so that the
//! geometry is the same when it is taken as when it was looked at. Nothing is pinned under it, and
//! nobody who has a busy range may take it or waits for one with it.

mod attr;
mod bank;
mod budget;
mod map;
mod msi;
pub(crate) mod window;

use kernel::{
    new_mutex,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        atomic::{
            Acquire,
            Atomic, //
        },
        Arc,
        Mutex, //
    },
};
use vfio_kernel::{
    argsz::UserArg,
    iommu::{
        DmaOwner,
        IommuGroup,
        Sharing, //
    },
    params,
    shared_page::PageMap,
    uapi,
};

use self::{
    bank::BankProvider,
    budget::Entries,
    msi::MsiWindows,
    window::PamuGeometry, //
};
use super::{
    p2p::AreaAt,
    type1::{
        Type1,
        Version, //
    },
    Backend,
    GroupMachine,
    Refused, //
};
use crate::uapi::container_nr as nr;

/// See the module's documentation.
#[pin_data]
pub(super) struct Pamu {
    space: Arc<Type1>,
    /// Whether a window must be one piece of memory, as PAMU needs it.
    strict: bool,
    banks: KBox<dyn BankProvider>,
    #[pin]
    state: Mutex<PamuState>,
    /// How many threads unmap something: more only under `state`, fewer at any time.
    unmapping: Atomic<usize>,
}

struct PamuState {
    geometry: PamuGeometry,
    /// What the windows take of the budget.
    entries: Entries,
    msi: MsiWindows,
}

impl Pamu {
    /// An empty address space without an aperture.
    pub(super) fn new(area_at: AreaAt) -> Result<Arc<Self>> {
        let space = Type1::new(Version::V2, area_at)?;
        let banks = bank::provider()?;
        let state = PamuState {
            geometry: PamuGeometry::Unset,
            entries: Entries::none(),
            msi: MsiWindows::new(),
        };
        Arc::pin_init(
            pin_init!(Self {
                space,
                strict: params::pamu_strict(),
                banks,
                state <- new_mutex!(state, "Pamu::state"),
                unmapping: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether nothing is mapped, so that the geometry may change.
    fn is_idle(&self, _state: &PamuState) -> bool {
        self.unmapping.load(Acquire) == 0 && self.space.is_empty()
    }
}

/// The extensions that do not depend on a group.
pub(super) fn check_extension(extension: u32) -> bool {
    matches!(extension, uapi::VFIO_PAMU_IOMMU)
}

impl Backend for Pamu {
    fn check_extension(&self, extension: u32) -> bool {
        match extension {
            uapi::VFIO_DMA_CC_IOMMU => self.space.check_extension(extension),
            _ => check_extension(extension),
        }
    }

    fn attach_group(
        &self,
        owner: Arc<DmaOwner>,
        sharing: Sharing,
        _machine: &GroupMachine,
    ) -> Result<(), Refused> {
        let regions = owner.group().resv_regions()?;
        let state = self.state.lock();
        let geometry = state.geometry;
        self.space.attach(
            owner,
            sharing,
            geometry.aperture().map(|aperture| aperture.range()),
            // Of a window that is in use, no address may be reserved.
            |range| {
                let windows = geometry.windows();
                windows
                    .and_then(|windows| windows.at(range.start()))
                    .unwrap_or(range)
            },
        )?;
        self.banks.joined(&regions);
        Ok(())
    }

    fn when_idle(&self, then: &mut dyn FnMut() -> bool) -> Result {
        self.space.when_idle(then)
    }

    fn detach_group(&self, group: &IommuGroup) {
        self.hide_banks(Some(group.id()));
        self.space.detach(group);
    }

    fn release(&self) {
        self.hide_banks(None);
        self.space.unmap_all();
        let mut state = self.state.lock();
        state.geometry = PamuGeometry::Unset;
        state.entries = Entries::none();
    }

    fn show(&self, out: &SeqFile) {
        self.space.print("type2", out);
    }

    fn ioctl(&self, cmd: u32, arg: UserArg) -> Result<isize> {
        match cmd {
            nr::IOMMU_GET_INFO => self.space.get_info(arg, false),
            nr::IOMMU_MAP_DMA => self.map_dma(arg),
            nr::IOMMU_UNMAP_DMA => self.unmap_dma(arg),
            nr::PAMU_GET_ATTR => self.get_attr(arg),
            nr::PAMU_SET_ATTR => self.set_attr(arg),
            nr::PAMU_GET_MSI_BANK_COUNT => return Ok(self.banks.count() as isize),
            nr::PAMU_MSI_BANK_MAP => self.bank_map(arg),
            nr::PAMU_MSI_BANK_UNMAP => self.bank_unmap(arg),
            _ => Err(ENOTTY),
        }
        .map(|()| 0)
    }

    fn msi_on(&self) -> Result {
        self.map_implicit()
    }

    fn msi_off(&self) {
        self.unmap_implicit();
    }

    fn msi_bank(&self, group: &IommuGroup, index: u32) -> Result<Arc<PageMap>> {
        self.show_bank(group.id(), index)
    }
}
