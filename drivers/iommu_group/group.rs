// SPDX-License-Identifier: GPL-2.0

//! One group, its node and its way through containers.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    },
};
use vfio_kernel::{
    count::Count,
    iommu::{
        self,
        BareGroup,
        Sharing, //
    },
    kvm::KvmSlot,
    sched,
    shared_page::PageMap,
};

use super::{
    device::GroupedDevice,
    merge::Members,
    roles::{
        Op,
        Role, //
    },
    Drivers, //
};
use crate::{
    backend::Fence,
    core::{
        attach_patiently,
        Container,
        Leftover,
        NotNow, //
    },
};

/// A group that users can open.
#[pin_data]
pub(crate) struct Group {
    id: i32,
    fence: Fence,
    drivers: Arc<Drivers>,
    #[pin]
    state: Mutex<GroupState>,
    /// The devices of the group that are bound to the driver.
    #[pin]
    pub(super) devices: Mutex<KVec<Arc<dyn GroupedDevice>>>,
    /// The virtual machine that the group's file belongs to.
    #[pin]
    kvm: KvmSlot,
}

/// What changes, under `Group::state`.
pub(super) struct GroupState {
    /// Gone when the last device was unbound: then the node is an empty shell.
    iommu_group: Option<ARef<iommu::Group>>,
    /// Makes a device without an IOMMU a member of that.
    bare: Option<BareGroup>,
    /// Who opened the file that is open; there may be one.
    pub(super) opener: Option<i32>,
    /// Not that of a leader.
    pub(super) container: Option<Arc<Container>>,
    /// How often devices of the group are open; those of a member, through it, are not counted
    /// here.
    pub(super) users: Count,
    /// The group that it joined.
    pub(super) leader: Option<Arc<Group>>,
    /// The groups that joined it.
    pub(super) members: Members,
    /// The last container that wanted it was told that it is busy.
    pub(super) was_busy: bool,
    /// A driver of the kernel has a device of it although the user has it: nobody's DMA works.
    cut_off: bool,
}

/// What others may know of a group at some moment.
pub(super) struct Standing {
    pub(super) iommu_group: ARef<iommu::Group>,
    pub(super) opener: Option<i32>,
    /// The group that it joined.
    pub(super) leader: Option<i32>,
    /// Its own, or the one that it came into with its leader.
    pub(super) container: Option<Arc<Container>>,
    /// How often devices of it are open, through itself or its leader.
    pub(super) users: usize,
    pub(super) was_busy: bool,
    pub(super) cut_off: bool,
}

/// What `VFIO_GROUP_GET_STATUS` tells.
pub(crate) struct Status {
    /// No driver uses a device of the group for the kernel.
    pub(crate) viable: bool,
    /// The group is in a container.
    pub(crate) container_set: bool,
    /// The group has joined another, whose the rest is.
    pub(crate) merged: bool,
}

impl Group {
    /// A group without devices.
    pub(super) fn new(
        iommu_group: ARef<iommu::Group>,
        drivers: &Arc<Drivers>,
    ) -> Result<Arc<Self>> {
        Self::with(iommu_group, None, drivers)
    }

    /// The group of a device that has no IOMMU.
    pub(super) fn new_bare(bare: BareGroup, drivers: &Arc<Drivers>) -> Result<Arc<Self>> {
        Self::with(bare.group().clone(), Some(bare), drivers)
    }

    fn with(
        iommu_group: ARef<iommu::Group>,
        bare: Option<BareGroup>,
        drivers: &Arc<Drivers>,
    ) -> Result<Arc<Self>> {
        let id = iommu_group.id();
        let fence = match bare {
            Some(_) => Fence::Missing,
            None => Fence::Iommu,
        };
        let state = GroupState {
            iommu_group: Some(iommu_group),
            bare,
            opener: None,
            container: None,
            users: Count::NONE,
            leader: None,
            members: Members::new(),
            was_busy: false,
            cut_off: false,
        };
        let drivers = drivers.clone();
        Arc::pin_init(
            pin_init!(Self {
                id,
                fence,
                drivers,
                state <- new_mutex!(state, "Group::state"),
                devices <- new_mutex!(KVec::new(), "Group::devices"),
                kvm <- KvmSlot::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// The number users know the group by.
    pub(crate) fn id(&self) -> i32 {
        self.id
    }

    /// What keeps its devices from others' memory.
    pub(crate) fn fence(&self) -> Fence {
        self.fence
    }

    /// Which driver has which device.
    pub(super) fn drivers(&self) -> &Drivers {
        &self.drivers
    }

    /// What others may know of it now.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the last device was unbound.
    pub(super) fn standing(&self) -> Result<Standing> {
        let by_leader = self
            .with_leader(|shared, member| (shared.container, member.users.get(), member.cut_off));
        let state = self.state.lock();
        let (container, users, cut_off) = by_leader
            .unwrap_or_else(|| (state.container.clone(), state.users.get(), state.cut_off));
        Ok(Standing {
            iommu_group: state.alive()?.clone(),
            opener: state.opener,
            leader: state.leader.as_ref().map(|leader| leader.id()),
            container,
            users,
            was_busy: state.was_busy,
            cut_off,
        })
    }

    /// The virtual machine that the group's file belongs to.
    pub(crate) fn kvm(&self) -> &KvmSlot {
        &self.kvm
    }

    /// What its user can change.
    pub(super) fn state(&self) -> &Mutex<GroupState> {
        &self.state
    }

    /// What `VFIO_GROUP_GET_STATUS` tells.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the last device was unbound.
    pub(crate) fn status(&self) -> Result<Status> {
        let of_member = self.with_leader(|shared, member| Status {
            viable: shared.status.viable && !member.cut_off,
            merged: true,
            ..shared.status
        });
        if let Some(status) = of_member {
            return Ok(status);
        }
        let state = self.state.lock();
        state.alive()?;
        Ok(self.status_by(&state))
    }

    /// What [`status`](Self::status) tells of a group that has joined none.
    pub(super) fn status_by(&self, state: &GroupState) -> Status {
        let container_set = state.container.is_some();
        let claimed = |group: &ARef<iommu::Group>| group.dma_owner_claimed();
        Status {
            viable: match container_set {
                true => !state.cut_off,
                false => {
                    !state.iommu_group.as_ref().is_some_and(claimed) && self.check_drivers().is_ok()
                }
            },
            container_set,
            merged: false,
        }
    }

    /// Refuses a group that a driver of the kernel has a device of without the IOMMU core knowing,
    /// see `watch.rs`. One that comes later finds the group in a container, as `Group::state` is
    /// held.
    pub(super) fn check_drivers(&self) -> Result {
        match self.drivers.kernel_has(self.id) {
            true => Err(EPERM),
            false => Ok(()),
        }
    }

    /// Keeps the user's DMA, and everybody else's, from memory, until the group leaves its
    /// container: a driver of the kernel has one of its devices. Returns whether there was a user.
    ///
    /// The IOMMU core denies such drivers, so this is for those that it does not know of.
    pub(super) fn cut_off(&self) -> bool {
        let with_leader = self.with_leader(|shared, member| {
            shared.container?.cut_off(&member.iommu_group);
            member.cut_off = true;
            Some(())
        });
        let done = with_leader.unwrap_or_else(|| {
            let mut state = self.state.lock();
            state.container.as_ref()?.cut_off(state.alive().ok()?);
            state.cut_off = true;
            Some(())
        });
        if done.is_none() {
            return false;
        }
        for device in self.devices.lock().iter() {
            device.request(0);
        }
        true
    }

    /// `VFIO_GROUP_SET_CONTAINER`; `container` is asked when the group's own checks are passed.
    /// A refusal is explained in the log.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the group is in a container, `EBUSY` if it has joined another, `ENODEV` if its
    /// last device was unbound, what `container` and the container itself say. Groups that joined
    /// it come along, or all stay where they are.
    pub(crate) fn set_container(&self, container: impl Fn() -> Result<Arc<Container>>) -> Result {
        attach_patiently(|| self.try_set_container(&container))
    }

    fn try_set_container(
        &self,
        container: impl Fn() -> Result<Arc<Container>>,
    ) -> Result<(), NotNow> {
        let mut leftover = Leftover::none();
        let mut state = self.state.lock();
        state.check(Op::SetContainer)?;
        let iommu_group = state.alive()?;
        let container = container()?;
        let attached = self.check_drivers().map_err(NotNow::from);
        let attached = attached
            .and_then(|()| container.attach_group(iommu_group, self.fence, Sharing::Optional));
        let was_busy = matches!(attached, Err(NotNow::Failed(EBUSY)));
        let all = match attached {
            Ok(()) => state
                .members
                .attach(&container, &mut leftover)
                .inspect_err(|_| leftover.add(container.detach_group(iommu_group))),
            Err(err) => Err((None, err)),
        };
        state.was_busy = was_busy;
        if all.is_ok() {
            state.container = Some(container);
        }
        drop(state);
        all.map_err(|(member, why)| {
            if let NotNow::Failed(err) = why {
                member.as_deref().unwrap_or(self).log_refusal(err);
            }
            why
        })
    }

    /// `VFIO_GROUP_UNSET_CONTAINER`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the group is in no container, `EBUSY` if a device of it or of one that joined is
    /// open, or it has joined another.
    pub(crate) fn unset_container(&self) -> Result {
        let mut state = self.state.lock();
        state.check(Op::UnsetContainer)?;
        let leftover = state.leave_container();
        drop(state);
        drop(leftover);
        Ok(())
    }

    /// What shows a bank of MSI registers to users, as long as the group is in its container.
    ///
    /// # Errors
    ///
    /// `EINVAL` without a container or a backend; what the backend says.
    pub(crate) fn msi_bank(&self, index: u32) -> Result<Arc<PageMap>> {
        let state = self.state.lock();
        let container = state.container.as_ref().ok_or(EINVAL)?;
        let backend = container.backend().ok_or(EINVAL)?;
        let group = state.iommu_group.as_ref().ok_or(ENODEV)?;
        backend.msi_bank(group, index)
    }

    /// Who uses a device without an IOMMU can do anything to the machine.
    pub(super) fn check_rawio(&self) -> Result {
        if self.fence == Fence::Missing && !sched::capable_sys_rawio() {
            return Err(EPERM);
        }
        Ok(())
    }
}

impl GroupState {
    /// The IOMMU's group.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the last device was unbound.
    pub(super) fn alive(&self) -> Result<&ARef<iommu::Group>> {
        self.iommu_group.as_ref().ok_or(ENODEV)
    }

    /// What the group is to others.
    pub(super) fn role(&self) -> Role {
        Role::of(
            self.container.is_some(),
            !self.members.is_empty(),
            self.leader.is_some(),
        )
    }

    /// Whether the group may do `op`, see [`Role::check`].
    pub(super) fn check(&self, op: Op) -> Result {
        self.role()
            .check(op, !self.users.is_none() || self.members.in_use())
    }

    /// Takes the group and those that joined it out.
    pub(super) fn leave_container(&mut self) -> Leftover {
        let Some(container) = self.container.take() else {
            return Leftover::none();
        };
        let mut leftover = self.members.detach(&container);
        if let Some(group) = &self.iommu_group {
            leftover.add(container.detach_group(group));
        }
        self.cut_off = false;
        leftover
    }

    /// The last device was unbound. Groups that joined go on without the leader's devices.
    pub(super) fn revoke(&mut self) -> Leftover {
        let leftover = match (&self.container, &self.iommu_group) {
            (Some(container), Some(group)) => container.detach_group(group),
            _ => Leftover::none(),
        };
        self.iommu_group = None;
        self.bare = None;
        self.cut_off = false;
        self.forget_container_of_nobody();
        leftover
    }

    /// Lets go of the container if nobody is in it: the group is gone and nobody joined it.
    pub(super) fn forget_container_of_nobody(&mut self) {
        if self.iommu_group.is_none() && self.members.is_empty() {
            self.container = None;
        }
    }
}
