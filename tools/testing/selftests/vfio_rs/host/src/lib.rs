// SPDX-License-Identifier: GPL-2.0

//! Runs the module's pure code and its tests on the build machine, in milliseconds.
//!
//! The files of `drivers/` are taken as they are, with the crate beside this one in the place of
//! the kernel crate. What they test of themselves also runs as KUnit; the tests in this folder,
//! against random input and with failing allocations, run here only.

#![cfg(test)]
#![forbid(unsafe_code)]

// What the module's files take from the crate below them is here, too.
extern crate self as vfio_kernel;

#[path = "../../../../../../drivers/vfio_rs/pci/config/mod.rs"]
mod config;
#[path = "../../../../../../rust/vfio_kernel/few.rs"]
#[allow(unreachable_pub)] // It is a crate's there.
mod few;
#[path = "../../../../../../drivers/vfio_rs/iova/mod.rs"]
mod iova;
#[path = "../../../../../../drivers/vfio_rs/pci/msix.rs"]
mod msix;
#[path = "../../../../../../drivers/vfio_rs/pci/name.rs"]
mod name;
#[path = "../../../../../../drivers/vfio_rs/pci/offsets.rs"]
mod offsets;
#[path = "../../../../../../drivers/vfio_rs/pci/igd/opregion.rs"]
mod opregion;
#[path = "../../../../../../rust/vfio_kernel/ranges/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)] // It is a crate's there.
mod ranges;
#[path = "../../../../../../drivers/iommu_group/roles.rs"]
mod roles;
#[path = "../../../../../../drivers/vfio_rs/pci/rom_images.rs"]
mod rom_images;
#[path = "../../../../../../rust/vfio_kernel/runs.rs"]
mod runs;
#[path = "../../../../../../drivers/vfio_rs/backend/slots.rs"]
mod slots;
#[path = "../../../../../../rust/vfio_kernel/user_sized.rs"]
#[allow(unreachable_pub)] // It is a crate's there.
mod user_sized;
#[path = "../../../../../../drivers/iommu_group/viability.rs"]
mod viability;
#[path = "../../../../../../drivers/vfio_rs/backend/type2/window.rs"]
mod window;

mod claims_props;
mod config_device;
mod config_model;
mod config_props;
mod fail_nth;
mod iova_props;
mod map_props;
mod nested_props;
mod offsets_props;
mod opregion_props;
mod roles_props;
mod runs_props;
mod store_props;
mod window_props;

/// Settings of all tests against random input.
fn settings(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        // Miri is a thousand times slower.
        cases: if cfg!(miri) { 2 } else { cases },
        failure_persistence: None,
        ..Default::default()
    }
}
