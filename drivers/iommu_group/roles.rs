// SPDX-License-Identifier: GPL-2.0

//! What a group may do, by what it is to others. Pure.
//!
//! A group is on its own, or leads others that joined it, or has joined one. Who leads joins
//! nobody and who joined leads nobody, so groups form no chains.

use kernel::prelude::*;

/// What a group is to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// On its own, in no container.
    Free,
    /// On its own, in a container.
    Own,
    /// Others joined it.
    Leader {
        /// They are in a container, all in the same.
        container: bool,
    },
    /// It joined a leader.
    Member,
}

/// What a user asks of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// `VFIO_GROUP_SET_CONTAINER`.
    SetContainer,
    /// `VFIO_GROUP_UNSET_CONTAINER`.
    UnsetContainer,
    /// `VFIO_GROUP_GET_DEVICE_FD`.
    GetDevice,
    /// `VFIO_GROUP_MERGE`, of the group that is to lead.
    Lead,
    /// `VFIO_GROUP_MERGE`, of the group that is to join.
    Join,
    /// `VFIO_GROUP_SPLIT`, of the leader.
    Split,
    /// `VFIO_GROUP_SPLIT`, of the member.
    Leave,
}

impl Role {
    /// The role of a group that is in a container, leads others, has joined one.
    pub(crate) fn of(container: bool, leads: bool, joined: bool) -> Self {
        match (joined, leads, container) {
            (true, ..) => Self::Member,
            (_, true, container) => Self::Leader { container },
            (_, _, true) => Self::Own,
            (_, _, false) => Self::Free,
        }
    }

    /// Whether a group of this role may do `op`; `open` tells whether a device is that must not.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it could in another role or with its devices closed, `EINVAL` if there is
    /// nothing to be done.
    pub(crate) fn check(self, op: Op, open: bool) -> Result {
        let container = matches!(self, Self::Own | Self::Leader { container: true });
        match (op, self) {
            (Op::Leave, Self::Member) | (Op::Split, Self::Leader { .. }) if open => Err(EBUSY),
            (Op::Leave, Self::Member) | (Op::Split, Self::Leader { .. }) => Ok(()),
            (Op::Leave | Op::Split, _) => Err(EINVAL),
            (_, Self::Member) => Err(EBUSY),
            (Op::Lead, _) | (Op::Join, Self::Free) => Ok(()),
            (Op::Join, _) => Err(EBUSY),
            (Op::SetContainer, _) if !container => Ok(()),
            (Op::UnsetContainer, _) if container && open => Err(EBUSY),
            (Op::UnsetContainer | Op::GetDevice, _) if container => Ok(()),
            (Op::SetContainer | Op::UnsetContainer | Op::GetDevice, _) => Err(EINVAL),
        }
    }
}

/// What KVM was told of a group by its file, and what DMA of its devices is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coherency {
    /// A virtual machine has the file.
    pub(crate) in_kvm: bool,
    /// All DMA is coherent with the CPU's caches, whatever a device asks for.
    pub(crate) enforced: bool,
}

/// Whether a merge would make DMA incoherent behind the back of a virtual machine, which looks at
/// a file when it is told of it and not again. `same_kvm`: it knows the new member's file too.
pub(crate) fn lowers_coherency(leader: Coherency, member: Coherency, same_kvm: bool) -> bool {
    leader.in_kvm && leader.enforced && !member.enforced && !(member.in_kvm && same_kvm)
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_group_roles))]
mod tests {
    use super::*;

    const OPS: [Op; 7] = [
        Op::SetContainer,
        Op::UnsetContainer,
        Op::GetDevice,
        Op::Join,
        Op::Lead,
        Op::Split,
        Op::Leave,
    ];

    /// A row for each role, a column for each of `OPS`; devices are closed.
    fn table() -> [(Role, [Result; 7]); 5] {
        const OK: Result = Ok(());
        let (busy, inval): (Result, Result) = (Err(EBUSY), Err(EINVAL));
        let (idle, set) = (
            Role::Leader { container: false },
            Role::Leader { container: true },
        );
        [
            (Role::Free, [OK, inval, inval, OK, OK, inval, inval]),
            (Role::Own, [inval, OK, OK, busy, OK, inval, inval]),
            (idle, [OK, inval, inval, busy, OK, OK, inval]),
            (set, [inval, OK, OK, busy, OK, OK, inval]),
            (Role::Member, [busy, busy, busy, busy, busy, inval, OK]),
        ]
    }

    #[test]
    fn closed_devices() {
        for (role, row) in table() {
            for (op, expected) in OPS.into_iter().zip(row) {
                assert!(role.check(op, false) == expected);
            }
        }
    }

    #[test]
    fn open_devices() {
        for (role, row) in table() {
            for (op, closed) in OPS.into_iter().zip(row) {
                let needs_closed = matches!(op, Op::UnsetContainer | Op::Split | Op::Leave);
                let expected = match closed {
                    Ok(()) if needs_closed => Err(EBUSY),
                    other => other,
                };
                assert!(role.check(op, true) == expected);
            }
        }
    }

    #[test]
    fn joining_comes_first() {
        for container in [false, true] {
            assert!(Role::of(container, false, true) == Role::Member);
            assert!(Role::of(container, true, false) == Role::Leader { container });
        }
        assert!(Role::of(true, false, false) == Role::Own);
        assert!(Role::of(false, false, false) == Role::Free);
    }

    #[test]
    fn coherency() {
        for bits in 0u8..32 {
            let bit = |at: u8| bits & (1 << at) != 0;
            let leader = Coherency {
                in_kvm: bit(0),
                enforced: bit(1),
            };
            let member = Coherency {
                in_kvm: bit(2),
                enforced: bit(3),
            };
            // Refused only where the machine believes in coherency and was not told otherwise.
            let expected = matches!(bits, 0b00011 | 0b10011 | 0b00111);
            assert!(lowers_coherency(leader, member, bit(4)) == expected);
        }
    }
}
