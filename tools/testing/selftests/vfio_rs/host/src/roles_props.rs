// SPDX-License-Identifier: GPL-2.0

//! Groups that join and leave each other at random: whatever happens, there are no chains and
//! everybody is where the leader is.

// A panic is how a test fails.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

use crate::{
    roles::{
        Op,
        Role, //
    },
    settings,
};
use kernel::prelude::*;
use proptest::prelude::{
    any,
    prop,
    prop_assert,
    prop_assert_eq,
    proptest, //
};

const GROUPS: usize = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Group {
    leader: Option<usize>,
    /// Of its own or as a leader.
    container: bool,
    /// How many of its devices are open.
    open: usize,
}

#[derive(Debug)]
struct World([Group; GROUPS]);

impl World {
    fn members(&self, of: usize) -> Vec<usize> {
        (0..GROUPS)
            .filter(|at| self.0[*at].leader == Some(of))
            .collect()
    }

    fn role(&self, at: usize) -> Role {
        let group = self.0[at];
        Role::of(
            group.container,
            !self.members(at).is_empty(),
            group.leader.is_some(),
        )
    }

    /// Whether a device that `at` answers for is open.
    fn in_use(&self, at: usize) -> bool {
        self.0[at].open != 0 || self.members(at).into_iter().any(|m| self.0[m].open != 0)
    }

    /// Does `op` to `at`, with `other` as the other group; as the driver does it.
    fn act(&mut self, op: Op, at: usize, other: usize) -> Result {
        let open = match op {
            Op::Split | Op::Leave => false,
            _ => self.in_use(at),
        };
        match op {
            Op::Lead | Op::Join => {
                if at == other {
                    return Err(EINVAL);
                }
                self.role(at).check(Op::Lead, open)?;
                self.role(other).check(Op::Join, false)?;
                self.0[other].leader = Some(at);
            }
            Op::Split | Op::Leave => {
                self.role(other).check(Op::Leave, self.0[other].open != 0)?;
                if op == Op::Split && self.0[other].leader != Some(at) {
                    return Err(EINVAL);
                }
                let leader = self.0[other].leader.ok_or(EINVAL)?;
                self.role(leader)
                    .check(Op::Split, self.0[other].open != 0)?;
                self.0[other].leader = None;
            }
            Op::SetContainer => {
                self.role(at).check(op, open)?;
                self.0[at].container = true;
            }
            Op::UnsetContainer => {
                self.role(at).check(op, open)?;
                self.0[at].container = false;
            }
            Op::GetDevice => {
                self.role(at).check(op, open)?;
                if at != other && self.0[other].leader != Some(at) {
                    return Err(ENODEV);
                }
                self.0[other].open += 1;
            }
        }
        Ok(())
    }
}

const OPS: [Op; 6] = [
    Op::Lead,
    Op::Split,
    Op::Leave,
    Op::SetContainer,
    Op::UnsetContainer,
    Op::GetDevice,
];

proptest! {
    #![proptest_config(settings(300))]

    #[test]
    fn no_chains(
        steps in prop::collection::vec(
            (0..OPS.len(), 0..GROUPS, 0..GROUPS, any::<bool>()),
            1..200,
        ),
    ) {
        let mut world = World([Group::default(); GROUPS]);
        for (op, at, other, close) in steps {
            if close {
                world.0[at].open = 0;
                continue;
            }
            let before = world.0;
            let role = world.role(at);
            let result = world.act(OPS[op], at, other);
            if result.is_err() {
                for (old, new) in before.iter().zip(&world.0) {
                    prop_assert_eq!(old.leader, new.leader);
                    prop_assert_eq!(old.container, new.container);
                    prop_assert_eq!(old.open, new.open);
                }
            }
            let for_leaders = match OPS[op] {
                Op::SetContainer | Op::UnsetContainer | Op::GetDevice => true,
                Op::Lead => at != other,
                _ => false,
            };
            if role == Role::Member && for_leaders {
                prop_assert_eq!(result, Err(EBUSY));
            }
            for (at, group) in world.0.iter().enumerate() {
                if let Some(leader) = group.leader {
                    // No chain, and no container but the leader's.
                    prop_assert!(world.0[leader].leader.is_none());
                    prop_assert!(world.members(at).is_empty());
                    prop_assert!(!group.container);
                    // Its devices are open only where they can reach something.
                    prop_assert!(group.open == 0 || world.0[leader].container);
                } else {
                    prop_assert!(group.open == 0 || group.container);
                }
            }
        }
    }
}
