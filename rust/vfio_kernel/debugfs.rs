// SPDX-License-Identifier: GPL-2.0

//! Files for who looks into the kernel, `include/linux/debugfs.h`.
//!
//! The kernel crate's own files do not hold the module that they belong to, so one that is open
//! while the module goes would call into nowhere when it is closed. These do.

use core::marker::PhantomData;
use kernel::{
    bindings,
    error::from_err_ptr,
    module::this_module,
    prelude::*,
    seq_file::SeqFile,
    sync::Arc,
    ModuleMetadata, //
};
use vfio_bindings as ours;

/// What a file shows.
pub trait Show: Send + Sync + 'static {
    /// The module that holds the code, kept loaded while the file is open.
    type OwnerModule: ModuleMetadata;

    /// Prints all of it; may sleep, and is called again with more room if it was too much.
    fn show(&self, out: &SeqFile);
}

/// A folder of debugfs; goes with the last of its files and folders.
pub struct Folder {
    dentry: *mut bindings::dentry,
    // Outlives the dentry.
    _parent: Option<Arc<Folder>>,
}

// SAFETY: debugfs locks itself.
unsafe impl Send for Folder {}
// SAFETY: As above.
unsafe impl Sync for Folder {}

impl Folder {
    /// Makes one in `/sys/kernel/debug`. Without debugfs, or if the name is taken, there is none,
    /// nor anything in it. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(name: &CStr) -> Result<Arc<Self>> {
        // SAFETY: The name is copied. Errors are dentries that all other calls accept.
        let dentry = unsafe { ours::vfio_rs_debugfs_dir(name.as_char_ptr()) };
        Self {
            dentry,
            _parent: None,
        }
        .shared()
    }

    /// As [`new`](Self::new), in another folder.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn within(parent: &Arc<Self>, name: &CStr) -> Result<Arc<Self>> {
        let dentry = match parent.is_there() {
            // SAFETY: As above; the parent is a folder.
            true => unsafe { ours::vfio_rs_debugfs_subdir(name.as_char_ptr(), parent.dentry) },
            false => parent.dentry,
        };
        Self {
            dentry,
            _parent: Some(parent.clone()),
        }
        .shared()
    }

    /// Whether there is one. What is to be in it would go to the top otherwise.
    fn is_there(&self) -> bool {
        from_err_ptr(self.dentry).is_ok_and(|dentry| !dentry.is_null())
    }

    fn shared(self) -> Result<Arc<Self>> {
        Ok(Arc::new(self, GFP_KERNEL)?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // SAFETY: Made by `new` or `within`; what is in it holds a reference, so it is empty.
        unsafe { ours::vfio_rs_debugfs_remove(self.dentry) }
    }
}

/// A file. Dropping it waits for who is reading.
pub struct ShowFile<T> {
    dentry: *mut bindings::dentry,
    // Outlive the dentry.
    _data: Arc<T>,
    _folder: Arc<Folder>,
}

// SAFETY: debugfs locks itself, and the data may be used by any thread.
unsafe impl<T: Show> Send for ShowFile<T> {}
// SAFETY: As above.
unsafe impl<T: Show> Sync for ShowFile<T> {}

impl<T: Show> ShowFile<T> {
    /// Makes the file `name` of `folder`, which shows `data`, for those to whom `mode` gives it;
    /// only the bits for reading count.
    pub fn new(folder: &Arc<Folder>, name: &CStr, mode: u16, data: Arc<T>) -> ShowFile<T> {
        let dentry = match folder.is_there() {
            // SAFETY: The data lives until after the dentry is removed, and the operations are for
            // it.
            true => unsafe {
                ours::vfio_rs_debugfs_file(
                    name.as_char_ptr(),
                    mode & 0o444,
                    folder.dentry,
                    core::ptr::from_ref::<T>(&data).cast_mut().cast(),
                    Table::<T>::OPS,
                )
            },
            false => folder.dentry,
        };
        Self {
            dentry,
            _data: data,
            _folder: folder.clone(),
        }
    }
}

impl<T> Drop for ShowFile<T> {
    fn drop(&mut self) {
        // SAFETY: Made by `new`. Returns when nobody is in the operations.
        unsafe { ours::vfio_rs_debugfs_remove(self.dentry) }
    }
}

struct Table<T>(PhantomData<T>);

impl<T: Show> Table<T> {
    const OPS: &'static bindings::file_operations = &bindings::file_operations {
        owner: this_module::<T::OwnerModule>().as_ptr(),
        open: Some(open::<T>),
        read: Some(bindings::seq_read),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::single_release),
        ..pin_init::zeroed()
    };
}

/// `open`.
///
/// # Safety
///
/// Called by debugfs for a file that [`ShowFile::new`] made, which it keeps from being removed
/// meanwhile.
unsafe extern "C" fn open<T: Show>(
    inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: The inode's private data is the `T`; `show` gets it back.
    unsafe { bindings::single_open(file, Some(show::<T>), (*inode).i_private) }
}

/// Fills a buffer.
///
/// # Safety
///
/// Called by `seq_read()` for a file that [`open`] opened, while debugfs keeps it from being
/// removed.
unsafe extern "C" fn show<T: Show>(seq: *mut bindings::seq_file, _: *mut c_void) -> c_int {
    // SAFETY: The private data is the `T` that `open` passed, which outlives the file's dentry;
    // the buffer is this thread's alone during the call.
    let (data, out) = unsafe { (&*(*seq).private.cast::<T>(), SeqFile::from_raw(seq)) };
    data.show(out);
    0
}
