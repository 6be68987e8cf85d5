// SPDX-License-Identifier: GPL-2.0

//! Error numbers, as rust/kernel/error.rs.

use crate::alloc::AllocError;
use std::fmt;

/// A result whose error is an error number.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

/// A negative error number and its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(i32, &'static str);

impl Error {
    /// The negative number.
    #[must_use]
    pub fn to_errno(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
}

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Self {
        code::ENOMEM
    }
}

/// Error numbers.
pub mod code {
    macro_rules! declare {
        ($($name:ident = $number:literal, $doc:literal;)*) => {
            $(
                #[doc = $doc]
                pub const $name: super::Error = super::Error(-$number, stringify!($name));
            )*
        };
    }

    declare! {
        EPERM = 1, "Operation not permitted.";
        ENOENT = 2, "No such file or directory.";
        EINTR = 4, "Interrupted system call.";
        EIO = 5, "I/O error.";
        ENXIO = 6, "No such device or address.";
        E2BIG = 7, "Argument list too long.";
        EBADF = 9, "Bad file number.";
        EAGAIN = 11, "Try again.";
        ENOMEM = 12, "Out of memory.";
        EACCES = 13, "Permission denied.";
        EFAULT = 14, "Bad address.";
        EBUSY = 16, "Device or resource busy.";
        EEXIST = 17, "File exists.";
        ENODEV = 19, "No such device.";
        EINVAL = 22, "Invalid argument.";
        ENOTTY = 25, "Not a typewriter.";
        ENOSPC = 28, "No space left on device.";
        ERANGE = 34, "Math result not representable.";
        EOVERFLOW = 75, "Value too large for defined data type.";
        EOPNOTSUPP = 95, "Operation not supported on transport endpoint.";
    }
}
