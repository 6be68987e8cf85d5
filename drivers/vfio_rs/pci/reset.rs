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
    power::Memory,
    Open, //
};
use crate::iommu_group::Group;

impl Open {
    /// Whether the function can be reset by `VFIO_DEVICE_RESET`.
    pub(crate) fn can_reset(&self) -> bool {
        self.reset_works
    }

    /// `VFIO_DEVICE_RESET`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the function has no reset of its own, `EAGAIN` if it is locked.
    pub(crate) fn reset(&self) -> Result {
        if !self.reset_works {
            return Err(EINVAL);
        }
        let mut memory = self.write_memory();
        self.zap_bars();
        self.reset_locked(&mut memory)
    }

    /// Resets the function; maps are revoked.
    pub(super) fn reset_locked(&self, memory: &mut Memory) -> Result {
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

    /// Tells address and group of each device that a hot reset reaches.
    ///
    /// # Errors
    ///
    /// `EPERM` for one without a group; what `f` says.
    pub(crate) fn for_each_reset_with(
        &self,
        scope: ResetScope,
        mut f: impl FnMut(PciAddress, i32) -> Result,
    ) -> Result {
        self.pci().for_each_reset_with(scope, |pci| {
            let group = iommu::Group::of(pci.device()).ok_or(EPERM)?;
            f(pci.address(), group.id())
        })
    }

    /// `VFIO_DEVICE_PCI_HOT_RESET`, by a user who has `groups` open.
    ///
    /// # Errors
    ///
    /// `EINVAL` if a device that would be reset is in none of `groups` or bound to another driver;
    /// `EAGAIN` if one is locked, or just being reset from outside; `ENOMEM`.
    pub(crate) fn hot_reset(&self, groups: &[Arc<Group>]) -> Result {
        self.device.set().hot_reset(groups)
    }
}
