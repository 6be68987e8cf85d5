// SPDX-License-Identifier: GPL-2.0
//! An eventfd with a timed wait: where interrupts arrive.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// An eventfd.
#[derive(Debug)]
pub struct Event(EventFd);

impl Event {
    /// A new one with count 0.
    ///
    /// # Errors
    /// errno of eventfd(2).
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(EventFd::from_value_and_flags(0, flags)?))
    }

    /// Takes the count and sets it to 0; `None` if it was 0.
    ///
    /// # Errors
    /// errno of read(2).
    pub fn take(&self) -> io::Result<Option<u64>> {
        match self.0.read() {
            Ok(count) => Ok(Some(count)),
            Err(Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// As [`Event::take`], waiting for at most `timeout`.
    ///
    /// # Errors
    /// errno of poll(2) or read(2).
    pub fn wait(&self, timeout: Duration) -> io::Result<Option<u64>> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        poll(
            &mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)],
            timeout,
        )?;
        self.take()
    }

    /// Adds 1 to the count, as the kernel does for an interrupt.
    ///
    /// # Errors
    /// errno of write(2).
    pub fn signal(&self) -> io::Result<()> {
        self.0.write(1)?;
        Ok(())
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
