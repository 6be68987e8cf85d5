// SPDX-License-Identifier: GPL-2.0

//! A page of the kernel's that a device, and the user in a map, may see: `alloc_page()` of
//! `include/linux/gfp.h`, `vmf_insert_page()` of `include/linux/mm.h`.
//!
//! It starts with zeros. The user sees it through a file that has a [`PageMap`], which can be
//! revoked: accesses then end in `SIGBUS`. The page itself lives on while somebody has it pinned.
//!
//! Lock: `PageMap::shown`, inside `mmap_lock`; none is taken under it.

use core::marker::PhantomData;
use kernel::{
    error::from_result,
    mm::virt::{
        flags,
        VmaNew, //
    },
    new_mutex,
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};
use vfio_bindings as bindings;

use crate::{
    anon_file::Anon,
    fops::{
        FileOps,
        FileOpsTable, //
    },
    mapping::Mapping,
    mmap::of_area, //
};

/// See the module's documentation.
pub struct SharedPage(Page);

impl SharedPage {
    /// A page of zeros. May sleep.
    pub fn new() -> Result<Arc<Self>> {
        let page = Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?;
        Ok(Arc::new(Self(page), GFP_KERNEL)?)
    }

    /// Its physical address.
    pub(crate) fn phys(&self) -> u64 {
        // SAFETY: A `Page` is alive as long as it is there.
        unsafe { bindings::vfio_rs_page_to_phys(self.0.as_ptr()) }
    }
}

/// A [`SharedPage`] as users map it.
#[pin_data]
pub struct PageMap {
    page: Arc<SharedPage>,
    mapping: Mapping,
    /// Whether the page may still be put into maps.
    #[pin]
    shown: Mutex<bool>,
}

impl PageMap {
    /// For files that `mapping` is made for.
    pub fn new(page: Arc<SharedPage>, mapping: Mapping) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                page,
                mapping,
                shown <- new_mutex!(true, "PageMap::shown"),
            }),
            GFP_KERNEL,
        )
    }

    /// The address space of its files.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Takes the page out of all maps for good. May sleep; takes `i_mmap_rwsem`.
    pub fn revoke(&self) {
        *self.shown.lock() = false;
        self.mapping.zap(0, PAGE_SIZE as u64);
    }
}

/// A file whose maps show one page.
pub trait ShowsPage: Send + Sync + 'static {
    /// What they show.
    fn page_map(&self) -> &PageMap;
}

impl<T: FileOps + ShowsPage> FileOpsTable<T, Anon> {
    /// For files without a node that can be mapped, and then show a page.
    pub const fn page() -> Self {
        let ops = bindings::file_operations {
            mmap: Some(mmap::<T>),
            ..Self::base()
        };
        // SAFETY: `mmap` is for files with an `Arc<T>`, which whoever creates a file gives.
        unsafe { Self::new(ops) }
    }
}

/// `mmap`.
///
/// # Safety
///
/// Called by the MM, with a file that a table of `T` serves and an area that is being set up.
unsafe extern "C" fn mmap<T: FileOps + ShowsPage>(
    _file: *mut bindings::file,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    // SAFETY: The area is being set up by `mmap(2)` on this file.
    let area = unsafe { VmaNew::from_raw(vma) };
    from_result(|| {
        set_up::<T>(area)?;
        Ok(0)
    })
}

/// Makes `vma` a map of the page of a `T`.
///
/// # Errors
///
/// `EINVAL` for anything but one shared page at offset 0 that is not to be executed.
fn set_up<T: ShowsPage>(vma: &VmaNew) -> Result {
    let raw = vma.as_ptr();
    // SAFETY: The area is valid and not in use by others while it is set up.
    let pgoff = unsafe { (*raw).vm_pgoff };
    let len = vma.end().checked_sub(vma.start()).ok_or(EINVAL)?;
    let shared = vma.flags() & flags::SHARED != 0;
    if pgoff != 0 || len != PAGE_SIZE || !shared || vma.flags() & flags::EXEC != 0 {
        return Err(EINVAL);
    }
    // SAFETY: As above; the file that the area refers to keeps its data alive.
    unsafe {
        bindings::vfio_rs_vma_set_page(raw);
        (*raw).vm_ops = &PageOps::<T>::OPS;
    }
    Ok(())
}

struct PageOps<T>(PhantomData<T>);

impl<T: ShowsPage> PageOps<T> {
    const OPS: bindings::vm_operations_struct = bindings::vm_operations_struct {
        fault: Some(fault::<T>),
        ..pin_init::zeroed()
    };
}

/// `fault` of an area.
///
/// # Safety
///
/// Called by the MM, with a fault in an area that [`set_up`] made for `T`.
unsafe extern "C" fn fault<T: ShowsPage>(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: The fault is in an area of `set_up::<T>`, which stays while it is handled.
    let (data, _) = unsafe { of_area::<T>((*vmf).__bindgen_anon_1.vma) };
    let map = data.page_map();
    let shown = map.shown.lock();
    if !*shown {
        return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
    }
    // SAFETY: The fault is valid, the page alive; the area takes a reference of its own.
    unsafe { bindings::vfio_rs_insert_page(vmf, map.page.0.as_ptr()) }
}
