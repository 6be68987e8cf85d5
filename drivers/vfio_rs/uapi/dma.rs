// SPDX-License-Identifier: GPL-2.0

//! `VFIO_IOMMU_MAP_DMA` and `UNMAP_DMA`, decoded for all backends.

use kernel::prelude::*;
use vfio_kernel::{
    argsz::UserArg,
    iommu::Prot,
    uapi, //
};

use super::row::{
    self,
    Row, //
};
use crate::iova::IovaRange;

const READ: u32 = uapi::VFIO_DMA_MAP_FLAG_READ;
const WRITE: u32 = uapi::VFIO_DMA_MAP_FLAG_WRITE;
/// [`MapDma::Vaddr`] is served.
pub(crate) const VADDR: u32 = uapi::VFIO_DMA_MAP_FLAG_VADDR;
/// [`MapDma::Msi`] is served.
pub(crate) const MSI: u32 = uapi::VFIO_DMA_MAP_FLAG_MSI;

/// What `VFIO_IOMMU_MAP_DMA` asks for.
pub(crate) enum MapDma {
    /// To map the memory from `vaddr` on.
    Memory {
        range: IovaRange,
        vaddr: u64,
        prot: Prot,
    },
    /// A new address of memory that is mapped.
    Vaddr { range: IovaRange, vaddr: u64 },
    /// To map all banks of MSI registers.
    Msi { range: IovaRange },
}

impl MapDma {
    /// Reads the struct; `also` is what is served beside memory, [`VADDR`] or [`MSI`].
    ///
    /// # Errors
    ///
    /// In this order, as vfio_iommu_type1_map_dma() and vfio_dma_do_map(): `EFAULT`, `EINVAL` (size
    /// of the struct, flags, no bytes), `EOVERFLOW` (one of the ranges wraps), `EINVAL` (neither to
    /// read nor to write, or both that and a new address). For MSIs `EINVAL` if it is not to write
    /// only, or has an address.
    #[inline(always)]
    pub(crate) fn read(arg: UserArg, also: u32) -> Result<Self> {
        let map: uapi::vfio_iommu_type1_dma_map = row::read_flags(arg, READ | WRITE | also)?;
        if map.size == 0 {
            return Err(EINVAL);
        }
        let range = IovaRange::from_size(map.iova, map.size).map_err(|_| EOVERFLOW)?;
        let access = map.flags & (READ | WRITE);
        if map.flags & MSI != 0 {
            return match (access, map.vaddr) {
                (WRITE, 0) => Ok(Self::Msi { range }),
                _ => Err(EINVAL),
            };
        }
        let vaddr = map.vaddr;
        IovaRange::from_size(vaddr, map.size).map_err(|_| EOVERFLOW)?;
        match (map.flags & VADDR != 0, access != 0) {
            (true, false) => Ok(Self::Vaddr { range, vaddr }),
            (false, true) => {
                let prot = Prot::new(access & READ != 0, access & WRITE != 0);
                Ok(Self::Memory { range, vaddr, prot })
            }
            _ => Err(EINVAL),
        }
    }
}

/// What `VFIO_IOMMU_UNMAP_DMA` asks for.
pub(crate) struct UnmapDma {
    user: uapi::vfio_iommu_type1_dma_unmap_header,
    /// All there is, `VFIO_DMA_UNMAP_FLAG_ALL`.
    pub(crate) all: bool,
    /// Not to unmap, but to take back the address, `VFIO_DMA_UNMAP_FLAG_VADDR`.
    pub(crate) vaddr: bool,
    /// Where a bitmap of dirty pages goes: `pgsize`, `size` and `data` of `struct vfio_bitmap`.
    pub(crate) bitmap: Option<[u64; 3]>,
}

impl UnmapDma {
    /// `VFIO_DMA_UNMAP_FLAG_ALL`, which all backends serve.
    pub(crate) const ALL: u32 = uapi::VFIO_DMA_UNMAP_FLAG_ALL;
    /// `VFIO_DMA_UNMAP_FLAG_VADDR`.
    pub(crate) const VADDR: u32 = uapi::VFIO_DMA_UNMAP_FLAG_VADDR;
    /// `VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP`.
    pub(crate) const BITMAP: u32 = uapi::VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;

    /// Reads the struct, of whose flags `served` are known.
    ///
    /// # Errors
    ///
    /// In this order, as vfio_iommu_type1_unmap_dma(): `EFAULT`, `EINVAL` (size of the struct,
    /// flags, a bitmap with one of the others, no room for it), `EFAULT` (the bitmap).
    #[inline(always)]
    pub(crate) fn read(arg: UserArg, served: u32) -> Result<Self> {
        type User = uapi::vfio_iommu_type1_dma_unmap_header;

        let user: User = row::read_flags(arg, served)?;
        let has = |flag| user.flags & flag != 0;
        let (all, vaddr) = (has(Self::ALL), has(Self::VADDR));
        let bitmap = match has(Self::BITMAP) {
            true if all || vaddr || row::room(&user) < size_of::<[u64; 3]>() => return Err(EINVAL),
            true => Some(arg.at(User::MIN).read_min(size_of::<[u64; 3]>())?),
            false => None,
        };
        Ok(Self {
            user,
            all,
            vaddr,
            bitmap,
        })
    }

    /// The first address.
    pub(crate) fn iova(&self) -> u64 {
        self.user.iova
    }

    /// Bytes.
    pub(crate) fn size(&self) -> u64 {
        self.user.size
    }

    /// Tells that `bytes` were unmapped.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    #[inline]
    pub(crate) fn answer(mut self, arg: UserArg, bytes: u64) -> Result {
        self.user.size = bytes;
        arg.write_prefix(&self.user, size_of_val(&self.user))
    }
}
