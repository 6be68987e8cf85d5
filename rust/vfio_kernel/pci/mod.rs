// SPDX-License-Identifier: GPL-2.0

//! PCI devices that are given to users, `include/linux/pci.h`.

mod bar;
mod bound;
mod carrier;
mod config;
mod device;
mod driver;
mod hot_reset;
mod intx;
mod intx_pin;
mod io;
mod irq;
mod reset;
mod rom;
mod runtime_pm;
mod sriov;
mod vga;
mod watch;

pub use bar::{
    BarIo,
    BarRegion,
    BarWindow,
    MappableBar, //
};
pub use bound::BoundPci;
pub use carrier::{
    DriverOwner,
    Offer, //
};
pub use config::{
    ConfigWidth,
    CAP_ID_MAX,
    EXT_CAP_ID_MAX, //
};
pub use device::PciDevice;
pub use driver::Driver;
pub use hot_reset::{
    PciAddress,
    ResetScope,
    ResetSetId, //
};
pub use intx::Intx;
pub use intx_pin::{
    IntxMask,
    IntxPin,
    PinHold, //
};
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
pub use runtime_pm::{
    Awake,
    MaySleep, //
};
pub use vga::{
    VgaMap,
    VgaRange, //
};
pub use watch::{
    BusDriver,
    BusWatch,
    Watcher, //
};
