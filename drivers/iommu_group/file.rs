// SPDX-License-Identifier: GPL-2.0

//! The node of a group, opened.
//!
//! Lock: `Group::state`.

use kernel::{
    prelude::*,
    sync::{
        Arc,
        UniqueArc, //
    },
};
use vfio_kernel::{
    kvm::{
        KvmFile,
        KvmSlot, //
    },
    module_ref::{
        hold,
        ModuleName,
        ModuleRef, //
    },
    sched,
};

use super::Group;

/// `/dev/vfio/N`, opened. Closing it takes the group out of its container, and lets those that
/// joined it go.
///
/// Each open device holds the file, so it is closed after them, and so does the leader that it
/// joined.
pub(crate) struct GroupFile {
    group: Arc<Group>,
    /// Keeps the module of the name from being removed.
    _vfio: Option<ModuleRef>,
}

impl GroupFile {
    /// Opens the node.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the last device was unbound, `EPERM` if there is no IOMMU and the user may not
    /// have that, `EBUSY` if the node is open, or a device of the group is in use by its own.
    pub(crate) fn open(group: &Arc<Group>) -> Result<Arc<Self>> {
        let file = UniqueArc::new_uninit(GFP_KERNEL)?;
        let mut state = group.state().lock();
        if state.alive().is_err() {
            return Err(ENODEV);
        }
        group.check_rawio()?;
        if state.opener.is_some() || !state.by_node.is_none() {
            return Err(EBUSY);
        }
        state.opener = Some(sched::current_pid());
        Ok(file
            .write(Self {
                group: group.clone(),
                _vfio: hold(ModuleName::Vfio),
            })
            .into())
    }

    /// The group.
    pub(crate) fn group(&self) -> &Arc<Group> {
        &self.group
    }
}

impl KvmFile for GroupFile {
    fn kvm(&self) -> &KvmSlot {
        self.group.kvm()
    }

    fn enforced_coherent(&self) -> bool {
        // Waits for a merge, so that either this or the merge sees what the other did.
        self.group.all_coherent(&self.group.state().lock())
    }

    fn kvm_changed(&self) {
        self.group.kvm_changed();
    }
}

impl Drop for GroupFile {
    fn drop(&mut self) {
        let mut state = self.group.state().lock();
        let leftover = state.leave_container();
        // Closes their files, maybe, which is not for under a lock.
        while let Some(file) = state.members.dismiss_one() {
            drop(state);
            drop(file);
            state = self.group.state().lock();
        }
        state.opener = None;
        drop(state);
        drop(leftover);
    }
}
