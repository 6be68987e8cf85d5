// SPDX-License-Identifier: GPL-2.0

//! What the rules of `viability.rs` say of a group, for users and the log.
//!
//! Takes no lock of ours for longer than it takes to copy what is under it.

use kernel::{
    fmt,
    prelude::*, //
};
use vfio_kernel::{
    iommu::GroupDevice,
    log,
    params, //
};

use super::{
    drivers::{
        name,
        Drivers,
        ShortName, //
    },
    group::Standing,
    viability::{
        first,
        Circumstances,
        DeviceFacts,
        Holder,
        OwnedBy,
        Rules,
        Verdict, //
    },
    Group,
};
use crate::backend::Fence;

/// How many devices of a group the log names.
const LOGGED: usize = 16;

/// A group and its devices, in the order in which those came.
pub(crate) struct Report {
    /// The first verdict on them that is not [`Verdict::Viable`].
    pub(crate) verdict: Verdict,
    pub(crate) devices: KVec<DeviceReport>,
}

/// A device of a group.
pub(crate) struct DeviceReport {
    /// Its name on its bus.
    pub(crate) name: ShortName,
    /// Its driver, empty if it has none.
    pub(crate) driver: ShortName,
    /// Whether it is in the way.
    pub(crate) verdict: Verdict,
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Somebody who has a device of the group by its own node.
    Owner,
    /// Anybody else.
    Other,
}

impl Group {
    /// Why the group can be used, or not.
    ///
    /// # Errors
    ///
    /// `ENODEV` if its last device was unbound, `ENOMEM`.
    pub(crate) fn report(&self, asker: Asker) -> Result<Report> {
        self.report_on(&self.standing()?, asker)
    }

    /// As [`report`](Self::report), of a standing that is known.
    pub(super) fn report_on(&self, standing: &Standing, asker: Asker) -> Result<Report> {
        let found = standing.iommu_group.devices()?;
        let mut members = KVec::with_capacity(found.len(), GFP_KERNEL)?;
        for device in &found {
            members.push(look(device, self.drivers()), GFP_KERNEL)?;
        }
        let of = Circumstances {
            has_iommu: self.fence() == Fence::Iommu,
            owner: match standing.container {
                Some(_) => OwnedBy::Us,
                None if standing.iommufd || asker == Asker::Owner => OwnedBy::Us,
                None if standing.iommu_group.dma_owner_claimed() => OwnedBy::Other,
                None => OwnedBy::Nobody,
            },
            unsafe_interrupts: params::allow_unsafe_interrupts(),
            was_busy: standing.was_busy,
        };
        let rules = Rules::new(of, members.iter().map(|(_, member)| *member));
        let mut devices = KVec::with_capacity(found.len(), GFP_KERNEL)?;
        for (device, (driver, member)) in found.iter().zip(&members) {
            let report = DeviceReport {
                name: name(device.device().name()),
                driver: *driver,
                verdict: rules.verdict(*member),
            };
            devices.push(report, GFP_KERNEL)?;
        }
        Ok(Report {
            verdict: first(devices.iter().map(|device| device.verdict)),
            devices,
        })
    }

    /// Tells in the log that the group was refused, in the words of `what`, and why, if the log has
    /// not had too much of that.
    pub(crate) fn log_refusal(&self, what: &str, err: Error) {
        if !log::may_log(log::Subject::Refusals) {
            return;
        }
        let Ok(report) = self.report(Asker::Other) else {
            return;
        };
        let id = self.id();
        pr_warn!(
            "group {id}: {what} ({}): {}\n",
            err.to_errno(),
            report.verdict.text()
        );
        for device in report.devices.iter().take(LOGGED) {
            pr_warn!("group {id}: {device}\n");
        }
        let more = report.devices.len().saturating_sub(LOGGED);
        if more != 0 {
            pr_warn!("group {id}: and {more} more devices\n");
        }
    }
}

/// What the rules want to know of a device, and its driver's name.
fn look(device: &GroupDevice, drivers: &Drivers) -> (ShortName, DeviceFacts) {
    let (driver, holder) = match drivers.of(device.device()) {
        Some(known) => known,
        // Not on the PCI bus.
        None if device.has_driver() => (name(c"unknown"), Holder::Kernel),
        None => (ShortName::default(), Holder::Nobody),
    };
    let member = DeviceFacts {
        holder,
        wants_direct: device.wants_direct,
        isolated_msi: device.isolated_msi,
    };
    (driver, member)
}

impl fmt::Display for DeviceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text(&self.name, f)?;
        f.write_str(", ")?;
        match self.driver.first() {
            Some(0) | None => f.write_str("no driver")?,
            _ => {
                f.write_str("driver ")?;
                text(&self.driver, f)?;
            }
        }
        write!(f, ": {}", self.verdict.text())
    }
}

/// Writes a name; what is not ASCII as a dot.
fn text(name: &ShortName, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in name.iter().take_while(|byte| **byte != 0) {
        let shown = if byte.is_ascii_graphic() { *byte } else { b'.' };
        fmt::Write::write_char(f, shown.into())?;
    }
    Ok(())
}
