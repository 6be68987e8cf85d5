// SPDX-License-Identifier: GPL-2.0

//! Where a group sits: in its own state, or, as long as it has joined another group, in that one's.
//!
//! There is one seat for each group, and merging moves it. So whoever looks for what is in it finds
//! the lock that it is under first: [`Group::with_party`].

use kernel::sync::aref::ARef;
use vfio_kernel::{
    count::Count,
    iommu::{
        self,
        BareGroup, //
    },
};

use super::{
    group::GroupState,
    Group, //
};

/// See the module's documentation.
pub(super) struct Seat {
    pub(super) iommu_group: ARef<iommu::IommuGroup>,
    /// Makes a device without an IOMMU a member of that.
    _bare: Option<BareGroup>,
    /// How often devices of the group are open.
    pub(super) users: Count,
    /// A driver of the kernel has a device of it although the user has it: nobody's DMA works.
    pub(super) cut_off: bool,
}

impl Seat {
    /// For a group that nobody uses.
    pub(super) fn new(iommu_group: ARef<iommu::IommuGroup>, bare: Option<BareGroup>) -> Self {
        Self {
            iommu_group,
            _bare: bare,
            users: Count::NONE,
            cut_off: false,
        }
    }
}

impl GroupState {
    /// The seat of `of`, which is `group`, whose state this is, or has joined it.
    pub(super) fn seat_of(&mut self, group: &Group, of: &Group) -> Option<&mut Seat> {
        match core::ptr::eq(group, of) {
            true => self.seat.as_mut(),
            false => self.members.seat_of(of),
        }
    }
}

impl Group {
    /// Runs `f` with the group that it has joined, or else itself, and with the state of that one,
    /// in which its seat is.
    pub(super) fn with_party<T>(&self, f: impl FnOnce(&Group, &mut GroupState) -> T) -> T {
        loop {
            let mut state = self.state().lock();
            let Some(leader) = state.leader.clone() else {
                return f(self, &mut state);
            };
            drop(state);
            let mut state = leader.state().lock();
            // If it has left meanwhile it may have joined again.
            if state.members.seat_of(self).is_some() {
                return f(&leader, &mut state);
            }
        }
    }
}
