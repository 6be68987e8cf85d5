// SPDX-License-Identifier: GPL-2.0

//! File operations of a type, `struct file_operations` of `include/linux/fs.h`.
//!
//! The private data of an open file is an [`Arc`] of the type; closing the file drops it. How it
//! gets there depends on how files of the table are opened, so each way has a type of tables of its
//! own, made where such files are: [`chardev`](crate::chardev), [`mmap`](crate::mmap) and
//! [`shared_page`](crate::shared_page).

use core::{
    any::TypeId,
    marker::PhantomData, //
};
use kernel::{
    bindings,
    device,
    fs::{
        File,
        LocalFile, //
    },
    module::this_module,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        ArcBorrow, //
    },
    uaccess::UserSlice,
    ModuleMetadata, //
};

use crate::argsz::UserArg;

/// What an open file does.
pub trait FileOps: Send + Sync + Sized + 'static {
    /// The module that holds the code, kept loaded while a file is open.
    type OwnerModule: ModuleMetadata;

    /// What the device node carries; `()` for files that no character node opens.
    type Node: Send + Sync + 'static;

    /// Opens the node.
    fn open(_node: &Self::Node) -> Result<Arc<Self>> {
        Err(ENODEV)
    }

    /// `ioctl(2)`.
    fn ioctl(this: ArcBorrow<'_, Self>, file: &File, cmd: u32, arg: UserArg) -> Result<isize>;

    /// The device that `/proc/PID/fdinfo` names.
    fn fdinfo_device(&self) -> Option<&device::Device> {
        None
    }

    /// `pread(2)` at `pos`; returns the bytes read.
    fn read(&self, _buf: UserSlice, _pos: u64) -> Result<usize> {
        Err(EINVAL)
    }

    /// `pwrite(2)` at `pos`; returns the bytes written.
    fn write(&self, _buf: UserSlice, _pos: u64) -> Result<usize> {
        Err(EINVAL)
    }
}

/// The operations of files that hold an `Arc<T>`, which are opened in the way `K`: see
/// [`Node`](crate::chardev::Node), [`Misc`](crate::chardev::Misc),
/// [`Anon`](crate::anon_file::Anon), [`Mapped`](crate::mmap::Mapped). Its address is its files'
/// identity, so each table is a
/// `static`.
///
/// # Invariants
///
/// Whoever opens a file with the table in the way `K` leaves an `Arc<T>` as its private data, and
/// nobody else opens files with it. No two tables for different `T` have the same address.
#[repr(C)]
pub struct FileOpsTable<T, K> {
    ops: bindings::file_operations,
    /// Different in the tables of different types, which the compiler thus cannot merge, even if
    /// they are constants and all their functions are alike.
    _type: fn() -> TypeId,
    _data: PhantomData<fn() -> T>,
    _way: PhantomData<fn() -> K>,
}

/// A way in which [`anon_file::create`](crate::anon_file::create) may open files.
///
/// # Safety
///
/// A file that is created with a table of this way, an `Arc<T>` in it, is one of the way.
pub unsafe trait AnonWay {}

/// A way in which nodes, [`CharNode`](crate::chardev::CharNode), may be opened.
///
/// # Safety
///
/// Tables of this way have an `open` for files of a `CharNode<T::Node>`.
pub unsafe trait NodeWay {}

// SAFETY: The table is never written after it was made.
unsafe impl<T, K> Sync for FileOpsTable<T, K> {}

impl<T: FileOps, K> FileOpsTable<T, K> {
    /// What all tables have.
    pub(crate) const fn base() -> bindings::file_operations {
        bindings::file_operations {
            owner: this_module::<T::OwnerModule>().as_ptr(),
            release: Some(release::<T>),
            unlocked_ioctl: Some(ioctl::<T>),
            #[cfg(CONFIG_COMPAT)]
            compat_ioctl: bindings::compat_ptr_ioctl,
            ..pin_init::zeroed()
        }
    }

    /// # Safety
    ///
    /// `ops` must be [`base`](Self::base) with more functions, which may be called for files with
    /// an `Arc<T>` as their private data. If there is an `open`, it must put that there in files
    /// that are opened in the way `K`; else whoever opens files in that way must.
    pub(crate) const unsafe fn new(ops: bindings::file_operations) -> Self {
        // INVARIANT: By the contract of this function; the type of the table says who may open
        // files with it. `TypeId::of` of different types returns different values.
        Self {
            ops,
            _type: TypeId::of::<T>,
            _data: PhantomData,
            _way: PhantomData,
        }
    }

    pub(crate) const fn ops(&'static self) -> &'static bindings::file_operations {
        &self.ops
    }

    pub(crate) const fn as_ptr(&'static self) -> *const bindings::file_operations {
        &self.ops
    }

    /// The data of `file`, if this table serves it.
    pub fn data_of<'a>(&'static self, file: &'a LocalFile) -> Option<ArcBorrow<'a, T>> {
        let file = file.as_ptr();
        // SAFETY: The reference proves that the file is open; `f_op` does not change.
        if !core::ptr::eq(unsafe { (*file).f_op }, self.as_ptr()) {
            return None;
        }
        // SAFETY: The private data is an `Arc<T>` by the table's invariants, and lives until the
        // last reference to the file is gone.
        Some(unsafe { ArcBorrow::from_raw((*file).private_data.cast::<T>()) })
    }

    /// A reference to `file` that any thread may give back, if this table serves it.
    pub fn shared(&'static self, file: ARef<LocalFile>) -> Option<ARef<File>> {
        self.data_of(&file)?;
        // SAFETY: Nobody has entered an `fdget_pos` section of the file: only regular files and
        // folders have these, FMODE_ATOMIC_POS of `fs/open.c`, and this table serves neither.
        Some(unsafe { LocalFile::assume_no_fdget_pos(file) })
    }
}

/// # Safety
///
/// The file must be served by a table of `T`, whose private data is an `Arc<T>`.
pub(crate) unsafe fn data<'a, T: FileOps>(file: *mut bindings::file) -> ArcBorrow<'a, T> {
    // SAFETY: By the contract of this function; the file outlives the call.
    unsafe { ArcBorrow::from_raw((*file).private_data.cast::<T>()) }
}

/// `release`, with the last reference to the file.
///
/// # Safety
///
/// Called by the VFS, once, with a file that a table of `T` serves.
unsafe extern "C" fn release<T: FileOps>(
    _inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: Whoever opened the file left an `Arc<T>`; release is called once.
    drop(unsafe { Arc::from_raw((*file).private_data.cast::<T>()) });
    0
}

/// `unlocked_ioctl`.
///
/// # Safety
///
/// Called by the VFS, with a file that a table of `T` serves.
unsafe extern "C" fn ioctl<T: FileOps>(
    file: *mut bindings::file,
    cmd: c_uint,
    arg: c_ulong,
) -> c_long {
    // SAFETY: The file is served by a table of `T`.
    let this = unsafe { data::<T>(file) };
    // SAFETY: `ioctl(2)` holds a reference to the file and no `fdget_pos` section.
    let file = unsafe { File::from_raw_file(file) };
    match T::ioctl(this, file, cmd, UserArg::new(arg)) {
        Ok(value) => value,
        Err(err) => err.to_errno() as c_long,
    }
}

/// Runs `access` at `*pos` and moves `*pos` by what it did.
///
/// # Safety
///
/// `pos` must be valid for reads and writes.
unsafe fn at_pos(pos: *mut bindings::loff_t, access: impl FnOnce(u64) -> Result<usize>) -> isize {
    // SAFETY: By the contract of this function.
    let pos = unsafe { &mut *pos };
    // CAST: The VFS refuses negative positions on files without FMODE_UNSIGNED_OFFSET.
    match access(*pos as u64) {
        Ok(done) => {
            *pos = pos.wrapping_add(done as i64);
            done as isize
        }
        Err(err) => err.to_errno() as isize,
    }
}

/// `read`.
///
/// # Safety
///
/// Called by the VFS, with a file that a table of `T` serves and a valid position.
pub(crate) unsafe extern "C" fn read<T: FileOps>(
    file: *mut bindings::file,
    buf: *mut c_char,
    count: usize,
    pos: *mut bindings::loff_t,
) -> isize {
    // SAFETY: The file is served by a table of `T`.
    let this = unsafe { data::<T>(file) };
    let buf = UserSlice::new(UserPtr::from_ptr(buf.cast()), count);
    // SAFETY: The VFS passes a valid position.
    unsafe { at_pos(pos, |pos| this.read(buf, pos)) }
}

/// `write`.
///
/// # Safety
///
/// Called by the VFS, with a file that a table of `T` serves and a valid position.
pub(crate) unsafe extern "C" fn write<T: FileOps>(
    file: *mut bindings::file,
    buf: *const c_char,
    count: usize,
    pos: *mut bindings::loff_t,
) -> isize {
    // SAFETY: The file is served by a table of `T`.
    let this = unsafe { data::<T>(file) };
    let buf = UserSlice::new(UserPtr::from_ptr(buf.cast_mut().cast()), count);
    // SAFETY: The VFS passes a valid position.
    unsafe { at_pos(pos, |pos| this.write(buf, pos)) }
}

/// `show_fdinfo`.
///
/// # Safety
///
/// Called by procfs, with a file that a table of `T` serves.
pub(crate) unsafe extern "C" fn show_fdinfo<T: FileOps>(
    seq: *mut bindings::seq_file,
    file: *mut bindings::file,
) {
    // SAFETY: The file is served by a table of `T`.
    let this = unsafe { data::<T>(file) };
    if let Some(dev) = this.fdinfo_device() {
        // SAFETY: procfs passes a valid `seq_file`; the device is alive.
        unsafe { vfio_bindings::vfio_rs_show_syspath(seq, core::ptr::from_ref(dev).cast()) };
    }
}
