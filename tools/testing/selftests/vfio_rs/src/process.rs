// SPDX-License-Identifier: GPL-2.0
//! Child processes: the harness runs each test in one, and tests about kill and fork make their
//! own.

use std::ffi::{c_int, c_void};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe};

use crate::same;
use crate::setup::{PATIENCE, slowness};

/// A forked child; killed when dropped.
#[derive(Debug)]
pub struct Child {
    /// Its number.
    pub pid: Pid,
    reaped: bool,
}

/// Runs `body` in a forked child, which exits with the status that it returns. The process must
/// have one thread.
///
/// # Errors
/// errno of fork(2).
pub fn spawn(body: impl FnOnce() -> i32) -> Result<Child> {
    io::stdout().flush()?;
    // SAFETY: single-threaded, so the child may do anything.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Child {
            pid: child,
            reaped: false,
        }),
        ForkResult::Child => {
            let status = body();
            let _ = io::stdout().flush();
            // SAFETY: no destructors or exit handlers of the parent are wanted here.
            unsafe { libc::_exit(status) }
        }
    }
}

impl Child {
    /// Whether it ended, and how.
    ///
    /// # Errors
    /// errno of waitpid(2).
    pub fn try_wait(&mut self) -> Result<Option<WaitStatus>> {
        match waitpid(self.pid, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::StillAlive => Ok(None),
            status => {
                self.reaped = true;
                Ok(Some(status))
            }
        }
    }

    /// Waits for its end, for at most `timeout`.
    ///
    /// # Errors
    /// If it has not ended by then.
    pub fn wait(&mut self, timeout: Duration) -> Result<WaitStatus> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("process {} has not ended after {timeout:?}", self.pid);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end with status 0.
    ///
    /// # Errors
    /// If it ends in another way, or not, with `what` it is.
    pub fn ended_well(&mut self, what: &str) -> Result<()> {
        let status = self.wait(PATIENCE * slowness()).context(what.to_owned())?;
        same(what, status, WaitStatus::Exited(self.pid, 0))
    }

    /// Waits until `signal` has ended it.
    ///
    /// # Errors
    /// If it ends in another way, or not.
    pub fn killed_by(&mut self, signal: Signal) -> Result<()> {
        let status = self.wait(PATIENCE * slowness())?;
        ensure!(
            matches!(status, WaitStatus::Signaled(_, s, _) if s == signal),
            "ended by {status:?}, not {signal:?}"
        );
        Ok(())
    }

    /// Kills it and waits.
    ///
    /// # Errors
    /// If it does not die.
    pub fn kill(&mut self) -> Result<WaitStatus> {
        kill(self.pid, Signal::SIGKILL)?;
        self.wait(Duration::from_secs(60)).context("after SIGKILL")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.wait(Duration::from_secs(10));
        }
    }
}

/// Runs `body` in a process that has this one's memory, but dies alone; meanwhile `during` with its
/// number. Then waits for it. `body` tells whether it succeeded, and must neither allocate nor
/// unwind: the heap is this process's.
///
/// # Errors
/// errno of clone(2), or what `during` says.
pub fn twin<F: Fn() -> bool>(
    body: &F,
    during: impl FnOnce(Pid) -> Result<()>,
) -> Result<WaitStatus> {
    extern "C" fn main<F: Fn() -> bool>(body: *mut c_void) -> c_int {
        // SAFETY: `twin` passes one that outlives this process.
        c_int::from(!unsafe { &*body.cast::<F>() }())
    }
    let mut stack = vec![0u128; 16 << 10];
    let top = stack.as_mut_ptr_range().end.cast();
    let body = std::ptr::from_ref(body).cast_mut().cast();
    let flags = libc::CLONE_VM | libc::SIGCHLD;
    // SAFETY: the stack is the process's alone and aligned; it and `body` live until the process
    // has ended, see below.
    let pid = Errno::result(unsafe { libc::clone(main::<F>, top, flags, body) })?;
    let pid = Pid::from_raw(pid);
    let outcome = during(pid);
    if outcome.is_err() {
        let _ = kill(pid, Signal::SIGKILL);
    }
    let status = loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => continue,
            // It is no child of ours: cannot be.
            Err(e) => unreachable!("waiting for {pid}: {e}"),
            Ok(status) => break status,
        }
    };
    outcome.map(|()| status)
}

/// One-way signal between parent and child: a pipe and a byte.
#[derive(Debug)]
pub struct Latch {
    read: OwnedFd,
    write: OwnedFd,
}

impl Latch {
    /// A new one, to be made before the fork.
    ///
    /// # Errors
    /// errno of pipe(2).
    pub fn new() -> Result<Self> {
        let (read, write) = pipe()?;
        Ok(Self { read, write })
    }

    /// Opens it.
    ///
    /// # Errors
    /// errno of write(2).
    pub fn open(&self) -> Result<()> {
        nix::unistd::write(&self.write, b"x")?;
        Ok(())
    }

    /// Waits until it is opened.
    ///
    /// # Errors
    /// If `timeout` passes first.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let timeout_ms = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        if poll(
            &mut [PollFd::new(self.read.as_fd(), PollFlags::POLLIN)],
            timeout_ms,
        )? == 0
        {
            bail!("the other process gave no sign in {timeout:?}");
        }
        let mut byte = [0];
        std::fs::File::from(self.read.try_clone()?).read_exact(&mut byte)?;
        Ok(())
    }
}
