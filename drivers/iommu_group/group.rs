// SPDX-License-Identifier: GPL-2.0

//! One group, its node and its way through containers.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex,
        UniqueArc, //
    },
};
use vfio_kernel::{
    iommu::{
        self,
        BareGroup, //
    },
    kvm::{
        KvmFile,
        KvmSlot, //
    },
    sched,
};

use super::Drivers;
use crate::{
    backend::Fence,
    container::Container,
    pci::Device, //
};

/// A group that users can open.
#[pin_data]
pub(crate) struct Group {
    id: i32,
    fence: Fence,
    drivers: Arc<Drivers>,
    #[pin]
    state: Mutex<State>,
    /// The devices of the group that are bound to the driver.
    #[pin]
    devices: Mutex<KVec<Arc<Device>>>,
    /// The virtual machine that the group's file belongs to.
    #[pin]
    kvm: KvmSlot,
}

struct State {
    /// Gone when the last device was unbound: then the node is an empty shell.
    iommu_group: Option<ARef<iommu::Group>>,
    /// Makes a device without an IOMMU a member of that.
    bare: Option<BareGroup>,
    /// Whether a file is open; there may be one.
    opened: bool,
    container: Option<Arc<Container>>,
    /// How often devices of the group are open.
    users: usize,
    /// The last container that wanted it was told that it is busy.
    was_busy: bool,
    /// A driver of the kernel has a device of it although the user has it: nobody's DMA works.
    cut_off: bool,
}

/// What others may know of a group at some moment.
pub(super) struct Standing {
    pub(super) iommu_group: ARef<iommu::Group>,
    pub(super) container: Option<Arc<Container>>,
    pub(super) was_busy: bool,
}

/// What `VFIO_GROUP_GET_STATUS` tells.
pub(crate) struct Status {
    /// No driver uses a device of the group for the kernel.
    pub(crate) viable: bool,
    /// The group is in a container.
    pub(crate) container_set: bool,
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
        let state = State {
            iommu_group: Some(iommu_group),
            bare,
            opened: false,
            container: None,
            users: 0,
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
        let state = self.state.lock();
        Ok(Standing {
            iommu_group: state.iommu_group.clone().ok_or(ENODEV)?,
            container: state.container.clone(),
            was_busy: state.was_busy,
        })
    }

    /// The virtual machine that the group's file belongs to.
    pub(crate) fn kvm(&self) -> &KvmSlot {
        &self.kvm
    }

    /// Makes a device one that `GET_DEVICE_FD` finds.
    pub(crate) fn add_device(&self, device: Arc<Device>) -> Result {
        self.devices.lock().push(device, GFP_KERNEL)?;
        Ok(())
    }

    /// Undoes [`add_device`](Self::add_device).
    pub(crate) fn remove_device(&self, device: &Device) {
        self.devices
            .lock()
            .retain(|other| !core::ptr::eq(&**other, device));
    }

    /// Takes the group from its user for good; no device of it is open.
    pub(super) fn revoke(&self) {
        let mut state = self.state.lock();
        state.leave_container();
        state.iommu_group = None;
        state.bare = None;
    }

    /// What `VFIO_GROUP_GET_STATUS` tells.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the last device was unbound.
    pub(crate) fn status(&self) -> Result<Status> {
        let state = self.state.lock();
        let iommu_group = state.iommu_group.as_ref().ok_or(ENODEV)?;
        let container_set = state.container.is_some();
        Ok(Status {
            viable: match container_set {
                true => !state.cut_off,
                false => !iommu_group.dma_owner_claimed(),
            },
            container_set,
        })
    }

    /// Keeps the user's DMA, and everybody else's, from memory, until the group leaves its
    /// container: a driver of the kernel has one of its devices. Returns whether there was a user.
    ///
    /// The IOMMU core denies such drivers, so this is for those that it does not know of.
    pub(super) fn cut_off(&self) -> bool {
        let mut state = self.state.lock();
        let (Some(container), Some(group)) = (&state.container, &state.iommu_group) else {
            return false;
        };
        container.cut_off(group);
        state.cut_off = true;
        drop(state);
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
    /// `EINVAL` if the group is in a container, `ENODEV` if its last device was unbound, what
    /// `container` and the container itself say.
    pub(crate) fn set_container(
        &self,
        container: impl FnOnce() -> Result<Arc<Container>>,
    ) -> Result {
        let mut state = self.state.lock();
        if state.container.is_some() {
            return Err(EINVAL);
        }
        let iommu_group = state.iommu_group.as_ref().ok_or(ENODEV)?;
        let container = container()?;
        let attached = container.attach_group(iommu_group, self.fence);
        state.was_busy = attached == Err(EBUSY);
        if attached.is_ok() {
            state.container = Some(container);
        }
        drop(state);
        attached.inspect_err(|err| self.log_refusal(*err))
    }

    /// `VFIO_GROUP_UNSET_CONTAINER`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the group is in no container, `EBUSY` if a device of it is open.
    pub(crate) fn unset_container(&self) -> Result {
        let mut state = self.state.lock();
        if state.container.is_none() {
            return Err(EINVAL);
        }
        if state.users != 0 {
            return Err(EBUSY);
        }
        state.leave_container();
        Ok(())
    }

    /// Finds the device that `name` of `VFIO_GROUP_GET_DEVICE_FD` means, and counts an open of it
    /// so that it is not unbound meanwhile. The caller undoes that by [`Device::put`].
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is none, `EINVAL` for options that the device does not take.
    pub(crate) fn find_device(&self, name: &[u8]) -> Result<Arc<Device>> {
        for device in self.devices.lock().iter() {
            if device.matches(name)? {
                device.get()?;
                return Ok(device.clone());
            }
        }
        Err(ENODEV)
    }

    /// Runs `open`, which opens a device of the group, if the container is ready for it.
    ///
    /// # Errors
    ///
    /// `EINVAL` without a container or a backend; `EPERM` for the first user of a device without
    /// an IOMMU who may not; what `open` says.
    pub(crate) fn open_device<T>(&self, open: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut state = self.state.lock();
        let container = state.container.as_ref().ok_or(EINVAL)?;
        container.backend().ok_or(EINVAL)?;
        if state.users == 0 {
            self.check_rawio()?;
        }
        let opened = open()?;
        state.users = state.users.saturating_add(1);
        Ok(opened)
    }

    /// Who uses a device without an IOMMU can do what he wants to the machine.
    fn check_rawio(&self) -> Result {
        if self.fence == Fence::Missing && !sched::capable_sys_rawio() {
            return Err(EPERM);
        }
        Ok(())
    }

    /// Runs `close`, which undoes what [`open_device`](Self::open_device) ran.
    pub(crate) fn close_device<T>(&self, close: impl FnOnce() -> T) -> T {
        let mut state = self.state.lock();
        let closed = close();
        state.users = state.users.saturating_sub(1);
        closed
    }
}

impl State {
    fn leave_container(&mut self) {
        if let (Some(container), Some(group)) = (self.container.take(), &self.iommu_group) {
            container.detach_group(group);
        }
        self.cut_off = false;
    }
}

/// `/dev/vfio/N`, opened. Closing it takes the group out of its container.
///
/// Each open device holds the file, so it is closed after them.
pub(crate) struct GroupFile {
    group: Arc<Group>,
}

impl GroupFile {
    /// Opens the node.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the last device was unbound, `EPERM` if there is no IOMMU and the user may not
    /// have that, `EBUSY` if the node is open.
    pub(crate) fn open(group: &Arc<Group>) -> Result<Arc<Self>> {
        let file = UniqueArc::new_uninit(GFP_KERNEL)?;
        let mut state = group.state.lock();
        if state.iommu_group.is_none() {
            return Err(ENODEV);
        }
        group.check_rawio()?;
        if state.opened {
            return Err(EBUSY);
        }
        state.opened = true;
        Ok(file
            .write(Self {
                group: group.clone(),
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
        &self.group.kvm
    }

    fn enforced_coherent(&self) -> bool {
        let devices = self.group.devices.lock();
        devices
            .iter()
            .all(|device| device.pci().enforces_cache_coherency())
    }
}

impl Drop for GroupFile {
    fn drop(&mut self) {
        let mut state = self.group.state.lock();
        state.leave_container();
        state.opened = false;
    }
}
