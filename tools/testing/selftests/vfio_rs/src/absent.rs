// SPDX-License-Identifier: GPL-2.0
//! Memory that does not come until a test lets it, so that whoever needs it is stopped in the middle.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vfio_client::DmaBuf;

use crate::Outcome;
use crate::setup::{PAGE, PATIENCE, slowness};

/// Memory whose last page does not come until it is told to, by userfaultfd(2).
#[derive(Debug)]
pub struct Absent {
    /// All of it.
    pub buf: DmaBuf,
    fd: OwnedFd,
}

impl Absent {
    /// One page.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn new() -> Result<Self> {
        Self::behind(0)
    }

    /// One page behind so many others, which are there.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn behind(pages: usize) -> Result<Self> {
        let buf = DmaBuf::new((pages + 1) * PAGE as usize)?;
        // SAFETY: takes flags and returns a new descriptor.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) })?;
        // SAFETY: the descriptor is new.
        let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) };
        let absent = Self { buf, fd };
        absent.call(0xc018_aa3f, [0xaa, 0, 0, 0])?;
        let missing = 1;
        absent.call(0xc020_aa00, [absent.page(), PAGE, missing, 0])?;
        Ok(absent)
    }

    /// Where the page is.
    #[must_use]
    pub fn page(&self) -> u64 {
        self.buf.addr() + self.buf.len() as u64 - PAGE
    }

    fn call(&self, nr: libc::c_ulong, mut words: [u64; 4]) -> Outcome {
        // SAFETY: UFFDIO_API, REGISTER and ZEROPAGE have structs of that size or less, about memory of ours.
        Errno::result(unsafe { libc::ioctl(self.fd.as_raw_fd(), nr, &mut words) })?;
        Ok(())
    }

    /// Waits until somebody wants the page.
    ///
    /// # Errors
    /// If nobody does.
    pub fn wait_wanted(&self) -> Outcome {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        let time = PollTimeout::try_from(PATIENCE * slowness())?;
        ensure!(poll(&mut fds, time)? == 1, "nobody wants the page");
        Ok(())
    }

    /// Lets it come, full of zeroes.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn let_come(&self) -> Outcome {
        self.call(0xc020_aa04, [self.page(), PAGE, 0, 0])
    }
}
