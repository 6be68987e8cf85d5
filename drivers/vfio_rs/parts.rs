// SPDX-License-Identifier: GPL-2.0

//! The parts that a configuration of the kernel can leave out.
//!
//! `drivers/vfio_rs/Makefile` says which are there, from Kconfig in the tree and from the options
//! of C VFIO out of it. All code is compiled whatever they are, and what nothing reaches is not in
//! the module.

/// The nodes of groups, `/dev/vfio/N`.
pub(crate) const GROUP: bool = cfg!(VFIO_RS_GROUP);

/// `/dev/vfio/vfio`.
pub(crate) const CONTAINER: bool = cfg!(VFIO_RS_CONTAINER);

/// The nodes of devices, `/dev/vfio/devices/vfioN`.
pub(crate) const DEVICE_CDEV: bool = cfg!(VFIO_RS_DEVICE_CDEV);

/// Devices without an IOMMU.
pub(crate) const NOIOMMU: bool = cfg!(VFIO_RS_NOIOMMU);

/// The folders `vfio` and `vfio_rs` in debugfs.
pub(crate) const DEBUGFS: bool = cfg!(VFIO_RS_DEBUGFS);

/// The region with the legacy ranges of displays.
pub(crate) const PCI_VGA: bool = cfg!(VFIO_RS_PCI_VGA);

/// The regions of Intel graphics.
pub(crate) const PCI_IGD: bool = cfg!(VFIO_RS_PCI_IGD);
