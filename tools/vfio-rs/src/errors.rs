// SPDX-License-Identifier: GPL-2.0
//! Errors that have an exit status of their own.

use std::fmt::{self, Display};

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The command line makes no sense here: status 2.
    Usage(String),
    /// It would do harm: status 3. A line for each reason.
    Refused(Vec<String>),
    /// Only root can: status 4.
    NeedsRoot,
}

impl Stop {
    /// The exit status.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Refused(_) => 3,
            Self::NeedsRoot => 4,
        }
    }
}

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Refused(reasons) => {
                write!(f, "refused: {}", reasons.join("\nvfio-rs: refused: "))
            }
            Self::NeedsRoot => f.write_str("only root can do that"),
        }
    }
}

impl std::error::Error for Stop {}
