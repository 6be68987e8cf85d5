// SPDX-License-Identifier: GPL-2.0

//! File operations of a type, `struct file_operations` of `include/linux/fs.h`.
//!
//! The private data of an open file is an [`Arc`] of the type; closing the file drops it.

use core::marker::PhantomData;
use kernel::{
    bindings,
    device,
    error::from_result,
    fs::{
        File,
        LocalFile, //
    },
    mm::virt::VmaNew,
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

use crate::{
    argsz::UserArg,
    chardev::CharNode,
    mmap::{
        self,
        Mmap, //
    },
    shared_page::{
        self,
        ShowsPage, //
    },
};

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

/// The operations of files that hold an `Arc<T>`. Its address is their identity, so each table is
/// a `static`.
#[repr(transparent)]
pub struct FileOpsTable<T>(bindings::file_operations, PhantomData<fn() -> T>);

// SAFETY: The table is never written after it was made.
unsafe impl<T> Sync for FileOpsTable<T> {}

impl<T: FileOps> FileOpsTable<T> {
    const fn table(
        open: Option<unsafe extern "C" fn(*mut bindings::inode, *mut bindings::file) -> c_int>,
    ) -> bindings::file_operations {
        bindings::file_operations {
            owner: this_module::<T::OwnerModule>().as_ptr(),
            open,
            release: Some(release::<T>),
            unlocked_ioctl: Some(ioctl::<T>),
            #[cfg(CONFIG_COMPAT)]
            compat_ioctl: bindings::compat_ptr_ioctl,
            ..pin_init::zeroed()
        }
    }

    /// For a character node ([`CharNode`]).
    pub const fn node() -> Self {
        Self(Self::table(Some(open_node::<T>)), PhantomData)
    }

    pub(crate) const fn as_ptr(&'static self) -> *const bindings::file_operations {
        &self.0
    }

    /// The data of `file`, if this table serves it.
    pub fn data_of<'a>(&'static self, file: &'a LocalFile) -> Option<ArcBorrow<'a, T>> {
        let file = file.as_ptr();
        // SAFETY: The reference proves that the file is open; `f_op` does not change.
        if !core::ptr::eq(unsafe { (*file).f_op }, self.as_ptr()) {
            return None;
        }
        // SAFETY: Only the functions of this table write the private data, always an `Arc<T>`
        // that lives until the last reference to the file is gone.
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

impl<T: FileOps<Node = ()>> FileOpsTable<T> {
    /// For a miscellaneous device, whose node carries nothing.
    pub const fn misc() -> Self {
        Self(Self::table(Some(open_misc::<T>)), PhantomData)
    }
}

impl<T: FileOps + Mmap> FileOpsTable<T> {
    /// For files without a node, that can also be read, written and mapped.
    pub const fn anon() -> Self {
        let mut table = Self::table(None);
        table.read = Some(read::<T>);
        table.write = Some(write::<T>);
        table.mmap = Some(mmap::<T>);
        table.get_unmapped_area = Some(mmap::get_unmapped_area::<T>);
        table.show_fdinfo = Some(show_fdinfo::<T>);
        Self(table, PhantomData)
    }
}

impl<T: FileOps + ShowsPage> FileOpsTable<T> {
    /// For files without a node that can be mapped, and then show a page.
    pub const fn page() -> Self {
        let mut table = Self::table(None);
        table.mmap = Some(mmap_page::<T>);
        Self(table, PhantomData)
    }
}

/// # Safety
///
/// The file must be served by a table of `T`, whose private data is an `Arc<T>`.
pub(crate) unsafe fn data<'a, T: FileOps>(file: *mut bindings::file) -> ArcBorrow<'a, T> {
    // SAFETY: By the contract of this function; the file outlives the call.
    unsafe { ArcBorrow::from_raw((*file).private_data.cast::<T>()) }
}

/// `open` of a miscellaneous device.
///
/// # Safety
///
/// Called by the VFS, with a file that is being opened.
unsafe extern "C" fn open_misc<T: FileOps<Node = ()>>(
    _inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    from_result(|| {
        let data = T::open(&())?;
        // SAFETY: A file being opened belongs to its open function.
        unsafe { (*file).private_data = Arc::into_raw(data).cast_mut().cast() };
        Ok(0)
    })
}

/// `open` of a character node.
///
/// # Safety
///
/// Called by the VFS, with a file that is being opened through a [`CharNode`] of `T`.
unsafe extern "C" fn open_node<T: FileOps>(
    inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: Only `CharNode<T::Node>` registers a table made by `node`; `chrdev_open()` holds a
    // reference to its cdev, hence to the node, until the file is released.
    let node = unsafe { CharNode::<T::Node>::from_cdev(vfio_bindings::vfio_rs_inode_cdev(inode)) };
    from_result(|| {
        let data = T::open(node)?;
        // SAFETY: A file being opened belongs to its open function.
        unsafe { (*file).private_data = Arc::into_raw(data).cast_mut().cast() };
        Ok(0)
    })
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
    // SAFETY: Whoever opened the file stored an `Arc<T>`; release is called once.
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
unsafe extern "C" fn read<T: FileOps>(
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
unsafe extern "C" fn write<T: FileOps>(
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

/// `mmap`.
///
/// # Safety
///
/// Called by the MM, with a file that a table of `T` serves and an area that is being set up.
unsafe extern "C" fn mmap<T: FileOps + Mmap>(
    file: *mut bindings::file,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    // SAFETY: The file is served by a table of `T`.
    let this = unsafe { data::<T>(file) };
    // SAFETY: The area is being set up by `mmap(2)` on this file.
    let area = unsafe { VmaNew::from_raw(vma) };
    from_result(|| {
        mmap::set_up::<T>(&this, area)?;
        Ok(0)
    })
}

/// `mmap` of a file that shows a page.
///
/// # Safety
///
/// Called by the MM, with a file that a table of `T` serves and an area that is being set up.
unsafe extern "C" fn mmap_page<T: FileOps + ShowsPage>(
    _file: *mut bindings::file,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    // SAFETY: The area is being set up by `mmap(2)` on this file.
    let area = unsafe { VmaNew::from_raw(vma) };
    from_result(|| {
        shared_page::set_up::<T>(area)?;
        Ok(0)
    })
}

/// `show_fdinfo`.
///
/// # Safety
///
/// Called by procfs, with a file that a table of `T` serves.
unsafe extern "C" fn show_fdinfo<T: FileOps>(
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
