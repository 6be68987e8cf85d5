// SPDX-License-Identifier: GPL-2.0
//! The stages of the test run, in order, and what each needs built.

use crate::programs::Programs;

/// A kernel that the scripts build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// As users run it; the module is built out of tree.
    Release,
    /// With all checkers; the module is built in tree.
    Debug,
}

impl Kernel {
    /// Its name on the command lines of the scripts.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debug => "debug",
        }
    }

    /// Longest life of a virtual machine with it, in seconds.
    pub(crate) fn timeout(self) -> u32 {
        match self {
            Self::Release => 900,
            Self::Debug => 2400,
        }
    }
}

/// Something to be built before a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The kernel itself.
    Kernel(Kernel),
    /// The project's modules for it.
    Modules(Kernel),
    /// The static programs that run inside the virtual machine.
    Programs,
}

/// What a stage runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Job {
    /// `scripts/check`.
    Check,
    /// `cargo test` of the workspace.
    Host,
    /// `scripts/bench --check`.
    Bench,
    /// The KUnit results in the log of a kernel that has loaded the modules.
    KUnit,
    /// A script that prints TAP and builds what it needs: a client that is not the project's.
    Client(&'static [&'static str]),
    /// The same, of a script that needs none of the kernels that are built here.
    Alone(&'static [&'static str]),
    /// These kselftests, behind this IOMMU (as `scripts/vm --iommu` names it).
    Selftests(Kernel, &'static str, Programs),
}

/// A stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage {
    /// Short name, for `--only` and the result lines.
    pub name: &'static str,
    /// One line about it.
    pub what: &'static str,
    /// What it runs.
    pub job: Job,
}

/// The stages that do not run when none is named.
pub(crate) const ON_DEMAND: &[&str] = &["debug-rest", "deb"];

/// The other stages have IOMMUs that cannot enforce coherency.
const SNOOPING: &str = "intel,snoop-control=on";

/// All stages, in the order in which they run.
pub(crate) const STAGES: &[Stage] = &[
    Stage {
        name: "check",
        what: "style and hygiene of the sources",
        job: Job::Check,
    },
    Stage {
        name: "host",
        what: "pure code and tools, on this machine",
        job: Job::Host,
    },
    Stage {
        name: "intel",
        what: "kselftests, release kernel, VT-d",
        job: Job::Selftests(Kernel::Release, "intel", Programs::All),
    },
    Stage {
        name: "virtio",
        what: "kselftests that meet the IOMMU, release kernel, virtio-iommu",
        job: Job::Selftests(Kernel::Release, "virtio", Programs::Iommu),
    },
    Stage {
        name: "amd",
        what: "kselftests that edu can serve, release kernel, AMD-Vi",
        // Without pt=off QEMU's AMD-Vi does not see a device move from no translation to some.
        job: Job::Selftests(Kernel::Release, "amd,pt=off", Programs::Iommu),
    },
    Stage {
        name: "upstream",
        what: "Linux's own VFIO selftests",
        job: Job::Client(&["scripts/test-upstream", "--tap"]),
    },
    Stage {
        name: "dpdk",
        what: "DPDK forwards packets between two cards",
        job: Job::Client(&["scripts/test-dpdk"]),
    },
    Stage {
        name: "docs",
        what: "shell blocks of the documents, pasted",
        job: Job::Client(&["scripts/test-docs"]),
    },
    Stage {
        name: "stock",
        what: "the demo and kselftests of edu, Debian's own kernel, if it is in the cache",
        job: Job::Alone(&["scripts/test-stock"]),
    },
    Stage {
        name: "bench",
        what: "no row of Documentation/bench.json has become worse",
        job: Job::Bench,
    },
    Stage {
        name: "kunit",
        what: "the module's own tests, debug kernel",
        job: Job::KUnit,
    },
    Stage {
        name: "debug-intel",
        what: "kselftests of shared, ending and failing things, debug kernel, VT-d",
        job: Job::Selftests(Kernel::Debug, SNOOPING, Programs::Lifetimes),
    },
    Stage {
        name: "debug-pages",
        what: "kselftests of mappings, debug kernel that counts mapped pages, VT-d",
        job: Job::Selftests(Kernel::Debug, "intel", Programs::Counted),
    },
    Stage {
        name: "debug-rest",
        what: "the other kselftests, debug kernel, VT-d (only when asked for)",
        job: Job::Selftests(Kernel::Debug, SNOOPING, Programs::Answers),
    },
    Stage {
        name: "deb",
        what: "Debian packages, installed and purged, Debian's own kernel (only when asked for)",
        job: Job::Alone(&["scripts/test-deb"]),
    },
];

impl Stage {
    /// What must be built first.
    pub(crate) fn needs(&self) -> Vec<Need> {
        match self.job {
            Job::Check => vec![Need::Kernel(Kernel::Release)],
            Job::Host | Job::Alone(_) => Vec::new(),
            Job::Client(_) => vec![
                Need::Kernel(Kernel::Release),
                Need::Modules(Kernel::Release),
            ],
            Job::Bench => vec![
                Need::Kernel(Kernel::Release),
                Need::Modules(Kernel::Release),
            ],
            Job::KUnit => vec![Need::Kernel(Kernel::Debug), Need::Modules(Kernel::Debug)],
            Job::Selftests(kernel, ..) => {
                vec![Need::Kernel(kernel), Need::Modules(kernel), Need::Programs]
            }
        }
    }
}

impl Need {
    /// The script that builds it, relative to the project's folder, and its arguments.
    pub(crate) fn command(self) -> (&'static str, &'static str) {
        match self {
            Self::Kernel(kernel) => ("scripts/kernel", kernel.name()),
            Self::Modules(kernel) => ("scripts/modules", kernel.name()),
            Self::Programs => ("scripts/programs", "vfio-rs-selftests"),
        }
    }
}
