// SPDX-License-Identifier: GPL-2.0

//! PCI devices that are given to users, `include/linux/pci.h`.

mod bar;
mod config;
mod device;
mod driver;
mod intx;
mod irq;
mod reset;
mod sriov;
mod watch;

pub use bar::{
    BarMap,
    BarWindow,
    IoWidth, //
};
pub use config::ConfigWidth;
pub use device::PciDevice;
pub use driver::{
    Driver,
    Registration, //
};
pub use intx::Intx;
pub use irq::{
    AllocOutcome,
    MsiKind,
    MsiVectors, //
};
pub use reset::SavedState;
pub use watch::{
    BusWatch,
    Watcher, //
};
