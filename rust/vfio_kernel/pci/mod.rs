// SPDX-License-Identifier: GPL-2.0

//! PCI devices that are given to users, `include/linux/pci.h`.

mod bar;
mod config;
mod device;
mod driver;
mod intx;
mod io;
mod irq;
mod reset;
mod rom;
mod sriov;
mod watch;

pub use bar::{
    BarMap,
    BarWindow,
    MappableBar, //
};
pub use config::ConfigWidth;
pub use device::PciDevice;
pub use driver::{
    Driver,
    Registration, //
};
pub use intx::Intx;
pub use io::{
    IoMem,
    IoWidth, //
};
pub use irq::{
    AllocOutcome,
    MsiKind,
    MsiVectors, //
};
pub use reset::SavedState;
pub use rom::{
    RomKind,
    RomMap, //
};
pub use watch::{
    BusWatch,
    Watcher, //
};
