// SPDX-License-Identifier: GPL-2.0

//! BARs in user address spaces: filled by page faults, revoked when the device stops answering.

use kernel::prelude::*;
use vfio_kernel::{
    mmap::{
        Caching,
        FaultResult,
        MapKind,
        MapRequest,
        Mmap,
        PageFault, //
    },
    pci::BarWindow,
    user_area::FilePart, //
};

use super::{
    offsets::{
        Region,
        WRITE_COMBINING, //
    },
    Open, //
};
use crate::backend::p2p::BarPart;

impl Mmap for Open {
    /// Makes room for a map.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is private, or goes beyond a BAR that can be mapped in that way; `EBUSY` if
    /// the BAR is somebody else's, or cached in the other way now; `ENOMEM`.
    #[inline]
    fn mmap(&self, request: MapRequest) -> Result<MapKind> {
        let (bar, window, offset) = self.window_at(request.offset).ok_or(EINVAL)?;
        let end = offset.checked_add(request.len).ok_or(EINVAL)?;
        if !request.shared || end > window.page_aligned_len() {
            return Err(EINVAL);
        }
        // The BAR must be reserved, so that nobody else drives it meanwhile.
        self.bar(bar)?.add_map(caching(request.offset))
    }

    fn opened(&self, offset: u64) {
        if let Some(Ok(bar)) = self.window_at(offset).map(|(bar, ..)| self.bar(bar)) {
            bar.add_area();
        }
    }

    fn closed(&self, offset: u64) {
        if let Some(Ok(bar)) = self.window_at(offset).map(|(bar, ..)| self.bar(bar)) {
            bar.remove_area();
        }
    }

    fn placement(&self, offset: u64) -> Option<u64> {
        let (_, window, offset) = self.window_at(offset)?;
        Some(window.phys_at(offset))
    }

    #[inline(always)]
    fn fault(&self, fault: PageFault<'_>) -> FaultResult {
        let at = fault.offset();
        let Some((_, window, offset)) = self.window_at(at) else {
            return FaultResult::SIGBUS;
        };
        // Held until the page is in, so that whoever disables memory finds it there to revoke.
        let memory = self.memory.read();
        if self.gate.is_shut() {
            return FaultResult::after(self.gate.clone());
        }
        if !self.maps(&memory) {
            return FaultResult::SIGBUS;
        }
        fault.insert(window, offset, caching(at))
    }
}

impl Open {
    /// The memory that a user's map of the device's file shows. The file is open.
    ///
    /// # Errors
    ///
    /// `EFAULT` if it is none.
    pub(crate) fn bar_part(&self, part: FilePart) -> Result<BarPart> {
        let (_, window, offset) = self.window_at(part.offset).ok_or(EFAULT)?;
        let memory = window.part(offset, part.len).ok_or(EFAULT)?;
        Ok(self.device.bar_dma().part(memory))
    }

    /// The BAR at an offset of the device's file, and the offset in the BAR.
    pub(super) fn window_at(&self, offset: u64) -> Option<(u32, BarWindow, u64)> {
        match self.offsets.at(offset & !WRITE_COMBINING).ok()? {
            (Region::Bar(bar), offset) => Some((bar, self.window(bar)?, offset)),
            _ => None,
        }
    }
}

/// How maps at an offset of the device's file are cached.
fn caching(offset: u64) -> Caching {
    if offset & WRITE_COMBINING == 0 {
        Caching::Uncached
    } else {
        Caching::WriteCombining
    }
}
