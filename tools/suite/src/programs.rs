// SPDX-License-Identifier: GPL-2.0
//! Which kselftest programs a stage runs: all of them everywhere would take hours.

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

/// About the devices or about the rules for groups alone, and one that needs unmaps which take
/// seconds, as behind VT-d.
const VTD_ONLY: &[&str] = &[
    "bar_io",
    "bar_map",
    "dma_buf",
    "group_info",
    "hot_reset",
    "igd",
    "intx",
    "ioeventfd",
    "kvm",
    "load",
    "log",
    "merge_kvm",
    "merge_model",
    "merge_race",
    "merge_refused",
    "nointxmask",
    "odd",
    "params",
    "pin_bit",
    "power",
    "regions",
    "reset",
    "reset_outside",
    "rom",
    "set_irqs",
    "signals",
    "sriov",
    "stall",
    "unmap_large",
    "vga",
    "vf_token",
    "wc",
];

const LIFETIMES: &[&str] = &[
    "debugfs",
    "dirty",
    "dma_buf",
    "domains",
    "faults",
    "hostile",
    "intx",
    "kill",
    "load",
    "map",
    "merge_life",
    "merge_race",
    "model",
    "order",
    "pamu",
    "race",
    "reset_outside",
    "signals",
    "stall",
    "unbind",
    "unmap",
    "vaddr",
    "wc",
];

const COUNTED: &[&str] = &["map", "model", "unmap"];

impl Programs {
    /// What the machine is booted with. With this, which users do not run, the module changes I/O
    /// page tables by the IOMMU core's functions alone, and pages that are freed while mapped are
    /// reported.
    pub(crate) fn boot_parameter(self) -> Option<&'static str> {
        (self == Self::Counted).then_some("iommu.debug_pagealloc=1")
    }

    /// Whether the program `name` is one of them.
    pub(crate) fn contain(self, name: &str) -> bool {
        let is_in = |list: &[&str]| {
            let short = name.strip_prefix("vfio_rs_").unwrap_or(name);
            list.contains(&short)
        };
        match self {
            Self::All => true,
            Self::Iommu => !is_in(VTD_ONLY),
            Self::Lifetimes => is_in(LIFETIMES),
            Self::Answers => !is_in(LIFETIMES),
            Self::Counted => is_in(COUNTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_choices_make_all() {
        for name in ["vfio_rs_kill", "vfio_rs_names", "kill"] {
            assert!(Programs::All.contain(name));
            assert_ne!(
                Programs::Lifetimes.contain(name),
                Programs::Answers.contain(name)
            );
        }
        assert!(Programs::Counted.contain("vfio_rs_map"));
        assert!(!Programs::Counted.contain("vfio_rs_rom"));
        assert!(Programs::Iommu.contain("vfio_rs_map"));
        assert!(!Programs::Iommu.contain("vfio_rs_rom"));
    }
}
