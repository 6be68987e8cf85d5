// SPDX-License-Identifier: GPL-2.0
//! What a type1 container should hold and answer, in the simplest way that can be thought of.

use std::collections::BTreeMap;

use anyhow::Result;
use nix::errno::Errno;
use vfio_client::uapi::*;

use crate::translation::{self, Pages, Target};

/// A mapping of the model.
#[derive(Debug, Clone, Copy)]
pub struct Mapped {
    /// How many pages.
    pub pages: u64,
    /// Address in this process.
    pub vaddr: u64,
    /// `VFIO_DMA_MAP_FLAG_*`.
    pub flags: u32,
    /// The first physical page, of a BAR: not pinned and not locked.
    pub bar: Option<u64>,
}

/// What should be mapped, by first I/O page.
#[derive(Debug, Default)]
pub struct Model {
    /// Unmaps as type1 does, not type1v2.
    pub v1: bool,
    /// Mappings that the container may hold.
    pub limit: u32,
    /// By first I/O page.
    pub maps: BTreeMap<u64, Mapped>,
}

impl Model {
    /// First page of each mapping that has a page in `[first, first + pages)`, in order.
    #[must_use]
    pub fn overlapping(&self, first: u64, pages: u64) -> Vec<u64> {
        let inside = |(at, m): &(&u64, &Mapped)| **at < first + pages && first < **at + m.pages;
        self.maps.iter().filter(inside).map(|(at, _)| *at).collect()
    }

    /// What the kernel must answer to a map.
    ///
    /// # Errors
    /// Its errno.
    pub fn map(&mut self, first: u64, map: Mapped, bad_memory: bool) -> Result<(), Errno> {
        if !self.overlapping(first, map.pages).is_empty() {
            return Err(Errno::EEXIST);
        }
        if self.maps.len() >= self.limit as usize {
            return Err(Errno::ENOSPC);
        }
        if bad_memory {
            return Err(Errno::EFAULT);
        }
        self.maps.insert(first, map);
        Ok(())
    }

    /// What the kernel must answer to an unmap: how many pages went.
    ///
    /// # Errors
    /// Its errno.
    pub fn unmap(&mut self, first: u64, pages: u64) -> Result<u64, Errno> {
        let found = self.overlapping(first, pages);
        let whole = |at: u64| at >= first && at + self.maps[&at].pages <= first + pages;
        if !self.v1 && !found.iter().all(|at| whole(*at)) {
            return Err(Errno::EINVAL);
        }
        // type1: a mapping that starts before the range stays, and all behind it; one that starts
        // inside goes whole.
        if found.first().is_some_and(|at| *at < first) {
            return Ok(0);
        }
        let gone = found.iter().filter_map(|at| self.maps.remove(at));
        Ok(gone.map(|map| map.pages).sum())
    }

    /// How many pages are mapped.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.maps.values().map(|map| map.pages).sum()
    }

    /// How many of them count as locked.
    #[must_use]
    pub fn locked(&self) -> u64 {
        let locked = self.maps.values().filter(|map| map.bar.is_none());
        locked.map(|map| map.pages).sum()
    }

    /// What the IOMMU must translate.
    ///
    /// # Errors
    /// If a page is not there.
    pub fn translation(&self) -> Result<Pages> {
        let mut all = Pages::new();
        for (first, map) in &self.maps {
            let pfns = match map.bar {
                Some(pfn) => (pfn..pfn + map.pages).collect(),
                None => translation::physical_pages(map.vaddr, map.pages)?,
            };
            for (at, pfn) in (*first..).zip(pfns) {
                let (read, write) = (
                    map.flags & VFIO_DMA_MAP_FLAG_READ != 0,
                    map.flags & VFIO_DMA_MAP_FLAG_WRITE != 0,
                );
                all.insert(at, Target { pfn, read, write });
            }
        }
        Ok(all)
    }
}
