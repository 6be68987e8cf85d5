// SPDX-License-Identifier: GPL-2.0

//! What is mapped, for debugfs.

use kernel::seq_file::{
    seq_print,
    SeqFile, //
};

use super::{
    maps::Entry,
    Type1,
    Version, //
};

/// Mappings that are shown of one container.
const SHOWN: usize = 1024;

impl Type1 {
    /// Prints the mappings in order, with the lock held: that is memory being written, no more.
    pub(super) fn print(&self, out: &SeqFile) {
        let maps = self.maps.lock();
        let version = match self.version {
            Version::V1 => "type1",
            Version::V2 => "type1v2",
        };
        let groups = maps.members.len();
        let avail = maps.avail;
        seq_print!(out, "{version}, groups {groups}, mappings left {avail}\n");
        for (count, (range, entry)) in maps.ranges.iter().enumerate() {
            if count == SHOWN {
                seq_print!(out, "  and more\n");
                break;
            }
            let what = match entry {
                _ if entry.is_busy() => "busy",
                _ if entry.vaddr_invalid() => "memory without an address",
                Entry::Pages(_) => "memory",
                Entry::Other(_) => "memory of devices",
            };
            seq_print!(out, "  {:#x}-{:#x} {what}\n", range.start(), range.last());
        }
    }
}
