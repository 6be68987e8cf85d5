// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers of the kernel interfaces that VFIO needs and the `kernel` crate lacks.
//!
//! All hand-written unsafe code of the project is in this crate. Each file wraps one C object or
//! header and is named after it; types that must be undone are guards. In tree these files belong
//! under `rust/kernel/`.

#![deny(unsafe_op_in_unsafe_fn)]

pub mod anon_file;
pub mod argsz;
pub mod chardev;
pub mod completion;
pub mod count;
pub mod debugfs;
pub mod dma_buf;
pub mod eventfd;
pub mod few;
pub mod fops;
pub mod gate;
mod huge_area;
pub mod iommu;
pub mod iommufd;
pub mod irq;
mod irq_bypass;
pub mod kvm;
pub mod kvm_slots;
mod layout;
pub mod lockdep;
pub mod locked_vm;
pub mod log;
pub mod mapping;
pub mod memremap;
pub mod memtype;
pub mod mmap;
pub mod module_ref;
pub mod mutex;
pub mod nospec;
pub mod owed;
pub mod params;
pub mod pci;
pub mod pin;
pub mod random;
pub mod ranges;
mod runs;
pub mod rwsem;
pub mod sched;
pub mod shared_page;
pub mod user_area;
pub mod user_out;
pub mod user_sized;
pub mod virqfd;
pub mod wait;
pub mod worker;

pub use vfio_bindings::uapi;

/// The prefix of the `pr_*!` macros used in this crate.
const __LOG_PREFIX: &[u8] = b"vfio_rs\0";
