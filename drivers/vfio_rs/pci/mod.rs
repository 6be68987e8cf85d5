// SPDX-License-Identifier: GPL-2.0

//! PCI devices in the hands of users.
//!
//! | file          | has                                                         |
//! |---------------|-------------------------------------------------------------|
//! | `bound.rs`    | the driver: what a device has while it is bound             |
//! | `device.rs`   | a device, and who has it open                               |
//! | `refusal.rs`  | devices that are not bound, and why                         |
//! | `shared.rs`   | what all devices share                                      |
//! | `debug.rs`    | the folder `vfio` of debugfs                                |
//! | `denylist.rs` | those that are known to be dangerous                        |
//! | `sriov.rs`    | physical and virtual functions, and their token             |
//! | `name.rs`     | how users name a device; pure                               |
//! | `dev_set.rs`  | the devices that are reset together                         |
//! | `open.rs`     | its state from the first open to the last close             |
//! | `command.rs`  | its command register while the kernel needs its memory      |
//! | `power.rs`    | its power states                                            |
//! | `reset.rs`    | its resets                                                  |
//! | `reset_gate.rs`| how its users are kept off it in a reset, whoever makes it |
//! | `config/`     | what a user sees of the configuration space; pure           |
//! | `config_io.rs`| reads and writes of that, on the real device                |
//! | `offsets.rs`  | where things are in the device's file; pure                 |
//! | `regions.rs`  | what there is to know about regions                         |
//! | `region_io.rs`| reads and writes of BARs and ROM                            |
//! | `rom_images.rs` | what a ROM fills of its window; pure                     |
//! | `vga.rs`      | reads and writes of the legacy ranges of displays           |
//! | `specific.rs` | regions that only some devices have                         |
//! | `igd/`        | those of Intel graphics                                     |
//! | `bar.rs`      | BARs as the kernel reaches them, and how they are cached    |
//! | `map.rs`      | BARs in user address spaces                                 |
//! | `export.rs`   | BARs as dma-bufs, for drivers of other devices              |
//! | `irq/`        | interrupts to eventfds                                      |
//! | `ioeventfd.rs`| writes to BARs by eventfds                                  |
//! | `msix.rs`     | where the table of MSI-X is; pure                           |
//!
//! Locks, outermost first: `DevSet::members`, `Open::irqs` or `Open::ioeventfds`, `Worker::jobs` or
//! `Open::config`, `Open::memory`, `BarDma::maps` or `BarDma::exports`; `Device::opens`,
//! `Device::signals` and `Resets::phase` are leaves. `memory` is also taken for reading by page
//! faults, so no user memory is touched under it.

mod bar;
mod bound;
mod command;
mod config;
mod config_io;
mod debug;
mod denylist;
mod dev_set;
mod device;
mod export;
mod igd;
mod ioeventfd;
mod irq;
mod map;
mod msix;
mod name;
mod offsets;
mod open;
mod power;
mod refusal;
mod region_io;
mod regions;
mod reset;
mod reset_gate;
mod rom_images;
mod shared;
mod specific;
mod sriov;
mod vga;

pub(crate) use self::{
    bound::Bound,
    device::Device,
    name::Uuid,
    offsets::Region,
    open::Open,
    power::AwakeAccess,
    reset::{
        Dependent,
        DevId,
        ResetOwner, //
    },
    shared::Shared,
    sriov::{
        PhysFns,
        DRIVER, //
    },
};
