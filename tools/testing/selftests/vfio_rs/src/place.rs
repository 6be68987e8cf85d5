// SPDX-License-Identifier: GPL-2.0
//! Where `make test` runs a program, as all programs everywhere would take hours. Each says so in
//! its `suite!`, and to the runner, `tools/suite`, by `--describe`.

use std::fmt::{self, Display};

/// Behind which IOMMUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iommus {
    /// Behind each kind: it meets the IOMMU, and the kind makes a difference to it.
    All,
    /// Behind VT-d alone: about the devices, or about the rules for groups, or it needs unmaps that
    /// take seconds, as behind VT-d.
    Vtd,
}

/// On the debug kernel, beside the release kernel, on which all run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debug {
    /// Always: things are shared, end, fail in the middle or race, which is what the kernel's
    /// checkers watch.
    Lifetimes,
    /// So, and again on a kernel that counts what is mapped where, as it maps and unmaps most.
    Counted,
    /// When asked for: its point is an answer, which is the same without checkers.
    Answers,
}

/// Where a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Behind which IOMMUs.
    pub iommus: Iommus,
    /// Whether on the debug kernel.
    pub debug: Debug,
}

impl Display for Place {
    /// A line for each, `KEY: VALUE`, in small letters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let iommus = match self.iommus {
            Iommus::All => "all",
            Iommus::Vtd => "vtd",
        };
        let debug = match self.debug {
            Debug::Lifetimes => "lifetimes",
            Debug::Counted => "counted",
            Debug::Answers => "answers",
        };
        write!(f, "iommus: {iommus}\ndebug: {debug}")
    }
}
