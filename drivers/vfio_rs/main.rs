// SPDX-License-Identifier: GPL-2.0

//! VFIO in Rust: gives PCI devices to userspace drivers, fenced by the IOMMU.
//!
//! This file wires the parts together and holds no logic. Layers, from users down:
//!
//! - [`files`]: the ioctls of each kind of file descriptor;
//! - [`pci`]: the device behind a device descriptor;
//! - [`iommu_group`]: who may have which devices;
//! - [`core`]: what is common to devices of all buses, and who shares an I/O address space;
//! - [`backend`]: what the ioctls of a container mean; [`iova`] is its bookkeeping;
//! - [`uapi`]: ioctl numbers and user structs;
//! - `vfio_kernel`, a crate of its own: safe wrappers of the kernel's C interfaces.
//!
//! Lock order: Documentation/locking.rst.

#![forbid(unsafe_code)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use kernel::{
    c_str,
    prelude::*, //
};
use vfio_kernel::{
    chardev::MiscNode,
    iommu, iommufd, kvm,
    owed::Owed,
    pci::{
        BusWatch,
        Offer, //
    },
};

use iommu_group::{
    DebugFiles,
    Drivers,
    Registry,
    Watch, //
};

mod backend;
mod core;
mod files;
#[path = "../iommu_group/mod.rs"]
mod iommu_group;
mod iova;
mod parts;
mod pci;
mod uapi;

module! {
    type: VfioRs,
    name: "vfio_rs",
    authors: ["The vfio-rs developers"],
    description: "VFIO device assignment",
    license: "GPL",
    imports_ns: ["IOMMUFD", "IOMMUFD_VFIO"],
}

/// The module; its fields are dropped in this order.
struct VfioRs {
    _driver: Offer,
    _vf_watch: BusWatch<pci::PhysFns>,
    _watch: BusWatch<Watch>,
    _container_node: Option<MiscNode>,
    _debug_files: Option<DebugFiles>,
    _owed: Owed,
}

impl kernel::Module for VfioRs {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let owed = Owed::start()?;
        iommu::init();
        kvm::serve(&files::KVM_FILES);
        let container_node = container_node()?;
        let drivers = Drivers::new()?;
        let registry = Registry::new(drivers.clone(), files::group::FILE_OPS.node_ops())?;
        let watch = Watch::new(drivers, registry.clone())?;
        let physfns = pci::PhysFns::new()?;
        let vf_watch = BusWatch::new(physfns.clone())?;
        let debug_files = parts::DEBUGFS
            .then(|| DebugFiles::new(&registry))
            .transpose()?;
        let shared = pci::Shared::new(registry, physfns, files::PCI_NODE_OPS)?;
        let driver = Offer::new::<pci::Bound>(pci::DRIVER, shared)?;
        Ok(Self {
            _driver: driver,
            _vf_watch: vf_watch,
            _watch: watch,
            _container_node: container_node,
            _debug_files: debug_files,
            _owed: owed,
        })
    }
}

/// `/dev/vfio/vfio`, unless iommufd has it or the kernel was built without.
fn container_node() -> Result<Option<MiscNode>> {
    if !parts::CONTAINER && !iommufd::HAS_CONTAINER {
        return Ok(None);
    }
    let node = MiscNode::register(
        uapi::VFIO_MINOR,
        c_str!("vfio"),
        c_str!("vfio/vfio"),
        0o666,
        &files::container::FILE_OPS,
    );
    match node {
        Ok(node) => Ok(Some(node)),
        Err(EBUSY) if iommufd::HAS_CONTAINER => {
            // LOG: once, when the module is loaded.
            pr_info!("/dev/vfio/vfio is iommufd's: no type2, and groups join no others\n");
            Ok(None)
        }
        Err(err) => Err(err),
    }
}
