// SPDX-License-Identifier: GPL-2.0

//! A container: groups that share one I/O address space, and the backend that manages it.
//!
//! States: *unset* (no group), *set* (groups, no backend), *ready* (groups and backend). The last
//! group to leave takes the backend with it. Opening a container needs no privilege; what it can
//! do comes from the groups in it.
//!
//! Lock: `state`, inside a group's `state`, outside of a backend's locks. Not held while the
//! backend works for an ioctl: that holds a reference to it. Nor while somebody waits for user
//! memory ([`attach_patiently`]), or what is left of an address space is given back ([`Leftover`]).
//!
//! Stands for drivers/vfio/container.c.

use core::mem::replace;
use kernel::{
    new_mutex,
    prelude::*,
    seq_file::{
        seq_print,
        SeqFile, //
    },
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
};
use vfio_kernel::{
    iommu::{
        self,
        DmaOwner,
        Sharing, //
    },
    module_ref::{
        hold,
        ModuleName,
        ModuleRef, //
    },
    owed, sched,
};

use crate::backend::{
    self,
    p2p::AreaAt,
    Backend,
    Fence,
    GroupMachine,
    Refused, //
};

/// See the module's documentation.
#[pin_data]
pub(crate) struct Container {
    /// For debugfs: no other has had it.
    number: u64,
    area_at: AreaAt,
    #[pin]
    state: Mutex<ContainerState>,
    /// Keeps the module of the name from being removed.
    _vfio: Option<ModuleRef>,
}

/// How many there have been.
static COUNT: Atomic<u64> = Atomic::new(0);

enum ContainerState {
    /// No group.
    Unset,
    /// Groups, and no backend yet.
    Set(JoinedGroups),
    /// Groups in the address space of a backend.
    Ready {
        groups: JoinedGroups,
        backend: Arc<dyn Backend>,
    },
}

/// The groups of a container, one at least.
struct JoinedGroups {
    /// The same for all.
    fence: Fence,
    all: KVec<JoinedGroup>,
}

/// Why a group cannot be attached.
pub(crate) enum NotNow {
    /// This backend is busy: see [`Backend::when_idle`].
    Busy(Arc<dyn Backend>),
    /// It cannot be at all.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for NotNow {
    fn from(err: E) -> Self {
        Self::Failed(err.into())
    }
}

/// Runs `attach`, which takes the locks that it needs and drops them, and again when the backend is
/// idle that it found busy. No lock may be held, as that waits for user memory.
///
/// # Errors
///
/// Those of `attach`; `EINTR` if the task is being killed.
pub(crate) fn attach_patiently<T>(mut attach: impl FnMut() -> Result<T, NotNow>) -> Result<T> {
    let mut result = attach();
    loop {
        let busy = match result {
            Ok(attached) => return Ok(attached),
            Err(NotNow::Failed(err)) => return Err(err),
            Err(NotNow::Busy(busy)) => busy,
        };
        let mut next = Err(NotNow::Failed(EINTR));
        busy.when_idle(&mut || {
            next = attach();
            matches!(&next, Err(NotNow::Busy(again)) if Arc::ptr_eq(again, &busy))
        })?;
        result = next;
    }
}

/// What is left of an address space when the last group has gone: it is given back when this is
/// dropped, which is to be when no lock is held, as it may be much.
#[must_use]
pub(crate) struct Leftover(Option<Arc<dyn Backend>>);

impl Leftover {
    /// Nothing.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Adds another one's.
    pub(crate) fn add(&mut self, mut other: Self) {
        if self.0.is_none() {
            self.0 = other.0.take();
        }
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        if let Some(backend) = &self.0 {
            backend.release();
            owed::settle();
        }
    }
}

/// A group in the container.
struct JoinedGroup {
    group: ARef<iommu::IommuGroup>,
    /// Keeps drivers of the kernel away; none where there is no IOMMU.
    owner: Option<Arc<DmaOwner>>,
    sharing: Sharing,
    machine: GroupMachine,
    /// It must not come back by a new backend.
    cut_off: bool,
}

impl Container {
    /// An empty container; `area_at` finds memory of devices that are open in what users map.
    pub(crate) fn new(area_at: AreaAt) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                number: COUNT.fetch_add(1, Relaxed),
                area_at,
                state <- new_mutex!(ContainerState::Unset, "Container::state"),
                _vfio: hold(ModuleName::Vfio),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// What debugfs calls it.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Prints what is mapped, a line each, cut if it is too much.
    pub(crate) fn show(&self, out: &SeqFile) {
        seq_print!(out, "container {}: ", self.number);
        match self.backend() {
            Some(backend) => backend.show(out),
            None => seq_print!(out, "no address space\n"),
        }
    }

    /// `VFIO_CHECK_EXTENSION`: 1 if the backend, or any if there is none yet, has `extension`.
    pub(crate) fn check_extension(&self, extension: usize) -> u8 {
        let Ok(extension) = u32::try_from(extension) else {
            return 0;
        };
        let state = self.state.lock();
        let (fence, backend) = (state.fence(), state.backend().cloned());
        drop(state);
        let has = |fence| backend::check_extension(fence, extension);
        match (backend, fence) {
            (Some(backend), _) => backend.check_extension(extension),
            (None, Some(fence)) => has(fence),
            // It can still become anything.
            (None, None) => has(Fence::Iommu) || has(Fence::Missing),
        }
        .into()
    }

    /// `VFIO_SET_IOMMU`: gives the container a backend and attaches its groups.
    ///
    /// # Errors
    ///
    /// `EINVAL` without a group or with a backend; `ENODEV` for a number that names nothing that
    /// its groups can have; `EINVAL` for an extension that is no backend; `EPERM` if a group was
    /// cut off; what the backend says of the groups and the user.
    pub(crate) fn set_iommu(&self, kind: usize) -> Result {
        let mut state = self.state.lock();
        let ContainerState::Set(groups) = &mut *state else {
            return Err(EINVAL);
        };
        if groups.all.iter().any(|joined| joined.cut_off) {
            return Err(EPERM);
        }
        let kind = u32::try_from(kind).map_err(|_| ENODEV)?;
        if !backend::check_extension(groups.fence, kind) {
            return Err(ENODEV);
        }
        let backend = backend::open(groups.fence, kind, self.area_at)?;
        // Dropping the backend on failure detaches what was attached.
        for joined in &groups.all {
            match joined.attach(&backend) {
                Ok(()) => {}
                Err(Refused::Failed(err)) => return Err(err),
                // Nobody else knows it yet.
                Err(Refused::Busy) => return Err(EBUSY),
            }
        }
        let groups = JoinedGroups {
            fence: groups.fence,
            all: replace(&mut groups.all, KVec::new()),
        };
        *state = ContainerState::Ready { groups, backend };
        Ok(())
    }

    /// The backend, if the container is ready.
    pub(crate) fn backend(&self) -> Option<Arc<dyn Backend>> {
        self.state.lock().backend().cloned()
    }

    /// Lets a group in: from here on its devices belong to the user.
    ///
    /// # Errors
    ///
    /// `EPERM` if the group is in use by a driver, or there are groups with an IOMMU and this has
    /// none or the other way round; or what the backend says. [`NotNow::Busy`] if it is, see
    /// [`attach_patiently`].
    pub(crate) fn attach_group(
        &self,
        group: &ARef<iommu::IommuGroup>,
        fence: Fence,
        sharing: Sharing,
        machine: GroupMachine,
    ) -> Result<(), NotNow> {
        if fence == Fence::Missing && !sched::capable_sys_rawio() {
            return Err(EPERM.into());
        }
        let mut state = self.state.lock();
        if state.fence().is_some_and(|other| other != fence) {
            return Err(EPERM.into());
        }
        let mut first = KVec::new();
        let all = match state.groups_mut() {
            Some(groups) => &mut groups.all,
            None => &mut first,
        };
        all.reserve(1, GFP_KERNEL)?;
        let joined = JoinedGroup {
            group: group.clone(),
            owner: match fence {
                Fence::Iommu => Some(DmaOwner::claim(group)?),
                Fence::Missing => None,
            },
            sharing,
            machine,
            cut_off: false,
        };
        if let Some(backend) = state.backend() {
            match joined.attach(backend) {
                Ok(()) => {}
                Err(Refused::Failed(err)) => return Err(err.into()),
                Err(Refused::Busy) => return Err(NotNow::Busy(backend.clone())),
            }
        }
        match state.groups_mut() {
            Some(groups) => groups.all.push(joined, GFP_KERNEL)?,
            None => {
                first.push(joined, GFP_KERNEL)?;
                *state = ContainerState::Set(JoinedGroups { fence, all: first });
            }
        }
        Ok(())
    }

    /// Keeps a group from memory until it leaves. It stays the container's: nobody else may have
    /// it.
    pub(crate) fn cut_off(&self, group: &iommu::IommuGroup) {
        let mut state = self.state.lock();
        if let Some(backend) = state.backend() {
            backend.detach_group(group);
        }
        if let Some(groups) = state.groups_mut() {
            for joined in &mut groups.all {
                joined.cut_off |= joined.is(group);
            }
        }
    }

    /// Takes a group out, and the backend after the last one, which is returned.
    pub(crate) fn detach_group(&self, group: &iommu::IommuGroup) -> Leftover {
        let mut state = self.state.lock();
        if let Some(backend) = state.backend() {
            backend.detach_group(group);
        }
        let Some(groups) = state.groups_mut() else {
            return Leftover::none();
        };
        groups.all.retain(|joined| !joined.is(group));
        if !groups.all.is_empty() {
            return Leftover::none();
        }
        match replace(&mut *state, ContainerState::Unset) {
            // An ioctl that still runs has a reference, but no group left to serve.
            ContainerState::Ready { backend, .. } => Leftover(Some(backend)),
            ContainerState::Set(_) | ContainerState::Unset => Leftover::none(),
        }
    }
}

impl JoinedGroup {
    fn is(&self, group: &iommu::IommuGroup) -> bool {
        self.group.id() == group.id()
    }

    /// Lets it see the address space of `backend`, if there is an IOMMU to do so.
    fn attach(&self, backend: &Arc<dyn Backend>) -> Result<(), Refused> {
        match &self.owner {
            Some(owner) => backend.attach_group(owner.clone(), self.sharing, &self.machine),
            None => Ok(()),
        }
    }
}

impl ContainerState {
    fn groups_mut(&mut self) -> Option<&mut JoinedGroups> {
        match self {
            Self::Unset => None,
            Self::Set(groups) | Self::Ready { groups, .. } => Some(groups),
        }
    }

    /// That of the groups, if there are any.
    fn fence(&self) -> Option<Fence> {
        match self {
            Self::Unset => None,
            Self::Set(groups) | Self::Ready { groups, .. } => Some(groups.fence),
        }
    }

    fn backend(&self) -> Option<&Arc<dyn Backend>> {
        match self {
            Self::Ready { backend, .. } => Some(backend),
            Self::Unset | Self::Set(_) => None,
        }
    }
}
