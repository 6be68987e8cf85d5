// SPDX-License-Identifier: GPL-2.0

//! Resets that a user asks for: of the function, and of all that share a bridge.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    iommu,
    pci::{
        PciAddress,
        ResetScope, //
    },
};

use super::{
    power::MemoryState,
    Device,
    Open, //
};
use crate::{
    core::Iommufd,
    iommu_group::Group, //
};

impl Open {
    /// Whether the function can be reset by `VFIO_DEVICE_RESET`.
    pub(crate) fn can_reset(&self) -> bool {
        self.reset_works
    }

    /// `VFIO_DEVICE_RESET`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the function has no reset of its own, `EIO` if it does not wake up, `EAGAIN` if
    /// it is locked.
    pub(crate) fn reset(&self) -> Result {
        if !self.reset_works {
            return Err(EINVAL);
        }
        let _awake = self.awake()?;
        let mut memory = self.write_memory();
        self.zap_bars();
        self.reset_locked(&mut memory)
    }

    /// Resets the function; maps are revoked.
    pub(super) fn reset_locked(&self, memory: &mut MemoryState) -> Result {
        let _pin = self.pin.hold();
        // A function that sleeps would be woken up without restoring what it forgot.
        let _ = self.set_power_state(memory, 0);
        let _own = self.device.resets().by_ourselves();
        self.pci().try_reset_function()
    }

    /// How far a hot reset goes.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is no such reset.
    pub(crate) fn reset_scope(&self) -> Result<ResetScope> {
        self.pci().reset_scope().ok_or(ENODEV)
    }

    /// How many devices a hot reset reaches.
    pub(crate) fn count_reset_with(&self, scope: ResetScope) -> Result<usize> {
        let mut count = 0usize;
        self.pci().for_each_reset_with(scope, |_| {
            count = count.saturating_add(1);
            Ok(())
        })?;
        Ok(count)
    }

    /// Tells of each device that a hot reset reaches its address, and who it is to the user.
    ///
    /// # Errors
    ///
    /// `EPERM` for one without a group, where those are told; `ENOMEM`; what `f` says.
    pub(crate) fn for_each_reset_with(
        &self,
        scope: ResetScope,
        mut f: impl FnMut(PciAddress, Dependent) -> Result,
    ) -> Result {
        let ids = match self.by_node() {
            Some(iommufd) => Some(self.device.set().ids(iommufd)?),
            None => None,
        };
        self.pci().for_each_reset_with(scope, |pci| {
            let dependent = match &ids {
                Some(ids) => ids
                    .iter()
                    .find(|(member, _)| member == pci)
                    .map_or(Dependent::Id(DevId::NotOwned), |(_, id)| Dependent::Id(*id)),
                None => Dependent::Group(iommu::IommuGroup::of(pci.device()).ok_or(EPERM)?.id()),
            };
            f(pci.address(), dependent)
        })
    }

    /// What the device is bound to, if its user came by its own node.
    pub(crate) fn by_node(&self) -> Option<&Arc<Iommufd>> {
        self.access.iommufd().filter(|iommufd| iommufd.by_node())
    }

    /// `VFIO_DEVICE_PCI_HOT_RESET`, by a user who has what `owner` says.
    ///
    /// # Errors
    ///
    /// `EINVAL` if a device that would be reset is not among that or bound to another driver;
    /// `EAGAIN` if one is locked, or just being reset from outside; `ENOMEM`.
    pub(crate) fn hot_reset(&self, owner: ResetOwner<'_>) -> Result {
        self.device.set().hot_reset(owner)
    }
}

/// What a user has, and so may reset.
#[derive(Clone, Copy)]
pub(crate) enum ResetOwner<'a> {
    /// All devices of these groups.
    Groups(&'a [Arc<Group>]),
    /// All that is bound to the context of this one, and others of their groups.
    Iommufd(&'a Iommufd),
}

/// A device that a hot reset reaches, as its user knows it.
#[derive(Clone, Copy)]
pub(crate) enum Dependent {
    /// By its group.
    Group(i32),
    /// By its number.
    Id(DevId),
}

/// What a device is to a context of iommufd.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum DevId {
    /// Bound to it, by this number.
    Bound(u32),
    /// In a group of which it has another device.
    Owned,
    /// Nothing.
    NotOwned,
}

impl DevId {
    /// What `device` is to the context of `iommufd`.
    pub(super) fn of(device: &Device, iommufd: &Iommufd) -> Self {
        let ctx = iommufd.ctx();
        let open = device.current();
        let bound = open.as_ref().and_then(|open| open.access.iommufd());
        if let Some(bound) = bound.filter(|bound| bound.ctx().is(ctx)) {
            return Self::Bound(bound.id());
        }
        match iommu::IommuGroup::of(device.pci().device()) {
            Some(group) if ctx.has_group(&group) => Self::Owned,
            _ => Self::NotOwned,
        }
    }
}

impl ResetOwner<'_> {
    /// Whether it may reset `device`.
    pub(super) fn owns(self, device: &Device) -> bool {
        match self {
            Self::Groups(groups) => groups
                .iter()
                .any(|group| Arc::ptr_eq(group, device.group())),
            Self::Iommufd(iommufd) => DevId::of(device, iommufd) != DevId::NotOwned,
        }
    }
}
