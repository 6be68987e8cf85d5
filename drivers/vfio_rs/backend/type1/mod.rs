// SPDX-License-Identifier: GPL-2.0

//! type1: a flat I/O address space that users fill with their own memory.
//!
//! Bookkeeping and work are apart: [`Maps`] says which ranges are taken, under a mutex that is held
//! for look-ups only; memory is pinned and mapped without it, by the claim to the range, which is
//! busy meanwhile (`rust/vfio_kernel/iommu/ranges.rs`). Calls on different ranges therefore run in
//! parallel, and a call that meets a busy range waits, without a lock.
//!
//! | file          | has                                                |
//! |---------------|----------------------------------------------------|
//! | `maps.rs`     | the ranges and their limits                        |
//! | `turn.rs`     | who waits for whom                                 |
//! | `map.rs`      | `VFIO_IOMMU_MAP_DMA`                               |
//! | `mixed.rs`    | the same for memory of devices                     |
//! | `parts.rs`    | how many parts such mappings may have              |
//! | `unmap.rs`    | `VFIO_IOMMU_UNMAP_DMA`, release                    |
//! | `vaddr.rs`    | new addresses for mappings                         |
//! | `dirty.rs`    | `VFIO_IOMMU_DIRTY_PAGES`                           |
//! | `attach.rs`   | groups coming and going                            |
//! | `limits.rs`   | what a group allows                                |
//! | `info.rs`     | `VFIO_IOMMU_GET_INFO`                              |
//! | `show.rs`     | what debugfs shows                                 |
//!
//! Locks: `maps`, then `IoSpace::domains`. Stands for drivers/vfio/vfio_iommu_type1.c.

mod attach;
mod dirty;
mod info;
pub(super) mod limits;
mod map;
mod maps;
mod mixed;
mod parts;
mod show;
mod turn;
mod unmap;
mod vaddr;

pub(super) use self::{
    maps::MapContent,
    mixed::NotFilled,
    unmap::give_up, //
};

use kernel::{
    new_mutex,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        atomic::Atomic,
        Arc,
        Mutex, //
    },
};
use vfio_kernel::{
    argsz::UserArg,
    iommu::{
        DmaOwner,
        IoSpace,
        IommuGroup,
        Sharing, //
    },
    lockdep::LockMap,
    module_ref::{
        hold,
        ModuleName,
        ModuleRef, //
    },
    new_lock_map, new_wait_queue, uapi,
    wait::WaitQueue,
};

use self::maps::Maps;
use super::{
    p2p::AreaAt,
    Backend,
    GroupMachine,
    Refused, //
};
use crate::{
    iova::IovaRange,
    uapi::container_nr as nr, //
};

/// How `VFIO_IOMMU_UNMAP_DMA` treats a range that ends inside a mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// A mapping goes whole if its first address is in the range, else nothing happens.
    V1,
    /// `EINVAL`.
    V2,
}

impl Version {
    /// Whether an unmap of `range` takes a `mapping` that has an address in it; if not it stays as
    /// a whole.
    #[inline]
    fn takes(self, range: IovaRange, mapping: IovaRange) -> bool {
        match self {
            Self::V1 => range.start() <= mapping.start(),
            Self::V2 => range.contains(&mapping),
        }
    }
}

/// See the module's documentation.
#[pin_data]
pub(super) struct Type1 {
    version: Version,
    /// Finds memory of devices that are open in what users map.
    area_at: AreaAt,
    space: Arc<IoSpace>,
    /// The parts of mappings that have several.
    parts: Arc<parts::Pool>,
    #[pin]
    maps: Mutex<Maps>,
    /// Whether `maps` may have memory for a range: a hint, for those that do not hold the lock.
    has_spare: Atomic<bool>,
    /// Woken when a range is no longer busy, or somebody's turn ends.
    #[pin]
    idle: WaitQueue,
    /// What lockdep knows of busy ranges and turns.
    #[pin]
    ranges: LockMap,
    /// Keeps the module of the name from being removed.
    _module: Option<ModuleRef>,
}

impl Type1 {
    /// An empty address space.
    pub(super) fn new(version: Version, area_at: AreaAt) -> Result<Arc<Self>> {
        let (space, ranges) = IoSpace::new()?;
        let parts = parts::Pool::new()?;
        Arc::pin_init(
            pin_init!(Self {
                version,
                area_at,
                space,
                parts,
                maps <- new_mutex!(Maps::new(ranges), "Type1::maps"),
                has_spare: Atomic::new(false),
                idle <- new_wait_queue!("Type1::idle"),
                ranges <- new_lock_map!("Type1::ranges"),
                _module: hold(ModuleName::Type1),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether nothing is mapped, nor about to be.
    pub(in crate::backend) fn is_empty(&self) -> bool {
        let maps = self.maps.lock();
        maps.ranges.busy() == 0 && maps.ranges.first_overlap(IovaRange::ALL).is_none()
    }
}

/// The extensions that do not depend on a group.
pub(super) fn check_extension(extension: u32) -> bool {
    matches!(
        extension,
        uapi::VFIO_TYPE1_IOMMU | uapi::VFIO_TYPE1v2_IOMMU | uapi::VFIO_UNMAP_ALL
    )
}

impl Backend for Type1 {
    fn check_extension(&self, extension: u32) -> bool {
        match extension {
            uapi::VFIO_UPDATE_VADDR => true,
            uapi::VFIO_DMA_CC_IOMMU => self.space.enforced_coherency(),
            _ => check_extension(extension),
        }
    }

    fn attach_group(
        &self,
        owner: Arc<DmaOwner>,
        sharing: Sharing,
        _machine: &GroupMachine,
    ) -> Result<(), Refused> {
        self.attach(owner, sharing, None, |range| range)
    }

    fn when_idle(&self, then: &mut dyn FnMut() -> bool) -> Result {
        Type1::when_idle(self, then)
    }

    fn detach_group(&self, group: &IommuGroup) {
        self.detach(group);
    }

    fn release(&self) {
        self.unmap_all();
    }

    fn show(&self, out: &SeqFile) {
        let kind = match self.version {
            Version::V1 => "type1",
            Version::V2 => "type1v2",
        };
        self.print(kind, out);
    }

    fn ioctl(&self, cmd: u32, arg: UserArg) -> Result<isize> {
        match cmd {
            nr::IOMMU_GET_INFO => self.get_info(arg, true),
            nr::IOMMU_MAP_DMA => self.map_dma(arg),
            nr::IOMMU_UNMAP_DMA => self.unmap_dma(arg),
            nr::IOMMU_DIRTY_PAGES => self.dirty_pages(arg),
            _ => Err(ENOTTY),
        }
        .map(|()| 0)
    }
}
