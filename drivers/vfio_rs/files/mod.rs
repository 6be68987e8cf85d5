// SPDX-License-Identifier: GPL-2.0

//! The ioctls of each kind of file: decoded here, done below.
//!
//! | file           | has                                                        |
//! |----------------|------------------------------------------------------------|
//! | `container.rs` | `/dev/vfio/vfio`                                           |
//! | `group.rs`     | `/dev/vfio/N`                                              |
//! | `merge.rs`     | groups that join others                                    |
//! | `msi_fd.rs`    | the file that shows a bank of MSI registers                |
//! | `viability.rs` | why a group can be used, or not                            |
//! | `device.rs`    | a device's file                                            |
//! | `iommufd.rs`   | a device's file that its own node opened                   |
//! | `feature.rs`   | `VFIO_DEVICE_FEATURE`                                      |
//! | `pci/`         | what PCI devices do, and what only they have               |
//!
//! No locks: nothing here has state of its own.

pub(crate) mod container;
mod device;
mod feature;
pub(crate) mod group;
mod iommufd;
mod merge;
mod msi_fd;
mod pci;
mod viability;

use kernel::sync::Arc;
use vfio_kernel::{
    chardev::NodeOps,
    kvm, //
};

/// The files that KVM may be told of.
pub(crate) static KVM_FILES: kvm::Kinds = kvm::Kinds(&[
    kvm::KvmKind::of(&group::FILE_OPS),
    kvm::KvmKind::of(&pci::FILE_OPS),
]);

/// The operations of the nodes of PCI devices.
pub(crate) const PCI_NODE_OPS: NodeOps<Arc<crate::pci::Device>> = pci::FILE_OPS.node_ops();
