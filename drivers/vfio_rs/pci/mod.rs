// SPDX-License-Identifier: GPL-2.0

//! PCI devices in the hands of users.
//!
//! | file          | has                                                         |
//! |---------------|-------------------------------------------------------------|
//! | `device.rs`   | a bound device: probe, remove, who has it open              |
//! | `denylist.rs` | devices that are refused                             |
//! | `sriov.rs`    | physical and virtual functions, and their token             |
//! | `name.rs`     | how users name a device; pure                               |
//! | `open.rs`     | its state from the first open to the last close             |
//! | `config/`     | what a user sees of the configuration space; pure           |
//! | `config_io.rs`| reads and writes of that, on the real device                |
//! | `regions.rs`  | where things are in the device's file                       |
//! | `region_io.rs`| reads and writes of BARs and ROM                            |
//! | `map.rs`      | BARs in user address spaces                                 |
//! | `bar_dma.rs`  | BARs in I/O address spaces, for other devices               |
//! | `irq/`        | interrupts to eventfds                                      |
//! | `ioeventfd.rs`| writes to BARs by eventfds                                  |
//!
//! Locks, outermost first: `Device::users`, `Open::irqs` or
//! `Open::ioeventfds`, `Open::config`, `Open::memory`,
//! `BarDma::maps`; `Device::signals` is a leaf. `memory` is also taken for reading by page faults, so no user
//! memory is touched under it.

mod bar_dma;
mod config;
mod config_io;
mod denylist;
mod device;
mod ioeventfd;
mod irq;
mod map;
mod name;
mod open;
mod region_io;
mod regions;
mod sriov;

pub(crate) use self::{
    bar_dma::BarMapping,
    device::{
        Device,
        Shared, //
    },
    ioeventfd::Doorbell,
    irq::{
        IrqAction,
        IrqData, //
    },
    name::Uuid,
    open::Open,
    regions::Region,
    sriov::{
        PhysFns,
        DRIVER, //
    },
};
