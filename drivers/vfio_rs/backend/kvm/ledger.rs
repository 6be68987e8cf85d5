// SPDX-License-Identifier: GPL-2.0

//! What a change of the record costs, and what of it could not be.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::locked_vm::{
    self,
    LockedVm,
    Tenant, //
};

use crate::iova::IovaRange;

/// What is owed and paid on the way to the next state.
pub(super) struct Ledger {
    pub(super) tenant: Arc<Tenant>,
    /// What was paid ahead.
    pub(super) locked: LockedVm,
    /// Pages that enter, and that leave.
    pub(super) entering: usize,
    pub(super) leaving: usize,
    /// What had to stay out although it was found: the first address, and why.
    pub(super) refused: Option<(u64, Error)>,
    /// Parts of BARs that do not answer now, where the first one is, and how many.
    pub(super) silent: Option<(u64, u32)>,
}

impl Ledger {
    /// Nothing yet, for the current process.
    pub(super) fn new(tenant: Arc<Tenant>) -> Result<Self> {
        Ok(Self {
            locked: LockedVm::charge(tenant.clone(), 0)?,
            tenant,
            entering: 0,
            leaving: 0,
            refused: None,
            silent: None,
        })
    }

    /// Pays for what enters more than leaves.
    ///
    /// # Errors
    ///
    /// As [`LockedVm::charge`]; then nothing has changed.
    pub(super) fn pay(&mut self, entering: usize, leaving: usize) -> Result {
        let all_entering = self.entering.saturating_add(entering);
        let all_leaving = self.leaving.saturating_add(leaving);
        let paid = all_leaving.saturating_add(self.locked.npages());
        if let Some(more) = all_entering.checked_sub(paid).filter(|more| *more != 0) {
            let more = LockedVm::charge(self.tenant.clone(), more).inspect_err(|err| {
                if *err == ENOMEM {
                    locked_vm::warn(more);
                }
            })?;
            self.locked.join(more);
        }
        (self.entering, self.leaving) = (all_entering, all_leaving);
        Ok(())
    }

    pub(super) fn refuse(&mut self, iova: u64, why: Error) {
        if self.refused.is_none_or(|(first, _)| iova < first) {
            self.refused = Some((iova, why));
        }
    }

    /// Notes that what should be in `range` is not.
    pub(super) fn fail(&mut self, range: IovaRange, why: Error) {
        if why != EFAULT {
            return self.refuse(range.start(), why);
        }
        let (first, count) = self.silent.unwrap_or((range.start(), 0));
        self.silent = Some((first, count.saturating_add(1)));
    }
}
