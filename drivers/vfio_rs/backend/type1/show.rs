// SPDX-License-Identifier: GPL-2.0

//! What is mapped, for debugfs.

use kernel::seq_file::{
    seq_print,
    SeqFile, //
};

use super::{
    maps::MapEntry,
    Type1, //
};

/// Mappings that are shown of one container.
const SHOWN: usize = 1024;

impl Type1 {
    /// Prints a line about the address space, a `kind` of which it is, and the mappings in order,
    /// with the lock held: that is memory being written, no more.
    pub(in crate::backend) fn print(&self, kind: &str, out: &SeqFile) {
        let maps = self.maps.lock();
        let groups = maps.members.len();
        let avail = maps.avail;
        seq_print!(out, "{kind}, groups {groups}, mappings left {avail}\n");
        for (count, (range, entry)) in maps.ranges.iter().enumerate() {
            if count == SHOWN {
                seq_print!(out, "  and more\n");
                break;
            }
            let what = match entry {
                _ if entry.is_busy() => "busy",
                _ if entry.mark() => "memory without an address",
                MapEntry::Pages(_) => "memory",
                MapEntry::Other(_) => "memory of devices",
            };
            seq_print!(out, "  {:#x}-{:#x} {what}\n", range.start(), range.last());
        }
    }
}
