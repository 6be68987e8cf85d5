// SPDX-License-Identifier: GPL-2.0

//! What a group that comes to an address space allows there, and whether it may come.

use kernel::prelude::*;
use vfio_kernel::{
    iommu::{
        Geometry,
        ResvKind,
        ResvRegion, //
    },
    log,
    params, //
};

use crate::iova::{
    Allowed,
    IovaRange, //
};

/// What a group's IOMMU translates.
pub(in crate::backend) fn translated(geometry: Geometry) -> Result<IovaRange> {
    IovaRange::from_last(geometry.start, geometry.last).ok_or(EINVAL)
}

/// Where the kernel wants to map doorbells for the group, if it has to.
pub(in crate::backend) fn sw_msi_base(resv: &[ResvRegion]) -> Option<u64> {
    if resv.iter().any(|region| region.kind == ResvKind::Msi) {
        return None;
    }
    resv.iter()
        .find(|region| region.kind == ResvKind::SwMsi)
        .map(|region| region.start)
}

/// What a group can have mapped: what its IOMMU translates and nothing reserves.
pub(in crate::backend) fn allowed_for(geometry: Geometry, resv: &[ResvRegion]) -> Result<Allowed> {
    let aperture = translated(geometry)?;
    let mut reserved = KVec::with_capacity(resv.len(), GFP_KERNEL)?;
    for region in resv {
        if region.kind == ResvKind::DirectRelaxable {
            continue;
        }
        if let Ok(range) = IovaRange::from_size(region.start, region.len) {
            reserved.push(range, GFP_KERNEL)?;
        }
    }
    Allowed::new(aperture, &reserved)
}

/// Refuses a group whose interrupts are not `isolated`, unless the administrator opted in to that.
///
/// # Errors
///
/// `EPERM`.
pub(in crate::backend) fn check_isolated(isolated: bool) -> Result {
    if isolated || params::allow_unsafe_interrupts() {
        return Ok(());
    }
    if log::may_log(log::Subject::Interrupts) {
        pr_warn!(
            "No interrupt remapping support.  Use the module param \"allow_unsafe_interrupts\" to \
             enable VFIO IOMMU support on this platform\n"
        );
    }
    Err(EPERM)
}
