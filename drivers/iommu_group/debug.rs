// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/vfio_rs`: who has what, for root to read.
//!
//! | file       | shows                                                            |
//! |------------|------------------------------------------------------------------|
//! | `groups`   | each group: its user, its container, its devices and verdicts    |
//! | `mappings` | each container with a group: its kind, and what is mapped where  |
//!
//! Both are cut at a length that does not depend on users. What is shown is no snapshot: each group
//! and each container is locked for itself, for as long as it takes to print it.

use kernel::{
    prelude::*,
    seq_file::{
        seq_print,
        SeqFile, //
    },
    sync::Arc,
};
use vfio_kernel::debugfs::{
    Folder,
    Show,
    ShowFile, //
};

use super::{
    Asker,
    Group,
    Registry, //
};

/// Groups, or containers, that a file shows, and devices of one group.
const SHOWN: usize = 512;
const SHOWN_DEVICES: usize = 64;

/// They tell of all users, so root alone reads them.
const ROOT: u16 = 0o400;

/// The files, until dropped.
pub(crate) struct DebugFiles {
    _groups: ShowFile<GroupsFile>,
    _mappings: ShowFile<MappingsFile>,
}

impl DebugFiles {
    /// Makes them. Without debugfs there are none.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(registry: &Arc<Registry>) -> Result<Self> {
        let folder = Folder::new(c"vfio_rs")?;
        let groups = Arc::new(GroupsFile(registry.clone()), GFP_KERNEL)?;
        let mappings = Arc::new(MappingsFile(registry.clone()), GFP_KERNEL)?;
        Ok(Self {
            _groups: ShowFile::new(&folder, c"groups", ROOT, groups),
            _mappings: ShowFile::new(&folder, c"mappings", ROOT, mappings),
        })
    }
}

/// The file `groups`.
struct GroupsFile(Arc<Registry>);

/// The file `mappings`.
struct MappingsFile(Arc<Registry>);

impl Show for GroupsFile {
    type OwnerModule = crate::VfioRs;

    fn show(&self, out: &SeqFile) {
        let Ok(groups) = self.0.groups() else {
            return;
        };
        for group in groups.iter().take(SHOWN) {
            // One that is just going has nothing to say.
            let _ = show_group(group, out);
        }
        show_rest(groups.len().saturating_sub(SHOWN), out);
    }
}

fn show_group(group: &Group, out: &SeqFile) -> Result {
    let standing = group.standing()?;
    let report = group.report_on(&standing, Asker::Other)?;
    seq_print!(out, "group {}: {}", group.id(), report.verdict.text());
    if standing.cut_off {
        seq_print!(out, ", cut off");
    }
    match standing.opener {
        Some(pid) => seq_print!(out, ", open by {pid}"),
        None => seq_print!(out, ", closed"),
    }
    if let Some(leader) = standing.leader {
        seq_print!(out, ", joined group {leader}");
    }
    match &standing.container {
        Some(container) => seq_print!(out, ", container {}", container.number()),
        None if standing.iommufd => seq_print!(out, ", iommufd"),
        None if standing.by_node > 0 => {
            seq_print!(
                out,
                ", devices bound by their own nodes {}",
                standing.by_node
            );
        }
        None if standing.iommu_group.dma_owner_claimed() => seq_print!(out, ", owned elsewhere"),
        None => seq_print!(out, ", no owner"),
    }
    seq_print!(out, ", opens of devices {}\n", standing.users);
    for device in report.devices.iter().take(SHOWN_DEVICES) {
        seq_print!(out, "  {device}\n");
    }
    show_rest(report.devices.len().saturating_sub(SHOWN_DEVICES), out);
    Ok(())
}

impl Show for MappingsFile {
    type OwnerModule = crate::VfioRs;

    fn show(&self, out: &SeqFile) {
        let Ok(groups) = self.0.groups() else {
            return;
        };
        let mut shown = KVec::<u64>::new();
        for group in groups.iter() {
            let Ok(Some(container)) = group.standing().map(|standing| standing.container) else {
                continue;
            };
            if shown.contains(&container.number()) {
                continue;
            }
            if shown.len() == SHOWN || shown.push(container.number(), GFP_KERNEL).is_err() {
                seq_print!(out, "and more\n");
                return;
            }
            container.show(out);
        }
    }
}

/// Says that `count` more are not shown.
fn show_rest(count: usize, out: &SeqFile) {
    if count != 0 {
        seq_print!(out, "and {count} more\n");
    }
}
