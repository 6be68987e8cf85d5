// SPDX-License-Identifier: GPL-2.0

//! Where a virtual machine's memory is, `struct kvm_memory_slot` of `include/linux/kvm_host.h`.
//!
//! Takes no lock of KVM's. A slot may be gone when it is looked at, which its process, whose memory
//! it is, finds out by what it reads there: see [`Kvm::generation`].

use kernel::prelude::*;
use vfio_bindings as bindings;

use crate::kvm::Kvm;

/// A part of a guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemSlot {
    /// The first guest address.
    pub gpa: u64,
    /// The last one.
    pub last: u64,
    /// Where the machine's process has the first byte.
    pub vaddr: usize,
    /// Whether the guest may not write to it.
    pub read_only: bool,
    /// Its number.
    pub id: u32,
}

/// Whether the kernel can have virtual machines.
pub fn built() -> bool {
    // SAFETY: Returns a constant.
    unsafe { bindings::vfio_rs_kvm_built() }
}

impl Kvm {
    /// Whether the machine is alive, and its guest's memory is that of the current process.
    pub fn is_current(&self) -> bool {
        // SAFETY: The machine is alive, as `self` refers to it.
        unsafe { bindings::vfio_rs_kvm_is_current(self.as_ptr()) }
    }

    /// A number that differs after any change of the memory slots. May sleep.
    pub fn generation(&self) -> u64 {
        // SAFETY: As above.
        unsafe { bindings::vfio_rs_kvm_generation(self.as_ptr()) }
    }

    /// The first slot that has a guest address from `gpa` to `last`. May sleep.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the memory of the guest is not what its process has there.
    pub fn next_slot(&self, gpa: u64, last: u64) -> Result<Option<MemSlot>> {
        let mut slot = [0u64; bindings::VFIO_RS_KVM_SLOT_WORDS as usize];
        // SAFETY: The machine is alive, as `self` refers to it; all words of `slot` may be written.
        let ret =
            unsafe { bindings::vfio_rs_kvm_next_slot(self.as_ptr(), gpa, last, slot.as_mut_ptr()) };
        let word = |number: u32| slot[number as usize];
        let gpa = word(bindings::VFIO_RS_KVM_SLOT_GPA);
        match ret {
            0 => Ok(None),
            1.. => Ok(Some(MemSlot {
                gpa,
                last: gpa
                    .wrapping_add(word(bindings::VFIO_RS_KVM_SLOT_SIZE))
                    .wrapping_sub(1),
                vaddr: word(bindings::VFIO_RS_KVM_SLOT_HVA) as usize,
                read_only: word(bindings::VFIO_RS_KVM_SLOT_READ_ONLY) != 0,
                id: word(bindings::VFIO_RS_KVM_SLOT_ID) as u32,
            })),
            errno => Err(Error::from_errno(errno)),
        }
    }
}
