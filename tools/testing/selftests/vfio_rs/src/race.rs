// SPDX-License-Identifier: GPL-2.0
//! Threads against each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use nix::errno::Errno;

/// Whether a result is a success or one of `allowed`.
pub fn is_expected<T>(result: std::io::Result<T>, allowed: &[Errno]) -> bool {
    match result {
        Ok(_) => true,
        Err(e) => e
            .raw_os_error()
            .is_some_and(|n| allowed.contains(&Errno::from_raw(n))),
    }
}

/// Runs all bodies over and over for a while, each in a thread of its own; false if one returned
/// false.
pub fn race(time: Duration, bodies: &[&(dyn Fn() -> bool + Sync)]) -> bool {
    race_while(|| sleep(time), bodies)
}

/// As [`race`], until `end` returns.
pub fn race_while(end: impl FnOnce(), bodies: &[&(dyn Fn() -> bool + Sync)]) -> bool {
    let (stop, good) = (AtomicBool::new(false), AtomicBool::new(true));
    scope(|threads| {
        for body in bodies {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if !body() {
                        good.store(false, Ordering::Relaxed);
                        break;
                    }
                }
            });
        }
        end();
        stop.store(true, Ordering::Relaxed);
    });
    good.into_inner()
}
