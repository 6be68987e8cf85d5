// SPDX-License-Identifier: GPL-2.0

//! A guest's memory, as its process has it.
//!
//! Memory slots may change at any time. That is harmless: all of it is memory of the process that
//! called, whichever it is. So slots are looked up once for many accesses, and whoever wants to
//! know whether they were the same all the time looks at [`GuestMemory::generation`].

use kernel::{
    prelude::*,
    uaccess::UserSlice, //
};
use vfio_kernel::{
    kvm::Kvm,
    kvm_slots::MemSlot,
    sched,
    user_sized, //
};
use zerocopy::IntoBytes;

/// See the module's documentation.
pub(super) struct GuestMemory<'a> {
    kvm: &'a Kvm,
    /// The slot that was found last for a table, and for memory.
    table: Option<MemSlot>,
    target: Option<MemSlot>,
}

/// A part of a guest's memory.
pub(super) enum Part {
    /// There is none up to this address.
    Hole(u64),
    /// A slot has it.
    Slot(MemSlot),
}

impl<'a> GuestMemory<'a> {
    pub(super) fn new(kvm: &'a Kvm) -> Self {
        Self {
            kvm,
            table: None,
            target: None,
        }
    }

    /// A number that differs after a change of the memory slots.
    pub(super) fn generation(&self) -> u64 {
        self.kvm.generation()
    }

    /// Reads entries of a table, all of them on one page. Returns whether they are there.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the memory of the guest is not what its process has; `EINTR` if the task is
    /// being killed.
    pub(super) fn read(&mut self, gpa: u64, entries: &mut [u64]) -> Result<bool> {
        let slot = match self
            .table
            .filter(|slot| slot.gpa <= gpa && gpa <= slot.last)
        {
            Some(slot) => slot,
            None => {
                let Some(slot) = self.kvm.next_slot(gpa, gpa)? else {
                    return Ok(false);
                };
                *self.table.insert(slot)
            }
        };
        let vaddr = slot.vaddr.wrapping_add(gpa.wrapping_sub(slot.gpa) as usize);
        let bytes = entries.as_mut_bytes();
        let mut reader = UserSlice::new(UserPtr::from_addr(vaddr), bytes.len()).reader();
        if reader.read_slice(bytes).is_ok() {
            return Ok(true);
        }
        // It is not there, or the task should not wait for it.
        sched::check_killed()?;
        Ok(false)
    }

    /// What has the guest address `gpa`; looks no further than `last`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`, see [`read`](Self::read).
    pub(super) fn part(&mut self, gpa: u64, last: u64) -> Result<Part> {
        let known = self
            .target
            .filter(|slot| slot.gpa <= gpa && gpa <= slot.last);
        let slot = match known {
            Some(slot) => Some(slot),
            None => self.kvm.next_slot(gpa, last)?,
        };
        self.target = slot;
        Ok(match slot {
            None => Part::Hole(last),
            Some(slot) if slot.gpa > gpa => Part::Hole(slot.gpa.wrapping_sub(1)),
            Some(slot) => Part::Slot(slot),
        })
    }

    /// All slots that have an address up to `last`, in order.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`, `ENOMEM`.
    pub(super) fn slots(&self, last: u64) -> Result<KVVec<MemSlot>> {
        let mut all = KVVec::new();
        let mut gpa = 0;
        while let Some(slot) = self.kvm.next_slot(gpa, last)? {
            all.push(slot, user_sized::gfp())?;
            match slot.last.checked_add(1) {
                Some(next) if next <= last => gpa = next,
                _ => break,
            }
            sched::pause()?;
        }
        Ok(all)
    }
}
