// SPDX-License-Identifier: GPL-2.0

//! Whether the IOMMU core counts the pages that it maps, `drivers/iommu/iommu-debug-pagealloc.c`.
//!
//! A kernel with `CONFIG_IOMMU_DEBUG_PAGEALLOC` that was booted with `iommu.debug_pagealloc=1`
//! does, in `iommu_map()` and `iommu_unmap()`, and reports pages that are freed while they are
//! mapped. Then nobody may change an I/O page table but by these. The core exports no symbol that
//! tells, so the kernel's command line is looked at.

use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

use crate::user_sized;

/// Assumed until [`init`] knows better.
static COUNTS: Atomic<bool> = Atomic::new(cfg!(CONFIG_IOMMU_DEBUG_PAGEALLOC));

/// Whether it does. Does not change once a domain was made.
pub(super) fn counts() -> bool {
    COUNTS.load(Relaxed)
}

/// Finds out; to be called when the module is loaded. May sleep.
pub fn init() {
    if !cfg!(CONFIG_IOMMU_DEBUG_PAGEALLOC) {
        return;
    }
    match asked_for() {
        Ok(false) => COUNTS.store(false, Relaxed),
        Ok(true) => pr_info!("I/O page tables are changed by the IOMMU core, which counts pages\n"),
        Err(_) => pr_info!("no kernel command line: the IOMMU core may count pages\n"),
    }
}

/// Whether the command line has the parameter, with whatever value.
fn asked_for() -> Result<bool> {
    // The kernel takes a dash for an underscore.
    const NAME: &[u8] = b"iommu.debug";
    const MOST: usize = 64 << 10;

    let mut line = KVVec::<u8>::with_capacity(MOST, user_sized::gfp())?;
    let room = line.spare_capacity_mut();
    let mut at = room.as_mut_ptr().cast();
    // SAFETY: There is room for that many bytes; the path is a string.
    let len = unsafe {
        vfio_bindings::kernel_read_file_from_path_initns(
            c"/proc/cmdline".as_char_ptr(),
            0,
            &mut at,
            room.len(),
            core::ptr::null_mut(),
            vfio_bindings::kernel_read_file_id_READING_UNKNOWN,
        )
    };
    let len = usize::try_from(len)?;
    // SAFETY: The call wrote that many bytes, for which there was room.
    unsafe { line.inc_len(len) };
    Ok(line.windows(NAME.len()).any(|part| part == NAME))
}
