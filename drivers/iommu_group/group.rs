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
    iommufd::Ctx,
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
    seat::Seat,
    Drivers, //
};
use crate::{
    backend::{
        Fence,
        GroupMachine, //
    },
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
    kvm: Arc<KvmSlot>,
}

/// What changes, under `Group::state`.
pub(super) struct GroupState {
    /// In its leader's state while it has joined one, see `seat.rs`. Gone when the last device was
    /// unbound: then the node is an empty shell.
    pub(super) seat: Option<Seat>,
    /// Who opened the file that is open; there may be one.
    pub(super) opener: Option<i32>,
    /// Not that of a leader.
    pub(super) container: Option<Arc<Container>>,
    /// In place of a container, see `iommufd.rs`.
    pub(super) iommufd: Option<Ctx>,
    /// Devices that users have by their own nodes.
    pub(super) by_node: Count,
    /// The group that it joined.
    pub(super) leader: Option<Arc<Group>>,
    /// The groups that joined it.
    pub(super) members: Members,
    /// The last container that wanted it was told that it is busy.
    pub(super) was_busy: bool,
}

/// What others may know of a group at some moment.
pub(super) struct Standing {
    pub(super) iommu_group: ARef<iommu::IommuGroup>,
    pub(super) opener: Option<i32>,
    /// The group that it joined.
    pub(super) leader: Option<i32>,
    /// Its own, or the one that it came into with its leader.
    pub(super) container: Option<Arc<Container>>,
    /// It has a context of iommufd in place of a container.
    pub(super) iommufd: bool,
    /// How many devices of it are bound by their own nodes.
    pub(super) by_node: usize,
    /// How often devices of it are open, through itself or its leader.
    pub(super) users: usize,
    pub(super) was_busy: bool,
    pub(super) cut_off: bool,
}

/// Where a group can go by `VFIO_GROUP_SET_CONTAINER`.
pub(crate) enum Place {
    /// Into a container.
    Container(Arc<Container>),
    /// To address spaces of iommufd.
    Iommufd(Ctx),
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
        iommu_group: ARef<iommu::IommuGroup>,
        drivers: &Arc<Drivers>,
    ) -> Result<Arc<Self>> {
        Self::with(iommu_group, None, drivers)
    }

    /// The group of a device that has no IOMMU.
    pub(super) fn new_bare(bare: BareGroup, drivers: &Arc<Drivers>) -> Result<Arc<Self>> {
        Self::with(bare.group().clone(), Some(bare), drivers)
    }

    fn with(
        iommu_group: ARef<iommu::IommuGroup>,
        bare: Option<BareGroup>,
        drivers: &Arc<Drivers>,
    ) -> Result<Arc<Self>> {
        let id = iommu_group.id();
        let fence = match bare {
            Some(_) => Fence::Missing,
            None => Fence::Iommu,
        };
        let state = GroupState {
            seat: Some(Seat::new(iommu_group, bare)),
            opener: None,
            container: None,
            iommufd: None,
            by_node: Count::NONE,
            leader: None,
            members: Members::new(),
            was_busy: false,
        };
        let drivers = drivers.clone();
        let kvm = Arc::pin_init(KvmSlot::new(), GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                id,
                fence,
                drivers,
                state <- new_mutex!(state, "Group::state"),
                devices <- new_mutex!(KVec::new(), "Group::devices"),
                kvm,
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
        let party = self.with_party(|head, state| {
            let container = state.container.clone();
            let seat = state.seat_of(head, self)?;
            Some((
                container,
                seat.iommu_group.clone(),
                seat.users.get(),
                seat.cut_off,
            ))
        });
        let (container, iommu_group, users, cut_off) = party.ok_or(ENODEV)?;
        let state = self.state.lock();
        Ok(Standing {
            iommu_group,
            opener: state.opener,
            leader: state.leader.as_ref().map(|leader| leader.id()),
            container,
            iommufd: state.iommufd.is_some(),
            by_node: state.by_node.get(),
            users,
            was_busy: state.was_busy,
            cut_off,
        })
    }

    /// The virtual machine that the group's file belongs to.
    pub(crate) fn kvm(&self) -> &Arc<KvmSlot> {
        &self.kvm
    }

    /// The group's file belongs to another virtual machine than before. KVM's mutexes are held.
    pub(super) fn kvm_changed(&self) {
        let container = self.with_party(|_, state| state.container.clone());
        if let Some(backend) = container.and_then(|container| container.backend()) {
            backend.kvm_changed();
        }
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
        self.with_party(|head, state| {
            let container_set = state.container.is_some() || state.iommufd.is_some();
            let head_cut_off = state.seat.as_ref().is_some_and(|seat| seat.cut_off);
            let claimed = |seat: &Seat| seat.iommu_group.dma_owner_claimed();
            let claimed = !container_set && state.seat.as_ref().is_some_and(claimed);
            let seat = state.seat_of(head, self).ok_or(ENODEV)?;
            Ok(Status {
                viable: match container_set {
                    true => !head_cut_off && !seat.cut_off,
                    false => !claimed && head.check_drivers().is_ok(),
                },
                container_set,
                merged: !core::ptr::eq(head, self),
            })
        })
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
        let had_user = self.with_party(|head, state| {
            let container = state.container.clone();
            let by_iommufd = state.iommufd.is_some() || !state.by_node.is_none();
            let Some(seat) = state.seat_of(head, self) else {
                return false;
            };
            if let Some(container) = &container {
                container.cut_off(&seat.iommu_group);
            }
            seat.cut_off = container.is_some() || by_iommufd;
            seat.cut_off
        });
        if !had_user {
            return false;
        }
        // Not with the list locked, as a device may be in the middle of a reset.
        for at in 0usize.. {
            let device = self.devices.lock().get(at).cloned();
            let Some(device) = device else {
                break;
            };
            device.request(0);
            device.cut_off();
        }
        true
    }

    /// `VFIO_GROUP_SET_CONTAINER`; `place` is asked when the group's own checks are passed.
    /// A refusal is explained in the log.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the group is in a container, `EBUSY` if it has joined another, `ENODEV` if its
    /// last device was unbound, what `place` and the container itself say. Groups that joined it
    /// come along, or all stay where they are.
    pub(crate) fn set_container(&self, place: impl Fn() -> Result<Place>) -> Result {
        attach_patiently(|| self.try_set_container(&place))
    }

    fn try_set_container(&self, place: impl Fn() -> Result<Place>) -> Result<(), NotNow> {
        let mut leftover = Leftover::none();
        let mut state = self.state.lock();
        state.check(Op::SetContainer)?;
        state.seat()?;
        let container = match place()? {
            Place::Container(container) => container,
            Place::Iommufd(ctx) => return Ok(self.enter_iommufd(&mut state, ctx)?),
        };
        let iommu_group = &state.seat()?.iommu_group;
        let attached = self.check_drivers().map_err(NotNow::from);
        let attached = attached.and_then(|()| {
            let machine = GroupMachine::new(&self.kvm, None);
            container.attach_group(iommu_group, self.fence, Sharing::Optional, machine)
        });
        let was_busy = matches!(attached, Err(NotNow::Failed(EBUSY)));
        let all = match attached {
            Ok(()) => state
                .members
                .attach(self, &container, &mut leftover)
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
                member
                    .as_deref()
                    .unwrap_or(self)
                    .log_refusal("refused to a container", err);
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
        backend.msi_bank(&state.seat()?.iommu_group, index)
    }

    /// Who uses a device without an IOMMU can do anything to the machine.
    pub(crate) fn check_rawio(&self) -> Result {
        if self.fence == Fence::Missing && !sched::capable_sys_rawio() {
            return Err(EPERM);
        }
        Ok(())
    }
}

impl GroupState {
    /// The seat of a group that has joined none.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the last device was unbound.
    pub(super) fn seat(&self) -> Result<&Seat> {
        self.seat.as_ref().ok_or(ENODEV)
    }

    /// Whether a device is bound.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the last one was unbound.
    pub(super) fn alive(&self) -> Result {
        match self.leader {
            Some(_) => Ok(()),
            None => self.seat().map(|_| ()),
        }
    }

    /// What the group is to others.
    pub(super) fn role(&self) -> Role {
        Role::of(
            self.container.is_some() || self.iommufd.is_some(),
            !self.members.is_empty(),
            self.leader.is_some(),
        )
    }

    /// Whether the group may do `op`, see [`Role::check`].
    pub(super) fn check(&self, op: Op) -> Result {
        let own = self.seat.as_ref().is_some_and(|seat| !seat.users.is_none());
        self.role().check(op, own || self.members.in_use())
    }

    /// Takes the group and those that joined it out.
    pub(super) fn leave_container(&mut self) -> Leftover {
        self.iommufd = None;
        let Some(container) = self.container.take() else {
            return Leftover::none();
        };
        let mut leftover = self.members.detach(&container);
        if let Some(seat) = &mut self.seat {
            leftover.add(container.detach_group(&seat.iommu_group));
            seat.cut_off = false;
        }
        leftover
    }

    /// The last device was unbound. Groups that joined go on without the leader's devices.
    pub(super) fn revoke(&mut self) -> Leftover {
        let leftover = match (&self.container, self.seat.take()) {
            (Some(container), Some(seat)) => container.detach_group(&seat.iommu_group),
            _ => Leftover::none(),
        };
        self.forget_container_of_nobody();
        leftover
    }

    /// Lets go of the container if nobody is in it: the group is gone and nobody joined it.
    pub(super) fn forget_container_of_nobody(&mut self) {
        if self.seat.is_none() && self.members.is_empty() {
            self.container = None;
        }
    }
}
