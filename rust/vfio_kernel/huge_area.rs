// SPDX-License-Identifier: GPL-2.0

//! Where in a process a map of a device's memory goes, so that huge pages can be used: both the
//! addresses and the memory must have the same place in a huge page.

use kernel::prelude::*;
use vfio_bindings as bindings;

/// Sizes of huge pages, the largest first.
const SIZES: &[c_ulong] = &[
    #[cfg(CONFIG_ARCH_SUPPORTS_PUD_PFNMAP)]
    (1 << bindings::PUD_SHIFT),
    #[cfg(CONFIG_ARCH_SUPPORTS_PMD_PFNMAP)]
    (1 << bindings::PMD_SHIFT),
];

/// Whether `len` bytes from `phys` on hold a whole page of `size`, a power of two.
fn holds_one(phys: u64, len: u64, size: u64) -> bool {
    let first = phys.checked_next_multiple_of(size);
    let end = first.and_then(|first| first.checked_add(size));
    matches!((end, phys.checked_add(len)), (Some(end), Some(all)) if end <= all)
}

/// How far behind the start of room for `size` bytes more than is needed the map begins.
fn shift(phys: c_ulong, room: c_ulong, size: c_ulong, top_down: bool) -> c_ulong {
    match phys.wrapping_sub(room) & (size - 1) {
        // The end of the area is where the next map begins.
        0 if top_down => size,
        shift => shift,
    }
}

/// Finds room for `len` bytes that show `phys`; an address or a negative errno.
///
/// # Safety
///
/// Called where the MM asks where a map of `file` goes, with what it asks.
pub(crate) unsafe fn find(
    file: *mut bindings::file,
    len: c_ulong,
    pgoff: c_ulong,
    flags: c_ulong,
    phys: u64,
) -> c_ulong {
    // SAFETY: By the contract of this function.
    let room_for = |len| unsafe { bindings::vfio_rs_get_unmapped_area(file, 0, len, pgoff, flags) };
    // SAFETY: Looks at `current`, which makes a map and so has an `mm`.
    let top_down = unsafe { bindings::vfio_rs_maps_top_down() };
    if flags & bindings::VFIO_RS_MAP_FIXED as c_ulong == 0 {
        for &size in SIZES {
            let Some(more) = len.checked_add(size) else {
                continue;
            };
            if !holds_one(phys, len as u64, size as u64) {
                continue;
            }
            let room = room_for(more);
            // IS_ERR_VALUE()
            if room < -(bindings::MAX_ERRNO as isize) as c_ulong {
                return room + shift(phys as c_ulong, room, size, top_down);
            }
        }
    }
    room_for(len)
}
