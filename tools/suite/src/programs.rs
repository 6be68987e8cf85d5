// SPDX-License-Identifier: GPL-2.0
//! Which kselftest programs a stage runs: all of them everywhere would take hours. Each says by
//! `--describe` where it belongs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// A choice of programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Programs {
    /// All.
    All,
    /// Those that meet the IOMMU and to which its kind makes a difference.
    Iommu,
    /// Those where things are shared, end, fail in the middle or race: what the kernel's checkers
    /// watch.
    Lifetimes,
    /// Those whose point is an answer, which is the same without checkers.
    Answers,
    /// Those that map and unmap most, on a kernel that is told to count what is mapped where: see
    /// [`boot_parameter`](Self::boot_parameter).
    Counted,
}

/// What a program says of itself, see `vfio_rs_selftests::place`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    iommus: Iommus,
    debug: Debug,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Iommus {
    All,
    Vtd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Debug {
    Lifetimes,
    Counted,
    Answers,
}

impl Place {
    /// Asks `program`, a file.
    ///
    /// # Errors
    /// If it does not run, or says what is not known here.
    pub(crate) fn of(program: &Path) -> Result<Self> {
        let output = Command::new(program).arg("--describe").output();
        let output = output.with_context(|| program.display().to_string())?;
        let text = String::from_utf8(output.stdout)?;
        Self::parse(&text).with_context(|| format!("{} --describe: {text:?}", program.display()))
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(": "));
            lines.find_map(|(name, value)| (name == key).then_some(value))
        };
        Some(Self {
            iommus: match value("iommus")? {
                "all" => Iommus::All,
                "vtd" => Iommus::Vtd,
                _ => return None,
            },
            debug: match value("debug")? {
                "lifetimes" => Debug::Lifetimes,
                "counted" => Debug::Counted,
                "answers" => Debug::Answers,
                _ => return None,
            },
        })
    }
}

impl Programs {
    /// What the machine is booted with. With this, which users do not run, the module changes I/O
    /// page tables by the IOMMU core's functions alone, and pages that are freed while mapped are
    /// reported.
    pub(crate) fn boot_parameter(self) -> Option<&'static str> {
        (self == Self::Counted).then_some("iommu.debug_pagealloc=1")
    }

    /// Whether a program that says this of itself is one of them.
    pub(crate) fn contain(self, place: Place) -> bool {
        match self {
            Self::All => true,
            Self::Iommu => place.iommus == Iommus::All,
            Self::Lifetimes => place.debug != Debug::Answers,
            Self::Answers => place.debug == Debug::Answers,
            Self::Counted => place.debug == Debug::Counted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_where_they_say() {
        let map = Place::parse("iommus: all\ndebug: counted\n");
        let rom = Place::parse("debug: answers\niommus: vtd\n");
        let in_all = |place: Option<Place>, choices: &[Programs]| {
            place.is_some_and(|place| choices.iter().all(|c| c.contain(place)))
        };
        let in_none = |place: Option<Place>, choices: &[Programs]| {
            place.is_some_and(|place| !choices.iter().any(|c| c.contain(place)))
        };
        use Programs::{All, Answers, Counted, Iommu, Lifetimes};
        assert!(in_all(map, &[All, Iommu, Lifetimes, Counted]));
        assert!(in_none(map, &[Answers]));
        assert!(in_all(rom, &[All, Answers]));
        assert!(in_none(rom, &[Iommu, Lifetimes, Counted]));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in ["", "iommus: all\n", "iommus: all\ndebug: never\n", "ok 1\n"] {
            assert_eq!(Place::parse(text), None);
        }
    }
}
