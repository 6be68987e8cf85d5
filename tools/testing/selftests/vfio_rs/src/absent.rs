// SPDX-License-Identifier: GPL-2.0
//! Memory that does not come until it is told to, and calls that wait for it.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Scope, ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vfio_client::DmaBuf;

use crate::setup::{PAGE, PATIENCE, slowness};
use crate::{Outcome, Result, bail, ensure};

/// How often a task must be found asleep to be called stuck: it is not in passing.
const LOOKS: u32 = 20;
/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Memory of which one page does not come until it is told to, by userfaultfd(2).
#[derive(Debug)]
pub struct Absent {
    /// All of it.
    pub buf: DmaBuf,
    /// Where that page is.
    page: u64,
    fd: OwnedFd,
}

impl Absent {
    /// New memory of `pages` pages, of which the first does not come.
    ///
    /// # Errors
    /// errno of mmap(2) or userfaultfd(2).
    pub fn new(pages: u64) -> Result<Self> {
        Self::with(pages, 0)
    }

    /// A page that does not come behind so many others.
    ///
    /// # Errors
    /// errno of mmap(2) or userfaultfd(2).
    pub fn behind(pages: u64) -> Result<Self> {
        Self::with(pages + 1, pages)
    }

    fn with(pages: u64, absent: u64) -> Result<Self> {
        let buf = DmaBuf::new((pages * PAGE) as usize)?;
        let page = buf.addr() + absent * PAGE;
        // Without O_NONBLOCK poll(2) says that it cannot tell, at once.
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: takes flags and returns a new descriptor.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) })?;
        // SAFETY: the descriptor is new.
        let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) };
        let absent = Self { buf, page, fd };
        absent.call(0xc018_aa3f, [0xaa, 0, 0, 0])?;
        let missing = 1;
        absent.call(0xc020_aa00, [page, PAGE, missing, 0])?;
        Ok(absent)
    }

    /// Where the page is.
    #[must_use]
    pub fn page(&self) -> u64 {
        self.page
    }

    fn call(&self, nr: libc::c_ulong, mut words: [u64; 4]) -> Outcome {
        // SAFETY: UFFDIO_API, REGISTER and ZEROPAGE have structs of that size or less, about memory
        // of ours.
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
        let events = fds[0].revents();
        ensure!(events == Some(PollFlags::POLLIN), "{events:?}");
        Ok(())
    }

    /// Has the page come, with zeros.
    ///
    /// # Errors
    /// errno of ioctl(2).
    pub fn let_come(&self) -> Outcome {
        self.call(0xc020_aa04, [self.page, PAGE, 0, 0])
    }
}

fn is_asleep(task: &str) -> Result<bool> {
    Ok(fs::read_to_string(format!("/proc/{task}/stat"))?.contains(") D "))
}

/// Waits until a task, a name in /proc, sleeps so that only what it waits for wakes it, or its
/// killer.
///
/// # Errors
/// If it does not.
pub fn wait_stuck(task: &str) -> Outcome {
    let end = Instant::now() + PATIENCE * slowness();
    let mut looks = 0;
    while looks < LOOKS {
        ensure!(Instant::now() < end, "{task} does not wait");
        looks = if is_asleep(task)? { looks + 1 } else { 0 };
        sleep(PAUSE);
    }
    Ok(())
}

/// A call in a thread of its own.
#[derive(Debug)]
pub struct Call<'a, T> {
    thread: ScopedJoinHandle<'a, Result<T>>,
    task: String,
}

impl<'a, T: Send + 'a> Call<'a, T> {
    /// Begins it.
    ///
    /// # Errors
    /// If the thread does not begin.
    pub fn begin<'e>(
        threads: &'a Scope<'a, 'e>,
        call: impl FnOnce() -> Result<T> + Send + 'a,
    ) -> Result<Self> {
        let (number, numbers): (Sender<i32>, Receiver<i32>) = channel();
        let thread = threads.spawn(move || {
            // SAFETY: takes nothing.
            number.send(unsafe { libc::gettid() })?;
            call()
        });
        let task = format!("self/task/{}", numbers.recv()?);
        Ok(Self { thread, task })
    }

    /// Waits until it waits.
    ///
    /// # Errors
    /// If it does not.
    pub fn wait_stuck(&self) -> Outcome {
        wait_stuck(&self.task)
    }

    /// Whether it sleeps now as somebody does who waits; it may go on at once.
    ///
    /// # Errors
    /// If it is done.
    pub fn sleeps(&self) -> Result<bool> {
        is_asleep(&self.task)
    }

    /// Waits until it is done or waits; tells whether it is done.
    ///
    /// # Errors
    /// If it does neither.
    pub fn wait_done_or_stuck(&self) -> Result<bool> {
        let end = Instant::now() + PATIENCE * slowness();
        let mut looks = 0;
        while looks < LOOKS {
            if self.thread.is_finished() {
                return Ok(true);
            }
            ensure!(Instant::now() < end, "{} goes on for ever", self.task);
            // It may end just now.
            looks = if is_asleep(&self.task).unwrap_or(false) {
                looks + 1
            } else {
                0
            };
            sleep(PAUSE);
        }
        Ok(false)
    }

    /// What it returned.
    ///
    /// # Errors
    /// That, or that it panicked.
    pub fn end(self) -> Result<T> {
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread panicked"),
        }
    }
}
