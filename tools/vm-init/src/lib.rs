// SPDX-License-Identifier: GPL-2.0
//! What `scripts/vm` on the host and its first process in the virtual machine have in common.
//!
//! The host writes a [`Job`] into the initramfs, as [`JOB_FILE`]. While the machine runs, both
//! sides exchange [`Frame`]s over the virtio-serial port [`AGENT_PORT`]: the command's input and
//! output, and at the end its status.

mod frame;
mod job;

pub use frame::Frame;
pub use job::{Job, Share};

/// Name of the virtio-serial port that carries [`Frame`]s.
pub const AGENT_PORT: &str = "org.vfio_rs.agent";
/// Name of the virtio-serial port behind which the monitor (QMP) of the machine's QEMU listens.
pub const QMP_PORT: &str = "org.vfio_rs.qmp";
/// 9p mount tag of the host's file tree.
pub const ROOT_TAG: &str = "root";
/// Where the initramfs keeps the [`Job`], as JSON.
pub const JOB_FILE: &str = "/job.json";
/// Where the initramfs keeps modules to be loaded at once, each with a number from 0 behind this.
pub const EARLY_MODULE: &str = "/module-";
/// Folder in the virtual machine for what the first process leaves to the command.
pub const RUN_DIR: &str = "/run/vfio-rs";
