// SPDX-License-Identifier: GPL-2.0

//! `VFIO_IOMMU_PAMU_GET_ATTR` and `SET_ATTR`: geometry, windows and what else there is to set.

use kernel::prelude::*;
use vfio_kernel::{
    argsz::UserArg,
    uapi, //
};

use super::{
    msi::MsiMode,
    window::{
        Limits,
        PamuGeometry,
        MAX_WINDOWS,
        MIN_SIZE, //
    },
    Pamu,
    PamuState, //
};
use crate::uapi::row;

type Attr = uapi::vfio_pamu_attr_words;

/// Two fields of 32 bits as the word they are.
fn word(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

impl Pamu {
    /// `VFIO_IOMMU_PAMU_GET_ATTR`.
    ///
    /// # Errors
    ///
    /// `EFAULT`, `EINVAL` (size of the struct, flags, no such attribute).
    pub(super) fn get_attr(&self, arg: UserArg) -> Result {
        let mut attr: Attr = row::read(arg)?;
        let limits = self.limits()?;
        let state = self.state.lock();
        attr.data = match attr.attribute {
            uapi::vfio_pamu_attribute_VFIO_ATTR_GEOMETRY => {
                let aperture = match state.geometry.aperture() {
                    Some(aperture) => aperture.range(),
                    None => limits.default_aperture(),
                };
                [aperture.start(), aperture.last(), 0, 0]
            }
            uapi::vfio_pamu_attribute_VFIO_ATTR_WINDOWS => {
                let count = state.geometry.windows().map_or(0, |all| all.count());
                [word(count, MAX_WINDOWS), 0, 0, 0]
            }
            // Nothing is put into any cache.
            uapi::vfio_pamu_attribute_VFIO_ATTR_PAMU_STASH => [0; 4],
            uapi::vfio_pamu_attribute_VFIO_ATTR_MSI => {
                let mode = state.msi.mode();
                let first = self.first_bank(&state).unwrap_or(0);
                [word(mode as u32, self.banks.count()), first, 0, 0]
            }
            uapi::vfio_pamu_attribute_VFIO_ATTR_LIMITS => {
                let mut caps = uapi::VFIO_PAMU_CAP_SNOOP;
                if self.strict {
                    caps |= uapi::VFIO_PAMU_CAP_CONTIG_REQUIRED;
                }
                [limits.max_aperture(), MIN_SIZE, word(caps, 0), 0]
            }
            _ => return Err(EINVAL),
        };
        drop(state);
        arg.write_prefix(&attr, size_of::<Attr>())
    }

    /// `VFIO_IOMMU_PAMU_SET_ATTR`.
    ///
    /// # Errors
    ///
    /// `EFAULT`, `EINVAL` (size of the struct, flags, no such attribute or not to be set, values
    /// that cannot be, windows without an aperture), `EOPNOTSUPP` (stash), `EBUSY` (something is
    /// mapped), `ENOSPC` (all containers together have too many windows).
    pub(super) fn set_attr(&self, arg: UserArg) -> Result {
        let Attr {
            attribute, data, ..
        } = row::read(arg)?;
        // CAST: The lower half.
        let [first, second, ..] = data;
        let low = first as u32;
        match attribute {
            uapi::vfio_pamu_attribute_VFIO_ATTR_GEOMETRY => {
                let aperture = self.limits()?.aperture(first, second).ok_or(EINVAL)?;
                self.change(|state| {
                    state.entries.exchange(0)?;
                    state.geometry = PamuGeometry::Aperture(aperture);
                    Ok(())
                })
            }
            uapi::vfio_pamu_attribute_VFIO_ATTR_WINDOWS => self.change(|state| {
                let aperture = state.geometry.aperture().ok_or(EINVAL)?;
                let windows = aperture.cut(low).ok_or(EINVAL)?;
                state.entries.exchange(low)?;
                state.geometry = PamuGeometry::Windows(windows);
                Ok(())
            }),
            uapi::vfio_pamu_attribute_VFIO_ATTR_PAMU_STASH => Err(EOPNOTSUPP),
            uapi::vfio_pamu_attribute_VFIO_ATTR_MSI => {
                let mode = MsiMode::from_user(low).ok_or(EINVAL)?;
                self.change(|state| state.msi.set_mode(mode))
            }
            _ => Err(EINVAL),
        }
    }

    /// What apertures there can be with the groups that are here.
    fn limits(&self) -> Result<Limits> {
        Ok(Limits::new(self.space.translated()?, self.strict))
    }

    /// Runs `change` if nothing is mapped.
    fn change(&self, change: impl FnOnce(&mut PamuState) -> Result) -> Result {
        let mut state = self.state.lock();
        if !self.is_idle(&state) {
            return Err(EBUSY);
        }
        change(&mut state)
    }
}
