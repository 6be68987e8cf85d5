// SPDX-License-Identifier: GPL-2.0
//! What the virtual machine is to do, as the host writes it into the initramfs.

use serde::{Deserialize, Serialize};

/// One run of the virtual machine.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Job {
    /// Command and arguments.
    pub argv: Vec<String>,
    /// The command's environment.
    pub env: Vec<(String, String)>,
    /// The command's working directory.
    pub cwd: String,
    /// Rows and columns if the command gets a terminal, none if it gets pipes.
    pub terminal: Option<(u16, u16)>,
    /// Folder to appear as `/lib/modules`.
    pub modules: Option<String>,
    /// Arguments of each call of `modprobe`, in order.
    pub modprobe: Vec<Vec<String>>,
    /// Folders to which writes reach the host.
    pub shares: Vec<Share>,
    /// Look for leaked kernel memory after the command.
    pub leak_scan: bool,
}

/// A folder of the host that is writable from the virtual machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Share {
    /// 9p mount tag.
    pub tag: String,
    /// Absolute path, the same on both sides.
    pub path: String,
}
