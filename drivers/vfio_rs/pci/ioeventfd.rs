// SPDX-License-Identifier: GPL-2.0

//! `VFIO_DEVICE_IOEVENTFD`: a write to a BAR whenever an eventfd is signalled.
//!
//! A virtual machine's doorbell so reaches the device without its user: KVM signals the eventfd,
//! and the write is made in that very context, unless the device's memory is just being switched.
//! If an interrupt signals the eventfd, as the device's own may that such a write raises, a kernel
//! thread makes it.
//!
//! Lock: `Open::ioeventfds`, before `Open::memory`, which the write takes for reading. Stands for
//! vfio_pci_ioeventfd() of drivers/vfio/pci/vfio_pci_rdwr.c.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    eventfd::EventFdFile,
    pci::IoWidth,
    virqfd::{
        Effect,
        OnSignal,
        Virqfd, //
    },
};

use super::{
    bar::{
        Bar,
        BarUse,
        Lease, //
    },
    power::MemoryState,
    Open,
    Region, //
};

/// How many a device may have, `VFIO_PCI_IOEVENTFD_MAX`.
const MAX: usize = 1000;

/// How many of a device are rung by the signal of one eventfd itself; the others are rung later, as
/// interrupts are off meanwhile.
const AT_ONCE: usize = 8;

/// What is written, and where.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Doorbell {
    bar: u32,
    offset: u64,
    width: IoWidth,
    /// As the user gave it, which tells doorbells apart; the low bytes are written.
    data: u64,
}

/// A doorbell that an eventfd rings.
pub(super) struct IoEventFd {
    doorbell: Doorbell,
    hook: Virqfd<Ring>,
}

struct Ring {
    open: Arc<Open>,
    doorbell: Doorbell,
    /// In memory, which may be disabled; not in I/O ports.
    in_memory: bool,
    /// Keeps a BAR uncached that might become write-combining.
    lease: Option<Lease>,
}

impl Open {
    /// A write of `width` bytes at `offset` of the device's file.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is in no BAR.
    pub(crate) fn doorbell_at(&self, offset: u64, width: IoWidth, data: u64) -> Result<Doorbell> {
        match self.offsets.at(offset)? {
            (Region::Bar(bar), offset) => Ok(Doorbell {
                bar,
                offset,
                width,
                data,
            }),
            _ => Err(EINVAL),
        }
    }

    /// `VFIO_DEVICE_IOEVENTFD`: has `fd` ring a doorbell, or nobody if it is -1.
    ///
    /// # Errors
    ///
    /// `EINVAL` beyond the BAR or in the MSI-X table, `EBUSY` if the BAR could not be reserved or
    /// is mapped write-combining, `ENODEV` if it is not there, `EEXIST`, `ENODEV` if there is none
    /// to remove, `ENOSPC`, `EBADF`, `ENOMEM`.
    pub(crate) fn set_ioeventfd(self: &Arc<Self>, doorbell: Doorbell, fd: i32) -> Result {
        let Doorbell {
            bar, offset, width, ..
        } = doorbell;
        let end = offset.checked_add(width as u64).ok_or(EINVAL)?;
        if end > self.pci().bar_len(bar) {
            return Err(EINVAL);
        }
        // Nobody works around the protection of the table.
        let table = self.msix.map_or(0..0, |table| table.bytes_in(bar));
        if end > table.start && offset < table.end {
            return Err(EINVAL);
        }
        let lease = match self.bar(bar)?.io()? {
            BarUse::Uncached(_) => None,
            BarUse::Leased(lease) => Some(lease),
        };

        let mut all = self.ioeventfds.lock();
        match (all.iter().position(|one| one.doorbell == doorbell), fd) {
            (Some(at), -1) => {
                drop(all.remove(at)?);
                return Ok(());
            }
            (Some(_), _) => return Err(EEXIST),
            (None, ..0) => return Err(ENODEV),
            (None, _) if all.len() >= MAX => return Err(ENOSPC),
            (None, _) => all.reserve(1, GFP_KERNEL)?,
        }
        let ring = Ring {
            open: self.clone(),
            doorbell,
            in_memory: self.pci().bar_is_memory(bar),
            lease,
        };
        let eventfd = EventFdFile::fdget(fd)?;
        let same = |one: &&IoEventFd| one.hook.listens_to(&eventfd);
        let effect = match all.iter().filter(same).count() {
            0..AT_ONCE => Effect::AtOnce,
            _ => Effect::Later,
        };
        let hook = Virqfd::new(eventfd, &self.worker, effect, ring)?;
        all.push(IoEventFd { doorbell, hook }, GFP_KERNEL)?;
        Ok(())
    }

    /// Removes all. Each holds the device's state, so the last close must.
    pub(super) fn clear_ioeventfds(&self) {
        let all = core::mem::take(&mut *self.ioeventfds.lock());
        drop(all);
    }
}

impl Ring {
    fn write(&self) {
        let Doorbell {
            bar,
            offset,
            width,
            data,
        } = self.doorbell;
        let io = match &self.lease {
            Some(lease) => Some(&**lease),
            None => self.open.bar(bar).ok().and_then(Bar::always_uncached),
        };
        if let Some(map) = io {
            // Checked when it was set up.
            let _ = map.write_unaligned(offset, width, data);
        }
    }
}

impl Ring {
    /// A write to memory that does not answer is lost, as it would be by the user's hand; and one
    /// in a reset, for which nobody waits here.
    fn write_if_answered(&self, memory: &MemoryState) {
        if self.open.answers(memory) && !self.open.gate.is_shut() {
            self.write();
        }
    }
}

impl OnSignal for Ring {
    fn wake(&self) -> bool {
        if !self.in_memory {
            self.write();
            return false;
        }
        let Some(memory) = self.open.memory.try_read() else {
            return true;
        };
        self.write_if_answered(&memory);
        false
    }

    fn work(&self) {
        if !self.in_memory {
            self.write();
            return;
        }
        self.write_if_answered(&self.open.memory.read());
    }
}
