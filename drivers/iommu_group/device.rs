// SPDX-License-Identifier: GPL-2.0

//! The devices of a group: how users find and open them.
//!
//! Locks: `Group::state`, `Group::devices`.

use kernel::{
    fs::File,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
};

use super::{
    roles::{
        Op,
        Role, //
    },
    Group, //
};
use crate::core::{
    Counted,
    VfioDevice,
    Via, //
};

/// A device that users have by its group.
pub(crate) trait GroupedDevice: VfioDevice {
    /// Its group.
    fn group(&self) -> &Arc<Group>;

    /// `VFIO_GROUP_GET_DEVICE_FD`: opens it through `group`, which is its own or one that this has
    /// joined, and of which `group_file` is the open file. Returns the new descriptor.
    ///
    /// # Errors
    ///
    /// Those of [`Group::open_device`]; `EMFILE`, `ENOMEM`; what the device says.
    fn open_through(
        self: Arc<Self>,
        counted: Counted,
        group: Arc<Group>,
        group_file: ARef<File>,
    ) -> Result<isize>;
}

/// A device that its group finds, until dropped.
pub(crate) struct ListedDevice {
    group: Arc<Group>,
    device: Arc<dyn GroupedDevice>,
}

impl Drop for ListedDevice {
    fn drop(&mut self) {
        let mut devices = self.group.devices.lock();
        devices.retain(|other| !Arc::ptr_eq(other, &self.device));
    }
}

impl Group {
    /// Makes a device one that `GET_DEVICE_FD` finds, as long as the result lives.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn list_device(
        self: &Arc<Self>,
        device: Arc<dyn GroupedDevice>,
    ) -> Result<ListedDevice> {
        self.devices.lock().push(device.clone(), GFP_KERNEL)?;
        Ok(ListedDevice {
            group: self.clone(),
            device,
        })
    }

    /// Finds the device that `name` of `VFIO_GROUP_GET_DEVICE_FD` means, and counts a user of it so
    /// that it is not unbound meanwhile.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is none, `EINVAL` for options that the device does not take, `EBUSY` if
    /// the group has joined another.
    pub(crate) fn find_device(
        self: &Arc<Self>,
        name: &[u8],
    ) -> Result<(Arc<dyn GroupedDevice>, Counted)> {
        let state = self.state().lock();
        if state.role() == Role::Member {
            return Err(EBUSY);
        }
        self.find_in_all(&state, |group| group.find_own_device(name).transpose())
            .unwrap_or(Err(ENODEV))
    }

    fn find_own_device(&self, name: &[u8]) -> Result<Option<(Arc<dyn GroupedDevice>, Counted)>> {
        for device in self.devices.lock().iter() {
            if device.matches(name)? {
                let counted = device.users().count()?;
                return Ok(Some((device.clone(), counted)));
            }
        }
        Ok(None)
    }

    /// Whether the IOMMU keeps all DMA of the group's devices coherent.
    pub(super) fn own_coherent(&self) -> bool {
        let devices = self.devices.lock();
        devices.iter().all(|device| device.enforces_coherency())
    }

    /// Runs `open`, which opens a device of the group or of `of`, which joined it, if the container
    /// is ready for it. No lock is held meanwhile, as that may wait for user memory.
    ///
    /// # Errors
    ///
    /// `EINVAL` without a container or a backend; `EBUSY` if the group has joined another; `ENODEV`
    /// if `of` has left; `EPERM` for the first user of a device without an IOMMU who may not; what
    /// `open` says.
    pub(crate) fn open_device<T>(
        &self,
        of: &Group,
        open: impl FnOnce(&Via) -> Result<T>,
    ) -> Result<T> {
        let via = self.count_open(of)?;
        open(&via).inspect_err(|_| self.uncount_open(of))
    }

    /// Runs `close`, which undoes what [`open_device`](Self::open_device) ran. No lock is held
    /// meanwhile.
    pub(crate) fn close_device(&self, of: &Group, close: impl FnOnce()) {
        close();
        self.uncount_open(of);
    }

    /// Keeps the group where it is until [`uncount_open`](Self::uncount_open).
    fn count_open(&self, of: &Group) -> Result<Via> {
        let mut state = self.state().lock();
        state.check(Op::GetDevice)?;
        let via = self.via(&state)?;
        let seat = state.seat_of(self, of).ok_or(ENODEV)?;
        if seat.users.is_none() {
            of.check_rawio()?;
        }
        seat.users.inc();
        Ok(via)
    }

    fn uncount_open(&self, of: &Group) {
        if let Some(seat) = self.state().lock().seat_of(self, of) {
            seat.users.dec();
        }
    }
}
