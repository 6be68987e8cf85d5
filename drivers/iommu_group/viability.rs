// SPDX-License-Identifier: GPL-2.0

//! Whether a group may be handed to a user, and which of its devices is in the way if not.
//!
//! A group may be handed out if the kernel's own drivers keep off all of it: each device has no
//! driver, or one that declares that it leaves DMA to others (`driver_managed_dma`), as ours does.
//! There is no list of names. The IOMMU core refuses what must be refused, with one errno for all
//! reasons; this says which it was. So it only informs, and what it says may be past when it is
//! read.
//!
//! Pure. Stands for the viability checks that drivers/vfio/vfio.c had up to Linux 5.18.

/// Who has a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holder {
    /// No driver.
    Nobody,
    /// A driver that leaves DMA to others.
    Safe,
    /// Any other driver: it does DMA for the kernel.
    Kernel,
}

/// Who owns the DMA of a group, as far as the IOMMU core tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OwnedBy {
    /// Nobody.
    Nobody,
    /// A container of this module.
    Us,
    /// A driver of the kernel, or users who came another way.
    Other,
}

/// What is known of a device of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceFacts {
    /// Who has it.
    pub(crate) holder: Holder,
    /// The firmware wants memory mapped for it at all times.
    pub(crate) wants_direct: bool,
    /// It can raise no interrupts but its own.
    pub(crate) isolated_msi: bool,
}

/// What is known of the group as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    /// Whether there is an IOMMU before it.
    pub(crate) has_iommu: bool,
    /// Who owns it.
    pub(crate) owner: OwnedBy,
    /// The administrator lets users have interrupts that are not isolated.
    pub(crate) unsafe_interrupts: bool,
    /// The last container that wanted it was told that it is busy.
    pub(crate) was_busy: bool,
}

/// Why a device keeps its group from being used; the numbers of `enum vfio_viability_reason`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Verdict {
    /// It does not.
    Viable = 0,
    /// A driver of the kernel has it.
    Driver = 1,
    /// Somebody else owns the group's DMA.
    Owned = 2,
    /// The firmware wants memory mapped for it at all times.
    ResvDirect = 3,
    /// Its interrupts are not isolated.
    NoIsolatedMsi = 4,
    /// It cannot be attached to an address space.
    Domain = 5,
    /// It has no IOMMU.
    NoIommu = 6,
}

impl Verdict {
    /// The number that users know it by.
    pub(crate) const fn number(self) -> u32 {
        // CAST: The numbers are those of the enum.
        self as u32
    }

    /// What the log says of it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Viable => "viable",
            Self::Driver => "used by the kernel",
            Self::Owned => "owned by somebody else",
            Self::ResvDirect => "has memory mapped by the firmware",
            Self::NoIsolatedMsi => "has no isolated interrupts",
            Self::Domain => "cannot be attached",
            Self::NoIommu => "has no IOMMU",
        }
    }
}

/// The rules, applied to one group.
pub(crate) struct Rules {
    of: Circumstances,
    /// A driver of the kernel has some member, and so is the owner that is not us.
    kernel_has_one: bool,
    /// Something other than `was_busy` keeps some member from being used.
    explained: bool,
}

impl Rules {
    /// For a group with these members.
    pub(crate) fn new(
        of: Circumstances,
        members: impl Iterator<Item = DeviceFacts> + Clone,
    ) -> Self {
        let kernel_has_one = members
            .clone()
            .any(|member| member.holder == Holder::Kernel);
        let mut rules = Self {
            of,
            kernel_has_one,
            explained: true,
        };
        let viable = |member| rules.verdict(member) == Verdict::Viable;
        rules.explained = !members.clone().all(viable);
        rules
    }

    /// Whether `member` is in the way, and how.
    pub(crate) fn verdict(&self, member: DeviceFacts) -> Verdict {
        if !self.of.has_iommu {
            return Verdict::NoIommu;
        }
        if member.holder == Holder::Kernel {
            return Verdict::Driver;
        }
        if self.of.owner == OwnedBy::Other && !self.kernel_has_one {
            return Verdict::Owned;
        }
        if member.wants_direct {
            return Verdict::ResvDirect;
        }
        if !member.isolated_msi && !self.of.unsafe_interrupts {
            return Verdict::NoIsolatedMsi;
        }
        if self.of.owner == OwnedBy::Nobody && self.of.was_busy && !self.explained {
            return Verdict::Domain;
        }
        Verdict::Viable
    }
}

/// The verdict on a group: the first that is not [`Verdict::Viable`].
pub(crate) fn first(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    let mut bad = verdicts.filter(|verdict| *verdict != Verdict::Viable);
    bad.next().unwrap_or(Verdict::Viable)
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_viability))]
mod tests {
    use super::*;

    const HOLDERS: [Holder; 3] = [Holder::Nobody, Holder::Safe, Holder::Kernel];
    const OWNERS: [OwnedBy; 3] = [OwnedBy::Nobody, OwnedBy::Us, OwnedBy::Other];

    const FREE: DeviceFacts = DeviceFacts {
        holder: Holder::Nobody,
        wants_direct: false,
        isolated_msi: true,
    };
    const IDLE: Circumstances = Circumstances {
        has_iommu: true,
        owner: OwnedBy::Nobody,
        unsafe_interrupts: false,
        was_busy: false,
    };

    /// The `n`th state of a member; there are [`STATES`].
    fn member(n: usize) -> DeviceFacts {
        DeviceFacts {
            holder: HOLDERS.get(n % 3).copied().unwrap_or(Holder::Nobody),
            wants_direct: n / 3 % 2 == 1,
            isolated_msi: n / 6 % 2 == 0,
        }
    }
    const STATES: usize = 12;

    /// The `n`th circumstances; there are [`CASES`].
    fn circumstances(n: usize) -> Circumstances {
        Circumstances {
            owner: OWNERS.get(n % 3).copied().unwrap_or(OwnedBy::Nobody),
            has_iommu: n / 3 % 2 == 0,
            unsafe_interrupts: n / 6 % 2 == 1,
            was_busy: n / 12 % 2 == 1,
        }
    }
    const CASES: usize = 24;

    fn verdict_on(of: Circumstances, members: &[DeviceFacts], member: &DeviceFacts) -> Verdict {
        Rules::new(of, members.iter().copied()).verdict(*member)
    }

    fn group_verdict(of: Circumstances, members: &[DeviceFacts]) -> Verdict {
        let rules = Rules::new(of, members.iter().copied());
        first(members.iter().map(|member| rules.verdict(*member)))
    }

    /// What the IOMMU core and the container do when the group is claimed by us.
    fn claim(of: Circumstances, members: &[DeviceFacts]) -> bool {
        let owners = members
            .iter()
            .filter(|member| member.holder == Holder::Kernel)
            .count();
        of.has_iommu
            && owners == 0
            && of.owner != OwnedBy::Other
            && !members.iter().any(|member| member.wants_direct)
            && (of.unsafe_interrupts || members.iter().all(|member| member.isolated_msi))
            && !(of.owner == OwnedBy::Nobody && of.was_busy)
    }

    fn for_all(mut check: impl FnMut(Circumstances, &[DeviceFacts])) {
        for case in 0..CASES {
            let of = circumstances(case);
            for a in 0..STATES {
                check(of, &[member(a)]);
                for b in 0..STATES {
                    check(of, &[member(a), member(b)]);
                    for c in 0..STATES {
                        check(of, &[member(a), member(b), member(c)]);
                    }
                }
            }
        }
    }

    #[test]
    fn viable_exactly_if_a_claim_succeeds() {
        for_all(|of, members| {
            let viable = group_verdict(of, members) == Verdict::Viable;
            assert_eq!(viable, claim(of, members));
        });
    }

    #[test]
    fn a_kernel_driver_is_named_at_its_device_alone() {
        for_all(|of, members| {
            for member in members {
                let named = verdict_on(of, members, member) == Verdict::Driver;
                assert_eq!(named, of.has_iommu && member.holder == Holder::Kernel);
            }
        });
    }

    #[test]
    fn safe_drivers_are_as_good_as_none() {
        for_all(|of, members| {
            let bare = |member: DeviceFacts| DeviceFacts {
                holder: match member.holder {
                    Holder::Safe => Holder::Nobody,
                    other => other,
                },
                ..member
            };
            let rules = Rules::new(of, members.iter().copied());
            let without = Rules::new(of, members.iter().copied().map(bare));
            for member in members {
                assert_eq!(rules.verdict(*member), without.verdict(bare(*member)));
            }
        });
    }

    #[test]
    fn owned_by_exclusion() {
        let other = Circumstances {
            owner: OwnedBy::Other,
            ..IDLE
        };
        let driven = DeviceFacts {
            holder: Holder::Kernel,
            ..FREE
        };
        assert_eq!(group_verdict(other, &[FREE, FREE]), Verdict::Owned);
        assert_eq!(verdict_on(other, &[FREE, driven], &FREE), Verdict::Viable);
        assert_eq!(verdict_on(other, &[FREE, driven], &driven), Verdict::Driver);
        assert_eq!(group_verdict(other, &[FREE, driven]), Verdict::Driver);
    }

    #[test]
    fn busy_only_if_nothing_else_explains_it() {
        let busy = Circumstances {
            was_busy: true,
            ..IDLE
        };
        let direct = DeviceFacts {
            wants_direct: true,
            ..FREE
        };
        assert_eq!(group_verdict(busy, &[FREE, FREE]), Verdict::Domain);
        assert_eq!(group_verdict(busy, &[FREE, direct]), Verdict::ResvDirect);
        let ours = Circumstances {
            owner: OwnedBy::Us,
            ..busy
        };
        assert_eq!(group_verdict(ours, &[FREE]), Verdict::Viable);
    }

    #[test]
    fn each_verdict_has_a_number_and_a_text_of_its_own() {
        const ALL: [Verdict; 7] = [
            Verdict::Viable,
            Verdict::Driver,
            Verdict::Owned,
            Verdict::ResvDirect,
            Verdict::NoIsolatedMsi,
            Verdict::Domain,
            Verdict::NoIommu,
        ];
        for (number, verdict) in ALL.iter().enumerate() {
            assert_eq!(verdict.number() as usize, number);
            let same = |other: &&Verdict| other.text() == verdict.text();
            assert_eq!(ALL.iter().filter(same).count(), 1);
        }
    }

    #[test]
    fn an_empty_group_is_viable() {
        for case in 0..CASES {
            assert_eq!(group_verdict(circumstances(case), &[]), Verdict::Viable);
        }
    }
}
