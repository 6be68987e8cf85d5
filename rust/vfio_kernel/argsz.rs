// SPDX-License-Identifier: GPL-2.0

//! User structs that start with their own size: VFIO's `argsz` protocol.
//!
//! A user may pass a struct older (shorter) or newer (longer) than ours. Each ioctl copies the
//! part that must be there, once, and answers with no more than the user has room for.
//!
//! `kernel::uaccess` reads and writes whole values, or slices of bytes, each copy of which may be
//! checked (`CONFIG_HARDENED_USERCOPY`). The start of a value is copied here without that, as the
//! value bounds what is copied.

use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    uaccess::UserSlice, //
};
use vfio_bindings as bindings;
use zerocopy::{
    FromBytes,
    Immutable,
    IntoBytes, //
};

/// The argument of an ioctl: an address in the user's memory.
#[derive(Clone, Copy)]
pub struct UserArg(usize);

impl UserArg {
    /// Takes the third argument of `ioctl(2)`.
    pub fn new(arg: usize) -> Self {
        Self(arg)
    }

    /// The argument itself, for ioctls that pass a number.
    pub fn value(self) -> usize {
        self.0
    }

    /// What lies `offset` bytes behind this; as for [`slice`](Self::slice), a sum may wrap.
    pub fn at(self, offset: usize) -> Self {
        Self(self.0.wrapping_add(offset))
    }

    /// Whether `len` bytes from here on can be a user's at all, `access_ok()`.
    pub fn access_ok(self, len: usize) -> bool {
        // SAFETY: Looks at the numbers only.
        unsafe { bindings::vfio_rs_access_ok(self.0, len) }
    }

    /// `len` bytes of user memory, `offset` bytes into the struct.
    ///
    /// A sum that wraps is an address that no access passes, so it ends in `EFAULT`.
    pub fn slice(self, offset: usize, len: usize) -> UserSlice {
        UserSlice::new(UserPtr::from_addr(self.0.wrapping_add(offset)), len)
    }

    /// Reads the first `min` bytes of `T`; the rest is zero.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the user's memory is not there.
    #[inline]
    pub fn read_min<T: FromBytes + IntoBytes>(self, min: usize) -> Result<T> {
        let mut value = T::new_zeroed();
        let bytes = value.as_mut_bytes().get_mut(..min).ok_or(EINVAL)?;
        // SAFETY: `bytes` may be written; any address may be asked for.
        let left = unsafe {
            bindings::_copy_from_user(
                bytes.as_mut_ptr().cast(),
                core::ptr::without_provenance(self.0),
                bytes.len(),
            )
        };
        if left != 0 {
            return Err(EFAULT);
        }
        Ok(value)
    }

    /// Reads a struct of which the user has `size` bytes: what it has less is zero, and what it has
    /// more must be, as `copy_struct_from_user()` demands.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the user's memory is not there; `E2BIG` if there is more than zeros behind the
    /// struct, or more than a page of them.
    pub fn read_sized<T: FromBytes + IntoBytes>(self, size: usize) -> Result<T> {
        if size > PAGE_SIZE {
            return Err(E2BIG);
        }
        let known = size.min(size_of::<T>());
        let mut behind = [0u8; 64];
        let mut at = known;
        while at < size {
            let len = behind.len().min(size - at);
            let part = &mut behind[..len];
            self.slice(at, len).reader().read_slice(part)?;
            if part.iter().any(|byte| *byte != 0) {
                return Err(E2BIG);
            }
            at += len;
        }
        self.read_min(known)
    }

    /// Writes the first `len` bytes of `value`, or all of it if that is less.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the user's memory is not there.
    #[inline]
    pub fn write_prefix<T: IntoBytes + Immutable>(self, value: &T, len: usize) -> Result {
        let bytes = value.as_bytes();
        let bytes = bytes.get(..len).unwrap_or(bytes);
        // SAFETY: `bytes` may be read; any address may be asked for.
        let left = unsafe {
            bindings::_copy_to_user(
                core::ptr::without_provenance_mut(self.0),
                bytes.as_ptr().cast(),
                bytes.len(),
            )
        };
        if left != 0 {
            return Err(EFAULT);
        }
        Ok(())
    }
}
