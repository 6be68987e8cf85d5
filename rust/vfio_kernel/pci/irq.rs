// SPDX-License-Identifier: GPL-2.0

//! Message signalled interrupts that signal eventfds, `include/linux/msi.h`.
//!
//! `kernel::pci::Device::alloc_irq_vectors()` lends the vectors out for as long as the bound device
//! is borrowed, while ours belong to a file; and a vector cannot be added later, nor its message be
//! written again.

use kernel::{
    error::to_result,
    prelude::*, //
};
use vfio_bindings as bindings;

use super::{
    BoundPci,
    PciDevice, //
};
use crate::{
    eventfd::EventFd,
    irq::EventFdIrq,
    irq_bypass::Producer,
    log, //
};

/// The two kinds of message signalled interrupts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MsiKind {
    /// One address, a block of consecutive data values.
    Msi,
    /// A table in a BAR.
    MsiX,
}

/// The vectors of a device, each of which may have an eventfd. Dropping it switches them off.
///
/// Calls that reach the device's table need the device's memory to be enabled.
///
/// # Invariants
///
/// `dev` has vectors of `kind` that this allocated, and nobody else frees them. An entry of `slots`
/// has requested the interrupt of the vector that is its index.
pub struct MsiVectors {
    dev: BoundPci,
    kind: MsiKind,
    /// Index is the vector. Dropped before the vectors are freed.
    slots: KVec<Option<Vector>>,
}

/// A vector that signals an eventfd.
struct Vector {
    /// Dropped first.
    _bypass: Option<Producer>,
    irq: EventFdIrq,
}

/// Vectors that a device can have, of MSI-X.
const MOST: usize = 2048;

/// What became of an allocation.
pub enum AllocOutcome {
    /// All vectors are there.
    All(MsiVectors),
    /// Only so many could be had; none is allocated.
    Only(usize),
}

impl PciDevice {
    /// Whether MSI-X vectors can be added while others are in use.
    pub fn msix_can_alloc_dyn(&self) -> bool {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { bindings::pci_msix_can_alloc_dyn(self.as_ptr()) }
    }
}

impl MsiVectors {
    /// Switches `count` vectors on. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOSPC`, also for more than any device has, `ENOMEM` or what the interrupt controller says.
    pub fn alloc(dev: &BoundPci, kind: MsiKind, count: usize) -> Result<AllocOutcome> {
        if count > MOST {
            return Err(ENOSPC);
        }
        let mut slots = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            slots.push(None, GFP_KERNEL)?;
        }
        let flags = match kind {
            MsiKind::Msi => bindings::PCI_IRQ_MSI,
            MsiKind::MsiX => bindings::PCI_IRQ_MSIX,
        };
        let count: u32 = count.try_into()?;
        // SAFETY: The device is alive (type invariant of `PciDevice`) and has no vectors: there is
        // one `MsiVectors` at a time, as the call refuses a second.
        let got = unsafe { bindings::pci_alloc_irq_vectors(dev.as_ptr(), 1, count, flags) };
        to_result(got)?;
        // INVARIANT: Allocated above; nothing is requested yet.
        let vectors = Self {
            dev: dev.clone(),
            kind,
            slots,
        };
        let got = got.unsigned_abs();
        Ok(if got < count {
            AllocOutcome::Only(got as usize)
        } else {
            AllocOutcome::All(vectors)
        })
    }

    /// MSI or MSI-X.
    pub fn kind(&self) -> MsiKind {
        self.kind
    }

    /// Has the eventfd of the descriptor `fd` signalled by the interrupt `vector`, or nothing if it
    /// is negative. A vector beyond those allocated is added if it is of MSI-X and the device can.
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such vector and none can be added, what [`EventFd::fdget`] says,
    /// `ENOMEM`. On failure the vector signals nothing.
    pub fn set(&mut self, vector: usize, fd: i32) -> Result {
        let old = self.slots.get_mut(vector).and_then(Option::take);
        drop(old);
        if fd < 0 {
            return Ok(());
        }
        let irq = self.irq(vector)?;
        // The vector is there, so these are few.
        while self.slots.len() <= vector {
            self.slots.push(None, GFP_KERNEL)?;
        }
        let eventfd = EventFd::fdget(fd)?;
        if self.kind == MsiKind::MsiX {
            // SAFETY: `irq` is an allocated MSI-X interrupt of the device.
            unsafe { bindings::vfio_rs_rewrite_msi_msg(irq) };
        }
        let x = if self.kind == MsiKind::MsiX { "x" } else { "" };
        let irq = EventFdIrq::request(
            irq,
            fmt!("vfio-msi{x}[{vector}]({})", self.dev.name_str()),
            eventfd,
        )?;
        let bypass = Producer::register(irq.eventfd(), irq.number());
        // That an eventfd stands for two interrupts is its user's doing, and no news.
        let news = |err: &&Error| **err != EBUSY && log::may_log(log::Subject::Devices);
        if let Some(err) = bypass.as_ref().err().filter(news) {
            dev_info!(
                self.dev.device(),
                "irq bypass producer registration fails: {}\n",
                err.to_errno()
            );
        }
        if let Some(slot) = self.slots.get_mut(vector) {
            // INVARIANT: `irq` is the interrupt of `vector`, and was requested above.
            *slot = Some(Vector {
                _bypass: bypass.ok(),
                irq,
            });
        }
        Ok(())
    }

    /// Signals as the interrupt would; nothing if the vector has no eventfd.
    pub fn signal(&self, vector: usize) {
        if let Some(Some(vector)) = self.slots.get(vector) {
            vector.irq.signal();
        }
    }

    /// The Linux interrupt number of a vector.
    fn irq(&self, vector: usize) -> Result<u32> {
        // The largest number of all is C's name for any vector: the one that it gave was another.
        if vector >= MOST {
            return Err(EINVAL);
        }
        let vector: u32 = vector.try_into()?;
        // SAFETY: The device is alive (type invariant of `PciDevice`) and its vectors are ours.
        let mut irq = unsafe { bindings::pci_irq_vector(self.dev.as_ptr(), vector) };
        if irq < 0 && self.kind == MsiKind::MsiX && self.dev.msix_can_alloc_dyn() {
            // SAFETY: As above; MSI-X is enabled.
            irq = unsafe { bindings::vfio_rs_pci_msix_alloc_irq_at(self.dev.as_ptr(), vector) };
        }
        to_result(irq)?;
        Ok(irq.unsigned_abs())
    }
}

impl Drop for MsiVectors {
    fn drop(&mut self) {
        self.slots.clear();
        // SAFETY: Allocated by the type invariant; all handlers are gone with `slots`.
        unsafe { bindings::pci_free_irq_vectors(self.dev.as_ptr()) }
    }
}
