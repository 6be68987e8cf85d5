// SPDX-License-Identifier: GPL-2.0

//! Groups that join another one: `VFIO_GROUP_MERGE` and `VFIO_GROUP_SPLIT`.
//!
//! A member goes wherever its leader goes: into its containers and out of them, and its devices
//! are opened through the leader. The leader holds the member's file, so the member's node stays
//! open; the member points back to the leader's group, not to its file. Closing the leader ends
//! the merge, so there is no cycle that lasts.
//!
//! Who is a member of whom changes with both groups' `state` held, and so can be read with either.
//! The leader's is taken first, and that of a group only after a look whether it is a member. A
//! merge takes those of two groups that are no leader and member yet: in the order of their
//! addresses, and it waits for the second only if the first is nobody's member. So nobody waits for
//! a leader with a member, and merges that wait for each other do so upwards.
//!
//! Locks: `Group::state` of the leader, that of the member, `Container::state`.

use core::iter::once;
use kernel::{
    fs::File,
    prelude::*,
    sync::{
        aref::ARef,
        lock::mutex::MutexGuard,
        Arc, //
    },
};
use vfio_kernel::{
    iommu::Sharing,
    kvm::Kvm,
    mutex::{
        lock_killable,
        lock_nested, //
    },
};

use super::{
    group::{
        Group,
        GroupState, //
    },
    roles::{
        lowers_coherency,
        Coherency,
        Op, //
    },
    seat::Seat,
};
use crate::{
    backend::GroupMachine,
    core::{
        attach_patiently,
        Container,
        Leftover,
        NotNow, //
    },
};

type StateGuard<'a> = MutexGuard<'a, GroupState>;

/// A group that joined.
pub(super) struct Member {
    group: Arc<Group>,
    /// Its file, so that it is open for nobody else.
    file: ARef<File>,
    sharing: Sharing,
    seat: Seat,
}

/// The groups that joined one, in its `state`.
pub(super) struct Members(KVec<Member>);

impl Members {
    /// Nobody.
    pub(super) fn new() -> Self {
        Self(KVec::new())
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a device of some member is open.
    pub(super) fn in_use(&self) -> bool {
        self.0.iter().any(|member| !member.seat.users.is_none())
    }

    /// The groups.
    fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.0.iter().map(|member| &member.group)
    }

    fn position(&self, group: &Group) -> Option<usize> {
        self.groups()
            .position(|other| core::ptr::eq(&**other, group))
    }

    /// The seat of a member.
    pub(super) fn seat_of(&mut self, group: &Group) -> Option<&mut Seat> {
        let at = self.position(group)?;
        Some(&mut self.0.get_mut(at)?.seat)
    }

    /// Lets all into `container`, or none; then tells which one cannot be.
    pub(super) fn attach(
        &self,
        leader: &Group,
        container: &Container,
        leftover: &mut Leftover,
    ) -> Result<(), (Option<Arc<Group>>, NotNow)> {
        for (at, member) in self.0.iter().enumerate() {
            if let Err(err) = member.attach(leader, container) {
                for done in self.0.iter().take(at) {
                    leftover.add(container.detach_group(&done.seat.iommu_group));
                }
                return Err((Some(member.group.clone()), err));
            }
        }
        Ok(())
    }

    /// Takes all out of `container`.
    pub(super) fn detach(&mut self, container: &Container) -> Leftover {
        let mut leftover = Leftover::none();
        for member in &mut self.0 {
            leftover.add(container.detach_group(&member.seat.iommu_group));
            member.seat.cut_off = false;
        }
        leftover
    }

    /// Lets one go, in a leader that is in no container. Its file, which is returned, is to be
    /// dropped without locks.
    pub(super) fn dismiss_one(&mut self) -> Option<ARef<File>> {
        let Member {
            group, file, seat, ..
        } = self.0.pop()?;
        let mut theirs = lock_nested(group.state());
        theirs.leader = None;
        theirs.seat = Some(seat);
        Some(file)
    }
}

impl Member {
    fn attach(&self, leader: &Group, container: &Container) -> Result<(), NotNow> {
        attach(leader, &self.group, &self.seat, container, self.sharing)
    }
}

/// Lets a group that is, or is to be, a member of `leader` into `container`.
fn attach(
    leader: &Group,
    group: &Group,
    seat: &Seat,
    container: &Container,
    sharing: Sharing,
) -> Result<(), NotNow> {
    group.check_drivers()?;
    let machine = GroupMachine::new(group.kvm(), Some(leader.kvm()));
    container.attach_group(&seat.iommu_group, group.fence(), sharing, machine)
}

impl GroupState {
    /// Whether others may join.
    fn check_leader(&self) -> Result {
        self.alive()?;
        self.check(Op::Lead)
    }
}

impl Group {
    /// `VFIO_GROUP_MERGE`: `other`, of which `file` is the open file, joins.
    ///
    /// # Errors
    ///
    /// `EINVAL` for the group itself, or if one has a context of iommufd; `ENODEV` if the last
    /// device of one of them was unbound;
    /// `EBUSY` if `other` is in a container, leads or has joined, or the group has joined, or a
    /// virtual machine counts on coherency that `other` lacks; `EPERM` if one has an IOMMU and one
    /// not; what [`Container::attach_group`] says; `EINTR`. Then nothing has changed.
    pub(crate) fn merge(
        self: &Arc<Self>,
        other: &Arc<Group>,
        file: ARef<File>,
        sharing: Sharing,
    ) -> Result {
        if Arc::ptr_eq(self, other) {
            return Err(EINVAL);
        }
        attach_patiently(|| self.try_merge(other, file.clone(), sharing))
    }

    fn try_merge(
        self: &Arc<Self>,
        other: &Arc<Group>,
        file: ARef<File>,
        sharing: Sharing,
    ) -> Result<(), NotNow> {
        let (mut state, mut theirs) = self.lock_with(other)?;
        // ERRNO: EINVAL, as there is no container to share.
        if state.iommufd.is_some() || theirs.iommufd.is_some() {
            return Err(EINVAL.into());
        }
        theirs.alive()?;
        theirs.check(Op::Join)?;
        if self.fence() != other.fence() {
            return Err(EPERM.into());
        }
        if self.would_lower_coherency(&state, other) {
            return Err(EBUSY.into());
        }
        state.members.0.reserve(1, GFP_KERNEL)?;
        let attached = match &state.container {
            Some(container) => attach(self, other, theirs.seat()?, container, sharing),
            None => Ok(()),
        };
        theirs.was_busy = matches!(attached, Err(NotNow::Failed(EBUSY)));
        if let Err(why) = attached {
            drop((theirs, state));
            if let NotNow::Failed(err) = why {
                other.log_refusal("refused to a container", err);
            }
            return Err(why);
        }
        let member = Member {
            group: other.clone(),
            file,
            sharing,
            seat: theirs.seat.take().ok_or(ENODEV)?,
        };
        // There is room.
        state.members.0.push(member, GFP_KERNEL)?;
        theirs.leader = Some(self.clone());
        Ok(())
    }

    /// Locks the group, which may lead, and `other`, to which it is no relation; see the top.
    fn lock_with<'a>(&'a self, other: &'a Self) -> Result<(StateGuard<'a>, StateGuard<'a>)> {
        if core::ptr::from_ref(self) < core::ptr::from_ref(other) {
            let state = lock_killable(self.state())?;
            state.check_leader()?;
            return Ok((state, lock_nested(other.state())));
        }
        let theirs = lock_killable(other.state())?;
        if theirs.leader.is_some() {
            drop(theirs);
            self.state().lock().check_leader()?;
            return Err(EBUSY);
        }
        let state = lock_nested(self.state());
        state.check_leader()?;
        Ok((state, theirs))
    }

    fn would_lower_coherency(&self, state: &GroupState, other: &Group) -> bool {
        let of = |group: &Group, enforced| Coherency {
            in_kvm: group.kvm().is_set(),
            enforced,
        };
        lowers_coherency(
            of(self, self.all_coherent(state)),
            of(other, other.own_coherent()),
            self.kvm().same_as(other.kvm()),
        )
    }

    /// Whether the IOMMU keeps all DMA of the group and its members coherent.
    pub(super) fn all_coherent(&self, state: &GroupState) -> bool {
        self.own_coherent() && state.members.groups().all(|group| group.own_coherent())
    }

    /// `VFIO_GROUP_SPLIT` by the leader: `other` leaves.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the last device of one of them was unbound, `EINVAL` if `other` is no member,
    /// `EBUSY` if a device of it is open.
    pub(crate) fn split(&self, other: &Group) -> Result {
        other.state().lock().alive()?;
        let state = self.state().lock();
        state.alive()?;
        drop(state);
        self.release(other, |_| Leftover::none())
            .unwrap_or(Err(EINVAL))
    }

    /// `VFIO_GROUP_SPLIT` by a member.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the last device was unbound, `EINVAL` if it is no member, `EBUSY` if a device of
    /// it is open.
    pub(crate) fn leave(&self) -> Result {
        loop {
            let state = self.state().lock();
            state.alive()?;
            state.check(Op::Leave)?;
            let leader = state.leader.clone().ok_or(EINVAL)?;
            drop(state);
            // If it has left meanwhile it may have joined again.
            if let Some(result) = leader.release(self, |_| Leftover::none()) {
                return result;
            }
        }
    }

    /// Takes the group from its user for good; no device of it is open.
    pub(super) fn revoke(&self) {
        loop {
            let mut state = self.state().lock();
            let Some(leader) = state.leader.clone() else {
                let leftover = state.revoke();
                drop(state);
                drop(leftover);
                return;
            };
            drop(state);
            if leader.release(self, GroupState::revoke).is_some() {
                return;
            }
        }
    }

    /// Lets a member go, and runs `then` with its state. `None` if it is no member.
    fn release(
        &self,
        other: &Group,
        then: impl FnOnce(&mut GroupState) -> Leftover,
    ) -> Option<Result> {
        let mut state = self.state().lock();
        let at = state.members.position(other)?;
        let open = state
            .members
            .0
            .get(at)
            .is_some_and(|member| !member.seat.users.is_none());
        if let Err(err) = state.role().check(Op::Split, open) {
            return Some(Err(err));
        }
        let mut theirs = lock_nested(other.state());
        let Member { file, mut seat, .. } = state.members.0.remove(at).ok()?;
        let mut leftover = match &state.container {
            Some(container) => container.detach_group(&seat.iommu_group),
            None => Leftover::none(),
        };
        state.forget_container_of_nobody();
        seat.cut_off = false;
        theirs.leader = None;
        theirs.seat = Some(seat);
        leftover.add(then(&mut theirs));
        drop((theirs, state));
        // May be the last reference to the file, not under a lock.
        drop((file, leftover));
        Some(Ok(()))
    }

    /// Calls `f` with the group and its members, until it returns something.
    pub(super) fn find_in_all<T>(
        self: &Arc<Self>,
        state: &GroupState,
        f: impl FnMut(&Arc<Group>) -> Option<T>,
    ) -> Option<T> {
        Iterator::chain(once(self), state.members.groups()).find_map(f)
    }

    /// The group and its members, and what keeps the members with their user.
    pub(crate) fn owned(
        self: &Arc<Self>,
        groups: &mut KVec<Arc<Group>>,
        files: &mut KVec<ARef<File>>,
    ) -> Result {
        let state = self.state().lock();
        groups.push(self.clone(), GFP_KERNEL)?;
        for member in &state.members.0 {
            groups.push(member.group.clone(), GFP_KERNEL)?;
            files.push(member.file.clone(), GFP_KERNEL)?;
        }
        Ok(())
    }

    /// The virtual machine of a device of the group that is opened through `leader`, which may be
    /// the group itself: that of its own file, or else that of the leader's.
    pub(crate) fn kvm_through(&self, leader: &Group) -> Option<Kvm> {
        self.kvm().get().or_else(|| leader.kvm().get())
    }
}
