// SPDX-License-Identifier: GPL-2.0
//! Checks that say what was expected and what came.

use std::fmt::{self, Debug, Display};
use std::io;
use std::thread::{ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::{Outcome, Result};

/// The error that a skipped test returns: its reason.
#[derive(Debug)]
pub struct Skip(pub String);

impl Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// The call must fail with errno `want`.
///
/// # Errors
/// If it succeeded or failed otherwise.
pub fn errno<T: Debug>(what: &str, result: io::Result<T>, want: Errno) -> Outcome {
    match result {
        Ok(value) => anyhow::bail!("{what}: expected {want:?}, succeeded with {value:?}"),
        Err(e) => match e.raw_os_error().map(Errno::from_raw) {
            Some(got) if got == want => Ok(()),
            Some(got) => anyhow::bail!("{what}: expected {want:?}, got {got:?}"),
            None => anyhow::bail!("{what}: expected {want:?}, got {e}"),
        },
    }
}

/// Waits until `done` says so, at most for `patience`.
///
/// # Errors
/// If it does not, or what it failed with.
pub fn until(what: &str, patience: Duration, done: impl Fn() -> Result<bool>) -> Outcome {
    let end = Instant::now() + patience;
    while !done()? {
        anyhow::ensure!(Instant::now() < end, "{what}: not after {patience:?}");
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Both values must be equal.
///
/// # Errors
/// If they differ.
pub fn same<T: PartialEq + Debug>(what: &str, got: T, want: T) -> Outcome {
    anyhow::ensure!(got == want, "{what}: expected {want:x?}, got {got:x?}");
    Ok(())
}

/// What the thread returned.
///
/// # Errors
/// If it has panicked.
pub fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> Result<T> {
    let result = thread.join();
    result.map_err(|_| anyhow::anyhow!("a thread has panicked, see above"))
}
