// SPDX-License-Identifier: GPL-2.0

//! How many parts the mappings of a container may have.
//!
//! A mapping of memory of devices has as many parts as the user has areas there that do not
//! continue each other; each costs as much as a mapping. So all parts but the first are limited as
//! mappings are: by `dma_entry_limit`, counted by themselves.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};
use vfio_kernel::{
    log,
    params, //
};

/// The parts of all mappings of a container, but for the first of each.
pub(super) struct Pool {
    used: Atomic<u64>,
    limit: u32,
}

impl Pool {
    /// For a new container.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Arc<Self>> {
        let pool = Self {
            used: Atomic::new(0),
            limit: params::dma_entry_limit(),
        };
        Ok(Arc::new(pool, GFP_KERNEL)?)
    }

    /// Says that there are as many `what` as there may be.
    #[cold]
    pub(super) fn warn_full(&self, what: &str) {
        if log::may_log(log::Subject::Limits) {
            pr_warn!(
                "Container is full: {} {what} (parameter dma_entry_limit of vfio_iommu_type1)\n",
                self.limit
            );
        }
    }

    fn add(&self) -> Result {
        if self.used.fetch_add(1, Relaxed) < self.limit.into() {
            return Ok(());
        }
        self.used.fetch_sub(1, Relaxed);
        self.warn_full("parts of mappings");
        Err(ENOSPC)
    }
}

/// The parts of one mapping, until dropped.
pub(super) struct PartsCount {
    count: u64,
    /// Where they count, from the second on.
    pool: Option<Arc<Pool>>,
}

impl PartsCount {
    /// None yet.
    pub(super) const NONE: Self = Self {
        count: 0,
        pool: None,
    };

    /// One more, always of the same `pool`.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if the container has too many.
    #[inline]
    pub(super) fn add(&mut self, pool: &Arc<Pool>) -> Result {
        if self.count != 0 {
            pool.add()?;
            self.pool.get_or_insert_with(|| pool.clone());
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

impl Drop for PartsCount {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.used.fetch_sub(self.count.saturating_sub(1), Relaxed);
        }
    }
}
