// SPDX-License-Identifier: GPL-2.0

//! Groups and iommufd: a context in place of a container, and devices that users have by their own
//! nodes, past the group's.
//!
//! Whoever opens the node of the group has all of its devices, so the two ways exclude each other.
//!
//! Lock: `Group::state`.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    iommufd::Ctx,
    log,
    params, //
};

use super::{
    group::GroupState,
    Group, //
};
use crate::{
    backend::Fence,
    core::{
        Via,
        Way, //
    },
};

/// A device of a group that a user has by its own node. Until dropped, nobody opens the group's.
pub(crate) struct ByNode(Arc<Group>);

impl Drop for ByNode {
    fn drop(&mut self) {
        let mut state = self.0.state().lock();
        if state.by_node.dec() {
            if let Some(seat) = &mut state.seat {
                seat.cut_off = false;
            }
        }
    }
}

impl Group {
    /// Whether devices of the group may be had by their own nodes, as the parameter `cdev_groups`
    /// wants it: not if there are several.
    pub(crate) fn lets_nodes_be(&self) -> bool {
        let alone = || {
            let devices = self
                .standing()
                .and_then(|standing| standing.iommu_group.devices());
            devices.is_ok_and(|devices| devices.len() == 1)
        };
        !params::nodes_of_singletons_only() || alone()
    }

    /// For a user who is to have a device of the group by its own node.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the group's node is open, or it has several devices and they are to be had
    /// through it only, which the log tells; `EPERM` if a driver of the kernel has a device of it.
    pub(crate) fn by_node(self: &Arc<Self>) -> Result<ByNode> {
        if !self.lets_nodes_be() {
            if log::may_log(log::Subject::Refusals) {
                pr_warn!(
                    "group {}: has several devices: not to be had one by one (cdev_groups)\n",
                    self.id()
                );
            }
            return Err(EBUSY);
        }
        let mut state = self.state().lock();
        if state.opener.is_some() {
            return Err(EBUSY);
        }
        self.check_drivers()?;
        state.by_node.inc();
        Ok(ByNode(self.clone()))
    }

    /// For a device of the group that was just opened and does DMA by iommufd: it may have been cut
    /// off before it was there.
    ///
    /// # Errors
    ///
    /// `EPERM` then.
    pub(crate) fn check_not_cut_off(&self) -> Result {
        let cut_off = self.with_party(|head, state| {
            let seat = state.seat_of(head, self);
            seat.is_some_and(|seat| seat.cut_off)
        });
        match cut_off {
            true => Err(EPERM),
            false => Ok(()),
        }
    }

    /// `VFIO_GROUP_SET_CONTAINER` with a context: its devices will be bound to that.
    ///
    /// # Errors
    ///
    /// `EINVAL` if other groups joined it, or the context has address spaces and there is no IOMMU,
    /// or the other way round; `ENOMEM`.
    pub(super) fn enter_iommufd(&self, state: &mut GroupState, ctx: Ctx) -> Result {
        if !state.members.is_empty() {
            return Err(EINVAL);
        }
        match self.fence() {
            Fence::Iommu => ctx.create_compat_ioas()?,
            Fence::Missing => ctx.set_no_iommu()?,
        }
        state.iommufd = Some(ctx);
        Ok(())
    }

    /// By what devices that are opened through the group do DMA.
    ///
    /// # Errors
    ///
    /// `EINVAL` without a container or a backend; `EPERM` if there is no IOMMU and the context has
    /// address spaces.
    pub(super) fn via(&self, state: &GroupState) -> Result<Via> {
        let Some(ctx) = &state.iommufd else {
            let container = state.container.as_ref().ok_or(EINVAL)?;
            return Ok(Via::Container(container.backend().ok_or(EINVAL)?));
        };
        match self.fence() {
            Fence::Iommu => Ok(Via::Iommufd(ctx.clone(), Way::Group)),
            // ERRNO: EPERM where users have address spaces, as vfio_df_group_open(): they expect
            // them to be of use.
            Fence::Missing if ctx.compat_ioas().is_ok() => Err(EPERM),
            Fence::Missing => Ok(Via::Unfenced),
        }
    }
}
