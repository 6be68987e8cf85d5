// SPDX-License-Identifier: GPL-2.0

//! MSI and MSI-X.

use kernel::prelude::*;
use vfio_kernel::pci::{
    AllocOutcome,
    MsiKind,
    MsiVectors, //
};

use super::{
    IrqData,
    Irqs,
    Open, //
};
use crate::{core::MsiUser, pci::open::msix_table};

/// Vectors that are on, and the backend's word that devices reach what they write to.
pub(in crate::pci) struct MsiIrqs {
    vectors: MsiVectors,
    user: MsiUser,
}

impl Open {
    /// `VFIO_DEVICE_SET_IRQS` with the action trigger.
    ///
    /// # Errors
    ///
    /// `EINVAL` if interrupts of the other kind are enabled, or none where some must be; `EBADF`,
    /// `ENOMEM`, `ENOSPC`; what the backend says.
    pub(super) fn set_msi(
        &self,
        kind: MsiKind,
        start: u32,
        count: u32,
        data: &IrqData,
    ) -> Result<isize> {
        let mut irqs = self.irqs.lock();
        let enabled = match &*irqs {
            Irqs::Msi(msi) if msi.vectors.kind() == kind => true,
            Irqs::Off => false,
            _ => return Err(EINVAL),
        };
        if enabled && count == 0 && matches!(data, IrqData::None) {
            self.disable_irqs(&mut irqs);
            return Ok(0);
        }
        match data {
            IrqData::EventFd(fds) => self.set_eventfds(&mut irqs, kind, start, fds),
            data => {
                let Irqs::Msi(msi) = &*irqs else {
                    return Err(EINVAL);
                };
                trigger(&msi.vectors, start, count, data);
                Ok(0)
            }
        }
    }

    /// Has each eventfd signalled by its vector; switches vectors on where none are.
    fn set_eventfds(
        &self,
        irqs: &mut Irqs,
        kind: MsiKind,
        start: u32,
        fds: &[i32],
    ) -> Result<isize> {
        let start = start as usize;
        if let Irqs::Msi(msi) = irqs {
            self.set_block(&mut msi.vectors, start, fds)?;
            return Ok(0);
        }
        let count = start.checked_add(fds.len()).ok_or(EINVAL)?;
        // It may be a device that can be made to say something else than when it was opened.
        if kind == MsiKind::MsiX && msix_table(self.pci())? != self.msix {
            return Err(EINVAL);
        }
        let user = self.access.msi_user()?;
        let outcome = self.with_memory_and_pin(|| MsiVectors::alloc(self.pci(), kind, count))?;
        let mut vectors = match outcome {
            AllocOutcome::All(vectors) => vectors,
            // What could be had, so that the user can ask for that.
            AllocOutcome::Only(count) => return Ok(count.try_into()?),
        };
        if let Err(err) = self.set_block(&mut vectors, start, fds) {
            self.free_vectors(vectors);
            return Err(err);
        }
        if kind == MsiKind::Msi {
            self.config.lock().msi_enabled(count.try_into()?);
        }
        *irqs = Irqs::Msi(MsiIrqs { vectors, user });
        Ok(0)
    }

    /// Sets vectors from `start` on; on failure none of them signals anything.
    fn set_block(&self, vectors: &mut MsiVectors, start: usize, fds: &[i32]) -> Result {
        for (vector, fd) in (start..).zip(fds) {
            if let Err(err) = self.with_memory(|| vectors.set(vector, *fd)) {
                for undo in start..=vector {
                    let _ = self.with_memory(|| vectors.set(undo, -1));
                }
                return Err(err);
            }
        }
        Ok(())
    }

    /// Switches all vectors off.
    pub(super) fn disable_msi(&self, msi: MsiIrqs) {
        let MsiIrqs { vectors, user } = msi;
        self.free_vectors(vectors);
        drop(user);
        self.config.lock().msi_disabled();
    }

    /// Frees vectors.
    fn free_vectors(&self, vectors: MsiVectors) {
        self.with_memory_and_pin(|| drop(vectors));
    }
}

/// Signals eventfds as the interrupts would.
fn trigger(vectors: &MsiVectors, start: u32, count: u32, data: &IrqData) {
    let all = (start as usize..).take(count as usize);
    match data {
        IrqData::Bool(which) => all
            .zip(which)
            .filter(|(_, which)| **which != 0)
            .for_each(|(vector, _)| vectors.signal(vector)),
        _ => all.for_each(|vector| vectors.signal(vector)),
    }
}
