// SPDX-License-Identifier: GPL-2.0

//! An address space of one's own for files of one device, so that all user maps of the device can
//! be found and removed: `include/linux/pseudo_fs.h`, `unmap_mapping_range()` of
//! `include/linux/mm.h`.

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    module::this_module,
    prelude::*,
    types::Opaque,
    ModuleMetadata, //
};
use vfio_bindings as bindings;

/// A pseudo filesystem that is mounted while a [`Mapping`] lives; a `static` of the module.
pub struct PseudoFs<M> {
    fs_type: Opaque<bindings::file_system_type>,
    mount: Opaque<*mut bindings::vfsmount>,
    count: Opaque<c_int>,
    _module: PhantomData<M>,
}

// SAFETY: `simple_pin_fs()` and `simple_release_fs()` guard mount and count by a lock of theirs,
// and nobody writes the type.
unsafe impl<M> Sync for PseudoFs<M> {}

impl<M: ModuleMetadata> PseudoFs<M> {
    /// A filesystem called `name`, not mounted yet.
    pub const fn new(name: &'static CStr) -> Self {
        Self {
            fs_type: Opaque::new(bindings::file_system_type {
                name: name.to_bytes_with_nul().as_ptr().cast(),
                owner: this_module::<M>().as_ptr(),
                init_fs_context: Some(bindings::vfio_rs_init_pseudo),
                kill_sb: Some(bindings::kill_anon_super),
                ..pin_init::zeroed()
            }),
            mount: Opaque::new(core::ptr::null_mut()),
            count: Opaque::new(0),
            _module: PhantomData,
        }
    }

    /// Makes a new, empty address space. May sleep.
    pub fn new_mapping(&'static self) -> Result<Mapping> {
        // SAFETY: The variables are only used by the simple_*_fs() pair, which locks them.
        to_result(unsafe {
            bindings::simple_pin_fs(self.fs_type.get(), self.mount.get(), self.count.get())
        })?;
        // SAFETY: The mount is pinned, so there is a superblock.
        let inode = unsafe { bindings::alloc_anon_inode((**self.mount.get()).mnt_sb) };
        match from_err_ptr(inode).and_then(|inode| NonNull::new(inode).ok_or(ENOMEM)) {
            // INVARIANT: Both were taken above.
            Ok(inode) => Ok(Mapping { inode, fs: self }),
            Err(err) => {
                self.unpin();
                Err(err)
            }
        }
    }
}

/// The part of [`PseudoFs`] that does not depend on the module.
trait Pinned: Sync {
    fn unpin(&'static self);
}

impl<M: ModuleMetadata> Pinned for PseudoFs<M> {
    fn unpin(&'static self) {
        // SAFETY: Paired with a `simple_pin_fs()` on the same variables.
        unsafe { bindings::simple_release_fs(self.mount.get(), self.count.get()) }
    }
}

/// An inode that exists for its address space.
///
/// # Invariants
///
/// Of the references to `inode` one is this one's, and of the times that `fs` is pinned one too.
pub struct Mapping {
    inode: NonNull<bindings::inode>,
    fs: &'static dyn Pinned,
}

// SAFETY: The inode is reference-counted and its address space locks itself.
unsafe impl Send for Mapping {}
// SAFETY: As above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn as_ptr(&self) -> *mut bindings::address_space {
        // SAFETY: By the type invariant `self` owns a reference to the inode.
        unsafe { (*self.inode.as_ptr()).i_mapping }
    }

    /// Removes all user maps of the file; the next access faults. As [`zap`](Self::zap).
    pub fn zap_all(&self) {
        // No bytes stand for all from there on.
        self.zap(0, 0);
    }

    /// Removes all user maps of `len` bytes of the file from `start` on; the next access faults.
    ///
    /// May sleep; takes `i_mmap_rwsem`, so not under a lock that a fault handler takes for writing.
    pub fn zap(&self, start: u64, len: u64) {
        // SAFETY: The address space is alive. Even where the range is empty or beyond all maps
        // the call is defined.
        unsafe { bindings::unmap_mapping_range(self.as_ptr(), start as i64, len as i64, 1) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; given up here, before the mount's.
        unsafe { bindings::iput(self.inode.as_ptr()) };
        self.fs.unpin();
    }
}
