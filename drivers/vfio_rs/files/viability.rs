// SPDX-License-Identifier: GPL-2.0

//! `VFIO_GROUP_GET_VIABILITY` and `VFIO_DEVICE_FEATURE_VIABILITY`: why a group can be used, or not.

use kernel::prelude::*;
use vfio_kernel::{
    argsz::UserArg,
    uapi, //
};

use crate::{
    iommu_group::{
        Asker,
        Group,
        Verdict, //
    },
    pci::Open,
    uapi::row::{
        self,
        Row, //
    },
};

type ViabilityHeader = uapi::vfio_group_viability_header;
type ViabilityDevice = uapi::vfio_viability_dev;

/// What a user must pass to be heard.
pub(super) const MIN: usize = ViabilityHeader::MIN;

/// Users' numbers are those of the rules.
const _: () = {
    assert!(Verdict::Viable.number() == uapi::vfio_viability_reason_VFIO_VIABLE);
    assert!(Verdict::Driver.number() == uapi::vfio_viability_reason_VFIO_NOT_VIABLE_DRIVER);
    assert!(Verdict::Owned.number() == uapi::vfio_viability_reason_VFIO_NOT_VIABLE_OWNED);
    assert!(
        Verdict::ResvDirect.number() == uapi::vfio_viability_reason_VFIO_NOT_VIABLE_RESV_DIRECT
    );
    assert!(
        Verdict::NoIsolatedMsi.number()
            == uapi::vfio_viability_reason_VFIO_NOT_VIABLE_NO_ISOLATED_MSI
    );
    assert!(Verdict::Domain.number() == uapi::vfio_viability_reason_VFIO_NOT_VIABLE_DOMAIN);
    assert!(Verdict::NoIommu.number() == uapi::vfio_viability_reason_VFIO_NOT_VIABLE_NO_IOMMU);
};

/// `VFIO_DEVICE_FEATURE_VIABILITY`.
///
/// # Errors
///
/// As [`get`].
pub(super) fn feature(open: &Open, data: UserArg, room: usize) -> Result<isize> {
    let asker = match open.by_node() {
        Some(_) => Asker::Owner,
        None => Asker::Other,
    };
    get(open.group(), asker, data, room).map(|()| 0)
}

/// Tells `asker` of `group`; the user has room for `room` bytes, whatever the struct says, if that
/// is less.
///
/// # Errors
///
/// `EINVAL` for a struct that is too small or has flags; `ENODEV` if the group's last device was
/// unbound; `ENOSPC` if there are more devices than the user has room for, who then learns how
/// many; `EFAULT`, `ENOMEM`.
pub(super) fn get(group: &Group, asker: Asker, arg: UserArg, room: usize) -> Result {
    let user: ViabilityHeader = row::read(arg)?;
    let room = room.min(user.argsz as usize);
    let room = room.checked_sub(MIN).ok_or(EINVAL)?;
    let report = group.report(asker)?;
    let header = ViabilityHeader {
        argsz: user.argsz,
        flags: 0,
        count: report.devices.len().try_into()?,
        reason: report.verdict.number(),
    };
    let needed = report
        .devices
        .len()
        .saturating_mul(size_of::<ViabilityDevice>());
    if needed > room {
        arg.write_prefix(&header, MIN)?;
        return Err(ENOSPC);
    }
    let mut rows = arg.at(MIN);
    for device in &report.devices {
        let row = ViabilityDevice {
            name: device.name,
            driver: device.driver,
            reason: device.verdict.number(),
            __reserved: 0,
        };
        rows.write_prefix(&row, size_of::<ViabilityDevice>())?;
        rows = rows.at(size_of::<ViabilityDevice>());
    }
    arg.write_prefix(&header, MIN)
}
