// SPDX-License-Identifier: GPL-2.0

//! `VFIO_IOMMU_GET_INFO`, and what debugfs shows.

use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    seq_file::{
        seq_print,
        SeqFile, //
    },
};
use vfio_kernel::{
    argsz::UserArg,
    params,
    uapi, //
};
use zerocopy::IntoBytes;

use super::{
    bindings::{
        formats,
        Binding,
        Bindings,
        Source, //
    },
    Shadow,
};
use crate::uapi::{
    caps::CapChain,
    row, //
};

/// Ranges that are shown of one container.
const SHOWN: usize = 1024;

impl Bindings {
    /// Whether memory slots have changed since all of some binding was walked.
    fn is_stale(&self) -> bool {
        let Some(bound) = &self.bound else {
            return false;
        };
        let now = bound.kvm.generation();
        self.all.iter().any(|binding| binding.generation != now)
    }
}

impl Shadow {
    /// The ioctl.
    ///
    /// # Errors
    ///
    /// `EFAULT`, `EINVAL` (size of the struct), `ENOMEM`, `EINTR`.
    pub(super) fn get_info(&self, arg: UserArg) -> Result {
        type Info = uapi::vfio_iommu_type1_info;

        let user: Info = row::read(arg)?;
        let stale = self.with_work(|bindings| Ok(bindings.is_stale()))?;
        let mut caps = CapChain::after(size_of::<Info>());
        let record = self.record.lock();
        let pinned = record.pages.wrapping_shl(PAGE_SHIFT as u32);
        // `formats`, `flags`, `pinned_bytes`, `limit_entries`
        caps.push(
            uapi::VFIO_IOMMU_INFO_CAP_KVM,
            1,
            &[
                formats().as_bytes(),
                (u32::from(stale) * uapi::VFIO_KVM_INFO_STALE).as_bytes(),
                pinned.as_bytes(),
                u64::from(params::kvm_entry_limit()).as_bytes(),
            ],
        )?;
        caps.push_iova_ranges(record.allowed.as_ref())?;
        drop(record);
        let pgsizes = self.space.pgsize_bitmap() as u64;
        caps.write(arg, user.argsz, user.argsz as usize, |argsz, cap_offset| {
            Info {
                argsz,
                flags: uapi::VFIO_IOMMU_INFO_PGSIZES | uapi::VFIO_IOMMU_INFO_CAPS,
                iova_pgsizes: pgsizes,
                cap_offset,
                pad: 0,
            }
        })
    }

    /// Prints a line about the address space, and one for each binding and each range.
    pub(super) fn print(&self, out: &SeqFile) {
        let record = self.record.lock();
        let groups = record.members.len();
        let pinned = record.pages.wrapping_shl(PAGE_SHIFT as u32);
        let entries = record.entries;
        seq_print!(
            out,
            "kvm, groups {groups}, entries {entries}, bytes pinned {pinned}\n"
        );
        drop(record);
        // Whoever works may wait for user memory.
        match self.work.try_lock() {
            Some(bindings) => bindings
                .all
                .iter()
                .for_each(|binding| print_one(binding, out)),
            None => seq_print!(out, "  bindings: somebody is at work\n"),
        }
        let record = self.record.lock();
        for (count, (range, entry)) in record.map.iter().enumerate() {
            if count == SHOWN {
                seq_print!(out, "  and more\n");
                break;
            }
            let (start, last, what) = (range.start(), range.last(), entry.name());
            seq_print!(out, "  {start:#x}-{last:#x} {what}\n");
        }
        drop(record);
        self.sweep_if_idle();
    }
}

fn print_one(binding: &Binding, out: &SeqFile) {
    let (id, format) = (binding.id, binding.format);
    let (start, last) = (binding.window.start(), binding.window.last());
    let faults = binding.faults;
    match &binding.source {
        Source::Table(_, root) => {
            let gpa = root.gpa;
            seq_print!(
                out,
                "  binding {id}: {start:#x}-{last:#x} format {format} table {gpa:#x} faults {faults}"
            );
        }
        Source::Slots(..) => {
            seq_print!(
                out,
                "  binding {id}: {start:#x}-{last:#x} memory slots faults {faults}"
            );
        }
    }
    if binding.last.fault_count != 0 {
        let (iova, gpa) = (binding.last.fault_iova, binding.last.fault_gpa);
        let (reason, level) = (binding.last.fault_reason, binding.last.fault_level);
        seq_print!(
            out,
            ", last {iova:#x} guest {gpa:#x} reason {reason} level {level}"
        );
    }
    seq_print!(out, "\n");
}
