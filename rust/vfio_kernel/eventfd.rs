// SPDX-License-Identifier: GPL-2.0

//! Event file descriptors, `include/linux/eventfd.h`.

use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    fs::LocalFile,
    prelude::*,
    sync::aref::ARef, //
};
use vfio_bindings as bindings;

/// A reference to the kernel's end of an eventfd; stays valid after the user closed the descriptor.
///
/// # Invariants
///
/// The pointer is to a context, of whose references one is this one's.
pub struct EventFd(NonNull<bindings::eventfd_ctx>);

// SAFETY: The reference count is atomic.
unsafe impl Send for EventFd {}
// SAFETY: `&EventFd` only gives access to `signal`, which is thread-safe.
unsafe impl Sync for EventFd {}

impl EventFd {
    /// Takes a reference to the eventfd behind the descriptor `fd` of the current task.
    ///
    /// # Errors
    ///
    /// `EBADF` if `fd` is not open, `EINVAL` if it is no eventfd.
    pub fn fdget(fd: i32) -> Result<Self> {
        // SAFETY: Any number may be passed.
        let ctx = from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(fd) })?;
        // INVARIANT: The call returned a reference.
        NonNull::new(ctx).map(Self).ok_or(EINVAL)
    }

    fn fileget(file: &LocalFile) -> Result<Self> {
        // SAFETY: The reference proves that the file is open.
        let ctx = from_err_ptr(unsafe { bindings::eventfd_ctx_fileget(file.as_ptr()) })?;
        // INVARIANT: The call returned a reference.
        NonNull::new(ctx).map(Self).ok_or(EINVAL)
    }

    /// Adds one to the counter. Any context, hard interrupt included.
    pub fn signal(&self) {
        // SAFETY: By the type invariant `self` owns a reference.
        unsafe { bindings::eventfd_signal_mask(self.as_ptr(), 0) }
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::eventfd_ctx {
        self.0.as_ptr()
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the type invariant `self` owns a reference, given up here.
        unsafe { bindings::eventfd_ctx_put(self.as_ptr()) }
    }
}

/// An eventfd with the user's end of it, which stays open as long as this lives.
pub struct EventFdFile {
    pub(crate) file: ARef<LocalFile>,
    pub(crate) eventfd: EventFd,
}

impl EventFdFile {
    /// Takes references to the eventfd behind the descriptor `fd` of the current task.
    ///
    /// # Errors
    ///
    /// `EBADF` if `fd` is not open, `EINVAL` if it is no eventfd.
    pub fn fdget(fd: i32) -> Result<Self> {
        let file = LocalFile::fget(fd.try_into().map_err(|_| EBADF)?)?;
        let eventfd = EventFd::fileget(&file)?;
        Ok(Self { file, eventfd })
    }
}
