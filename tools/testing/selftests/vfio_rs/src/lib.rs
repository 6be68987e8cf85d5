// SPDX-License-Identifier: GPL-2.0
//! What the kselftests share: the [`harness`] (forked tests, KTAP), [`check`]s that name what went
//! wrong, and [`setup`] of devices. The tests themselves are the programs in `src/bin/`, one per
//! subject.
//!
//! The C stack is the oracle: every test passes on it unchanged, so an errno here is what Linux
//! returns.

pub mod absent;
pub mod check;
pub mod faults;
pub mod harness;
pub mod igd;
pub mod irq;
pub mod kmsg;
pub mod kworkers;
pub mod leaks;
pub mod machine;
pub mod merge;
pub mod model;
pub mod modules;
pub mod nested;
pub mod nobody;
pub mod node;
pub mod order;
pub mod pamu;
pub mod pin;
pub mod place;
pub mod process;
pub mod qmp;
pub mod race;
pub mod reset;
pub mod setup;
pub mod shapes;
pub mod space;
pub mod sriov;
pub mod translation;

pub use anyhow::{Context, Result, bail, ensure};
pub use check::{errno, joined, same, until};

/// What a test returns.
pub type Outcome = Result<()>;

/// Ends the test as skipped, with a reason.
#[macro_export]
macro_rules! skip {
    ($($arg:tt)*) => {
        return Err($crate::check::Skip(format!($($arg)*)).into())
    };
}

/// Makes `main` of a test program: runs the named functions as tests, in this order. Before them,
/// where `make test` runs the program: a member of [`Iommus`](place::Iommus), and one of
/// [`Debug`](place::Debug).
#[macro_export]
macro_rules! suite {
    (iommus: $iommus:ident, debug: $debug:ident; $($test:ident),+ $(,)?) => {
        fn main() -> std::process::ExitCode {
            let place = $crate::place::Place {
                iommus: $crate::place::Iommus::$iommus,
                debug: $crate::place::Debug::$debug,
            };
            $crate::harness::main(
                place,
                &[$($crate::harness::Test { name: stringify!($test), run: $test }),+],
            )
        }
    };
}
