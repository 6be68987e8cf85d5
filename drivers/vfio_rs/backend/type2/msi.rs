// SPDX-License-Identifier: GPL-2.0

//! Windows for MSI registers.
//!
//! In the *implicit* mode the last windows of the aperture, one for each bank, are the kernel's:
//! they show the banks while a device of the container has MSI or MSI-X on. In the *explicit* mode
//! the user says which window shows which bank: all by `VFIO_DMA_MAP_FLAG_MSI`, one by
//! `VFIO_IOMMU_PAMU_MSI_BANK_MAP`, or one that they got a map of (`VFIO_GROUP_GET_MSI_FD`) as any
//! other memory. Devices may write to them and no more. Banks take no place in locked memory.

use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};
use vfio_kernel::{
    argsz::UserArg,
    count::Count,
    iommu::Prot,
    shared_page::PageMap,
    uapi, //
};

use super::{
    map::place,
    window::{
        WindowParts,
        Windows, //
    },
    Pamu,
    PamuState, //
};
use crate::{
    backend::Refused,
    iova::{
        turns::Ticket,
        IovaRange, //
    },
    uapi::{
        row,
        MAPPINGS, //
    },
};

type BankMap = uapi::vfio_pamu_msi_bank_map;
type BankUnmap = uapi::vfio_pamu_msi_bank_unmap;

/// Bytes of a bank.
const BANK_SIZE: u64 = PAGE_SIZE as u64;

/// Who maps windows for MSIs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MsiMode {
    /// The kernel.
    Implicit = 0,
    /// The user.
    Explicit = 1,
}

impl MsiMode {
    /// The mode that the user calls `number`.
    pub(super) fn from_user(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Implicit),
            1 => Some(Self::Explicit),
            _ => None,
        }
    }
}

/// The state of a container's windows for MSIs.
pub(super) struct MsiWindows {
    mode: MsiMode,
    /// Devices that have MSI or MSI-X on.
    users: Count,
    /// What users may map, by the group through which and the number of the bank.
    shown: KVec<(i32, u32, Arc<PageMap>)>,
}

impl MsiWindows {
    pub(super) fn new() -> Self {
        Self {
            mode: MsiMode::Implicit,
            users: Count::NONE,
            shown: KVec::new(),
        }
    }

    pub(super) fn mode(&self) -> MsiMode {
        self.mode
    }

    /// Changes the mode.
    ///
    /// # Errors
    ///
    /// `EBUSY` if a device has MSIs on.
    pub(super) fn set_mode(&mut self, mode: MsiMode) -> Result {
        if self.mode != mode && !self.users.is_none() {
            return Err(EBUSY);
        }
        self.mode = mode;
        Ok(())
    }
}

impl Pamu {
    /// How many banks there are to map.
    fn mappable(&self) -> u32 {
        match self.banks.count() {
            0 => 0,
            _ if self.banks.fixed().is_some() => 0,
            count => count,
        }
    }

    /// The windows that are kept for the banks.
    fn implicit(&self, state: &PamuState, windows: &Windows) -> Option<WindowParts> {
        match (state.msi.mode, self.mappable()) {
            (MsiMode::Explicit, _) | (_, 0) => None,
            (MsiMode::Implicit, count) => windows.last(count),
        }
    }

    /// The address of the first bank, if it is known.
    pub(super) fn first_bank(&self, state: &PamuState) -> Option<u64> {
        self.banks.fixed().or_else(|| {
            let windows = state.geometry.windows()?;
            let parts = self.implicit(state, &windows)?;
            Some(windows.window(parts.first)?.start())
        })
    }

    /// Whether a window of `parts` is none of the user's business.
    pub(super) fn is_kernels(
        &self,
        state: &PamuState,
        windows: &Windows,
        parts: WindowParts,
    ) -> bool {
        if self.banks.count() == 0 {
            return false;
        }
        let fixed = self.banks.fixed().and_then(|base| windows.index(base));
        fixed.is_some_and(|index| parts.indices().contains(&index))
            || self
                .implicit(state, windows)
                .is_some_and(|kept| kept.overlaps(&parts))
    }

    /// The part of `range` that is not in the windows kept for banks.
    pub(super) fn without_kernels(
        &self,
        state: &PamuState,
        windows: &Windows,
        range: IovaRange,
    ) -> Option<IovaRange> {
        let kept = self.implicit(state, windows);
        match kept.and_then(|parts| windows.window(parts.first)) {
            Some(first) => range.below(&first),
            None => Some(range),
        }
    }

    /// Has window `index` show bank `bank`. Holds `state`.
    fn map_bank(&self, windows: &Windows, index: u32, bank: u32) -> Result {
        let page = self.banks.page(bank).ok_or(EINVAL)?.clone();
        let (range, window) = place(windows, index, BANK_SIZE)?;
        let held = self.space.hold();
        // No user memory is waited for, so this may be done in whosever turn it is.
        let taken = self.space.reserve(&held, Ticket::FIRST, range, window, 0);
        let (claim, _) = taken.map_err(|refused| match refused {
            Refused::Busy => EEXIST,
            Refused::Failed(err) => err,
        })?;
        let prot = Prot::new(false, true);
        let filled = self.space.fill_page(claim, page, prot);
        self.space.settle(&held, filled)
    }

    /// Has the windows of `parts` show the banks in order, or none of them. Holds `state`.
    fn map_banks(&self, windows: &Windows, parts: WindowParts) -> Result {
        for (bank, index) in (0..).zip(parts.indices()) {
            if let Err(err) = self.map_bank(windows, index, bank) {
                self.unmap_windows(windows, parts.first..index);
                return Err(err);
            }
        }
        Ok(())
    }

    /// Unmaps what banks are in these windows. Holds `state`.
    fn unmap_windows(&self, windows: &Windows, indices: core::ops::Range<u32>) {
        for (range, _) in indices.filter_map(|index| place(windows, index, BANK_SIZE).ok()) {
            self.space.drop_range(range);
        }
    }

    /// A device is about to switch MSIs on.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there are not more windows than banks; `EINVAL` if one of the last windows has
    /// reserved addresses; `ENOMEM`.
    pub(super) fn map_implicit(&self) -> Result {
        let mut state = self.state.lock();
        let needed = state.msi.mode == MsiMode::Implicit && self.mappable() != 0;
        if needed && state.msi.users.is_none() {
            let windows = state.geometry.windows().ok_or(ENOSPC)?;
            let parts = self.implicit(&state, &windows).ok_or(ENOSPC)?;
            self.map_banks(&windows, parts)?;
        }
        state.msi.users.inc();
        Ok(())
    }

    /// A device has switched MSIs off.
    pub(super) fn unmap_implicit(&self) {
        let mut state = self.state.lock();
        if !state.msi.users.dec() {
            return;
        }
        if let Some(windows) = state.geometry.windows() {
            if let Some(parts) = self.implicit(&state, &windows) {
                self.unmap_windows(&windows, parts.indices());
            }
        }
    }

    /// `VFIO_DMA_MAP_FLAG_MSI`: has the windows of `range` show all banks.
    ///
    /// # Errors
    ///
    /// In this order: `ENODEV` (no windows yet, or no bank to map), `EINVAL` (does not fit
    /// windows), `EBUSY` (they are the kernel's), `EINVAL` (not one window for each bank, or not
    /// the explicit mode), `EEXIST`, `EINVAL` (reserved), `ENOMEM`.
    pub(super) fn map_all_banks(&self, range: IovaRange) -> Result {
        let state = self.state.lock();
        let windows = state.geometry.windows().ok_or(ENODEV)?;
        if self.mappable() == 0 {
            return Err(ENODEV);
        }
        let parts = windows.parts(range).ok_or(EINVAL)?;
        if self.is_kernels(&state, &windows, parts) {
            return Err(EBUSY);
        }
        let whole = windows.window(parts.first).and_then(|window| window.size());
        if parts.count != self.mappable()
            || whole != Some(parts.bytes)
            || state.msi.mode != MsiMode::Explicit
        {
            return Err(EINVAL);
        }
        self.map_banks(&windows, parts)
    }

    /// `VFIO_IOMMU_PAMU_MSI_BANK_MAP`: has a window show a bank.
    ///
    /// # Errors
    ///
    /// In this order: `EFAULT`, `EINVAL` (size of the struct, flags), `ENODEV` (no windows yet, or
    /// no bank to map), `EINVAL` (no such bank, not the start of a window), `EBUSY` (the window is
    /// the kernel's), `EINVAL` (not the explicit mode), `EEXIST`, `EINVAL` (reserved), `ENOMEM`.
    pub(super) fn bank_map(&self, arg: UserArg) -> Result {
        let map: BankMap = row::read(arg)?;
        let state = self.state.lock();
        let windows = state.geometry.windows().ok_or(ENODEV)?;
        if self.mappable() == 0 {
            return Err(ENODEV);
        }
        let range = IovaRange::from_size(map.iova, BANK_SIZE).map_err(|_| EINVAL)?;
        let parts = windows.parts(range).ok_or(EINVAL)?;
        if map.msi_bank_index >= self.mappable() {
            return Err(EINVAL);
        }
        if self.is_kernels(&state, &windows, parts) {
            return Err(EBUSY);
        }
        if state.msi.mode != MsiMode::Explicit {
            return Err(EINVAL);
        }
        self.map_bank(&windows, parts.first, map.msi_bank_index)
    }

    /// `VFIO_IOMMU_PAMU_MSI_BANK_UNMAP`: undoes [`bank_map`](Self::bank_map).
    ///
    /// # Errors
    ///
    /// In this order: `EFAULT`, `EINVAL` (size of the struct, flags), `ENODEV` (no windows yet, or
    /// no bank to map), `EINVAL` (not the start of a window), `EBUSY` (the window is the kernel's),
    /// `ENOENT` (it shows no bank).
    pub(super) fn bank_unmap(&self, arg: UserArg) -> Result {
        let unmap: BankUnmap = row::read(arg)?;
        let state = self.state.lock();
        let windows = state.geometry.windows().ok_or(ENODEV)?;
        if self.mappable() == 0 {
            return Err(ENODEV);
        }
        let range = IovaRange::from_size(unmap.iova, BANK_SIZE).map_err(|_| EINVAL)?;
        let parts = windows.parts(range).ok_or(EINVAL)?;
        if self.is_kernels(&state, &windows, parts) {
            return Err(EBUSY);
        }
        if !self.space.has_page(range) {
            return Err(ENOENT);
        }
        self.unmap_windows(&windows, parts.indices());
        Ok(())
    }

    /// What shows a bank to users of a group's descriptor, until the group leaves.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is no bank to map, `EINVAL` if there is no such bank, `ENOMEM`.
    pub(super) fn show_bank(&self, group: i32, index: u32) -> Result<Arc<PageMap>> {
        if self.mappable() == 0 {
            return Err(ENODEV);
        }
        let page = self.banks.page(index).ok_or(EINVAL)?;
        let new = PageMap::new(page.clone(), MAPPINGS.new_mapping()?)?;
        let mut state = self.state.lock();
        let shown = &mut state.msi.shown;
        if let Some((.., map)) = shown
            .iter()
            .find(|(of, bank, _)| *of == group && *bank == index)
        {
            return Ok(map.clone());
        }
        shown.push((group, index, new.clone()), GFP_KERNEL)?;
        Ok(new)
    }

    /// Takes the banks out of users' maps: of those of a group, or of all.
    pub(super) fn hide_banks(&self, group: Option<i32>) {
        let mut state = self.state.lock();
        let mut all = core::mem::replace(&mut state.msi.shown, KVec::new());
        let leaves = |of: i32| group.is_none_or(|group| group == of);
        // Faults take no lock of ours but that of the map.
        for (_, _, map) in all.iter().filter(|(of, ..)| leaves(*of)) {
            map.revoke();
        }
        all.retain(|(of, ..)| !leaves(*of));
        state.msi.shown = all;
    }
}
