// SPDX-License-Identifier: GPL-2.0
//! A small typed client of the VFIO ioctl interface.
//!
//! One type per kind of file descriptor: [`Container`] (`/dev/vfio/vfio`), [`Group`]
//! (`/dev/vfio/N`) and [`Device`]. Each ioctl has one method that returns [`std::io::Result`] with
//! the kernel's errno intact. For calls that no well-meaning program makes, [`sys::raw`] sends any
//! number with any argument.
//!
//! Around them: [`DmaBuf`] (page-aligned memory to map for a device), [`Event`] (eventfd with a
//! timed wait), [`edu`] (driver of QEMU's teaching device), [`kvm`] (virtual machines to tell about
//! groups), [`sysfs`] (find, bind and unbind devices), [`Setting`] (what the kernel is to do
//! otherwise for a while) and [`counters`] (locked and pinned memory).
//!
//! The types close what they own when dropped, but impose no order: the kernel must survive every
//! order.

#[allow(
    clippy::missing_safety_doc,
    clippy::must_use_candidate,
    clippy::undocumented_unsafe_blocks,
    missing_debug_implementations,
    missing_docs,
    non_camel_case_types,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    reason = "made by bindgen"
)]
pub mod bindings;
pub mod caps;
pub mod config;
pub mod container;
pub mod counters;
pub mod device;
pub mod dma;
pub mod edu;
pub mod event;
pub mod group;
pub mod iommufd;
pub mod irq;
pub mod kvm;
pub mod nested;
pub mod pamu;
pub mod region;
pub mod setting;
pub mod sys;
pub mod sysfs;
pub mod uapi;
pub mod viability;

pub use container::Container;
pub use device::Device;
pub use dma::DmaBuf;
pub use edu::Edu;
pub use event::Event;
pub use group::Group;
pub use setting::Setting;
