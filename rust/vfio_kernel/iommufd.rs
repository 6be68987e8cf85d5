// SPDX-License-Identifier: GPL-2.0

//! I/O address spaces that users manage by `/dev/iommu`: `include/linux/iommufd.h`.
//!
//! A user's [`Ctx`] owns I/O address spaces (IOAS, HWPT), which have numbers. A device that is
//! [bound](IommufdDevice) to it sees one of them, and one for each PASID that it was given.
//!
//! In a kernel without iommufd there is no [`Ctx`].

#[cfg(CONFIG_IOMMUFD)]
#[path = "iommufd/present.rs"]
mod imp;

#[cfg(not(CONFIG_IOMMUFD))]
#[path = "iommufd/absent.rs"]
mod imp;

use kernel::device;

use crate::pci::{
    BoundPci,
    PciDevice, //
};

pub use imp::{
    Ctx,
    IommufdDevice, //
};

/// A device that is bound to its driver as long as this lives.
///
/// # Safety
///
/// So it is, and [`device`](Self::device) always is the same device.
pub unsafe trait BoundDevice: Send + 'static {
    /// The device.
    fn device(&self) -> &device::Device;
}

// SAFETY: By the invariant of `BoundPci`.
unsafe impl BoundDevice for BoundPci {
    fn device(&self) -> &device::Device {
        PciDevice::device(self)
    }
}

/// Whether the kernel has it.
pub const PRESENT: bool = cfg!(CONFIG_IOMMUFD);

/// Whether it also serves devices without an IOMMU, by page tables that no hardware walks.
pub const SERVES_NO_IOMMU: bool = cfg!(CONFIG_IOMMUFD_NOIOMMU);

/// Whether it has `/dev/vfio/vfio`.
pub const HAS_CONTAINER: bool = cfg!(CONFIG_IOMMUFD_VFIO_CONTAINER);

/// The number that stands for DMA without a PASID, `IOMMU_NO_PASID` of `include/linux/iommu.h`.
pub const NO_PASID: u32 = 0;
