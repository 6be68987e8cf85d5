// SPDX-License-Identifier: GPL-2.0
//! `VFIO_KVM_IOMMU`: shadows of a guest's I/O page tables. `include/uapi/linux/vfio_rs.h` has the
//! structs.

use std::io;

use crate::bindings::{
    vfio_kvm_bind_table, vfio_kvm_inv_range, vfio_kvm_invalidate, vfio_kvm_invalidate_many,
    vfio_kvm_unbind, vfio_kvm_walk_result,
};
use crate::container::Container;
use crate::sys;
use crate::uapi::argsz;

pub use crate::bindings::{
    VFIO_IOMMU_INFO_CAP_KVM, VFIO_KVM_BIND_IDENTITY, VFIO_KVM_BIND_READONLY, VFIO_KVM_BIND_STRICT,
    VFIO_KVM_BIND_TABLE as KVM_BIND_TABLE, VFIO_KVM_FAULT_GPA, VFIO_KVM_FAULT_IOVA,
    VFIO_KVM_FAULT_MISALIGNED, VFIO_KVM_FAULT_NONE, VFIO_KVM_FAULT_PIN, VFIO_KVM_FAULT_READONLY,
    VFIO_KVM_FAULT_RESERVED, VFIO_KVM_FAULT_TABLE, VFIO_KVM_FAULT_TARGET, VFIO_KVM_FAULT_TYPE,
    VFIO_KVM_FMT_VTD_SS3, VFIO_KVM_FMT_VTD_SS4, VFIO_KVM_FMT_ZPCI_RF, VFIO_KVM_FMT_ZPCI_RS,
    VFIO_KVM_FMT_ZPCI_RT, VFIO_KVM_FMT_ZPCI_ST, VFIO_KVM_INFO_STALE, VFIO_KVM_INV_ALL,
    VFIO_KVM_INV_STRICT, VFIO_KVM_INVALIDATE as KVM_INVALIDATE,
    VFIO_KVM_INVALIDATE_MANY as KVM_INVALIDATE_MANY, VFIO_KVM_IOMMU, VFIO_KVM_UNBIND as KVM_UNBIND,
};

/// What a walk found.
pub type Found = vfio_kvm_walk_result;

/// What is to be bound.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// `VFIO_KVM_BIND_*`.
    pub flags: u32,
    /// `VFIO_KVM_FMT_*`.
    pub format: u32,
    /// Guest address of the table.
    pub root: u64,
    /// The first I/O address and the last.
    pub window: (u64, u64),
    /// Bits of a guest address.
    pub gpa_bits: u32,
}

impl Table {
    /// Its struct.
    #[must_use]
    pub fn arg(&self) -> vfio_kvm_bind_table {
        vfio_kvm_bind_table {
            argsz: argsz::<vfio_kvm_bind_table>(),
            flags: self.flags,
            format: self.format,
            root_gpa: self.root,
            iova_start: self.window.0,
            iova_last: self.window.1,
            gpa_bits: self.gpa_bits,
            ..Default::default()
        }
    }
}

/// A range to be walked again.
#[must_use]
pub fn range(iova: u64, size: u64) -> vfio_kvm_inv_range {
    vfio_kvm_inv_range {
        iova,
        size,
        ..Default::default()
    }
}

impl Container {
    /// VFIO_KVM_BIND_TABLE: the binding's number and what was found.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn bind_table(&self, table: &Table) -> io::Result<(u32, Found)> {
        let mut arg = table.arg();
        sys::with_struct(self, KVM_BIND_TABLE, &mut arg)?;
        Ok((arg.bind_id, arg.res))
    }

    /// VFIO_KVM_INVALIDATE.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn invalidate(&self, bind_id: u32, iova: u64, size: u64) -> io::Result<Found> {
        self.invalidate_flags(0, bind_id, iova, size).1
    }

    /// VFIO_KVM_INVALIDATE of all.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn invalidate_all(&self, bind_id: u32) -> io::Result<Found> {
        self.invalidate_flags(VFIO_KVM_INV_ALL, bind_id, 0, 0).1
    }

    /// VFIO_KVM_INVALIDATE with flags; the answer too if it fails.
    pub fn invalidate_flags(
        &self,
        flags: u32,
        bind_id: u32,
        iova: u64,
        size: u64,
    ) -> (Found, io::Result<Found>) {
        let mut arg = vfio_kvm_invalidate {
            argsz: argsz::<vfio_kvm_invalidate>(),
            flags,
            bind_id,
            iova,
            size,
            ..Default::default()
        };
        let result = sys::with_struct(self, KVM_INVALIDATE, &mut arg);
        (arg.res, result.map(|_| arg.res))
    }

    /// VFIO_KVM_INVALIDATE_MANY; answers are in the ranges.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn invalidate_many(
        &self,
        bind_id: u32,
        ranges: &mut [vfio_kvm_inv_range],
    ) -> io::Result<()> {
        let mut arg = vfio_kvm_invalidate_many {
            argsz: argsz::<vfio_kvm_invalidate_many>(),
            bind_id,
            count: ranges.len() as u32,
            ranges: ranges.as_mut_ptr() as u64,
            ..Default::default()
        };
        sys::with_struct(self, KVM_INVALIDATE_MANY, &mut arg).map(drop)
    }

    /// VFIO_KVM_UNBIND.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn unbind_table(&self, bind_id: u32) -> io::Result<()> {
        let mut arg = vfio_kvm_unbind {
            argsz: argsz::<vfio_kvm_unbind>(),
            bind_id,
            ..Default::default()
        };
        sys::with_struct(self, KVM_UNBIND, &mut arg).map(drop)
    }
}
