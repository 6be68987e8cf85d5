// SPDX-License-Identifier: GPL-2.0

//! BARs in user address spaces: filled by page faults, revoked when the device stops answering.

use kernel::prelude::*;
use vfio_kernel::{
    mmap::{
        Fault,
        FaultResult,
        MapRequest, //
    },
    pci::BarWindow,
};

use super::{
    Open,
    Region, //
};

impl Open {
    /// Whether a map may be made.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is private, or goes beyond a BAR that can be mapped; `EBUSY` if the BAR is
    /// somebody else's; `ENOMEM` if the kernel could not map it either.
    pub(crate) fn check_map(&self, request: MapRequest) -> Result {
        let (bar, window, offset) = self.window_at(request.offset).ok_or(EINVAL)?;
        let end = offset.checked_add(request.len).ok_or(EINVAL)?;
        if !request.shared || end > window.page_aligned_len() {
            return Err(EINVAL);
        }
        // The BAR must be reserved, so that nobody else drives it meanwhile.
        self.bar_map(bar).map(|_| ())
    }

    /// Fills in a page of a map.
    pub(crate) fn fault(&self, fault: Fault<'_>) -> FaultResult {
        let Some((_, window, offset)) = self.window_at(fault.offset()) else {
            return FaultResult::SIGBUS;
        };
        // Held until the page is in, so that whoever disables memory finds it there to revoke.
        let memory = self.memory.read();
        if !self.maps(&memory) {
            return FaultResult::SIGBUS;
        }
        fault.insert(window, offset)
    }

    /// The BAR at an offset of the device's file, and the offset in the BAR.
    pub(super) fn window_at(&self, offset: u64) -> Option<(u32, BarWindow, u64)> {
        match Region::at(offset).ok()? {
            (Region::Bar(bar), offset) => Some((bar, self.window(bar)?, offset)),
            _ => None,
        }
    }
}
