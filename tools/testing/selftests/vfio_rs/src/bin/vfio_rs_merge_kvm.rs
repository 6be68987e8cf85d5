// SPDX-License-Identifier: GPL-2.0
//! Groups that join others whose files a virtual machine has: whose machine a device belongs to,
//! and what would make DMA incoherent behind its back.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use vfio_client::kvm::FileAction;
use vfio_client::uapi::*;
use vfio_rs_selftests::machine::{kvm_uses, machine, wait_kvm_uses};
use vfio_rs_selftests::merge::{Pair, pair, reaches};
use vfio_rs_selftests::modules::TestModule;
use vfio_rs_selftests::setup::{IOVA, PAGE};
use vfio_rs_selftests::{Outcome, Result, errno, same, suite};

const VIABLE: u32 = VFIO_GROUP_FLAGS_VIABLE;
const SET: u32 = VFIO_GROUP_FLAGS_CONTAINER_SET;

fn machine_of_the_leader() -> Outcome {
    let p = pair()?;
    let (vm, kvm) = machine()?;
    p.leader.merge(&p.other)?;
    let without = kvm_uses()?;
    kvm.file(FileAction::Add, p.leader.as_raw_fd())?;
    let device = p.leader.device(p.groups[1].name())?;
    same("uses", kvm_uses()?, without + 1)?;
    drop(device);
    wait_kvm_uses("uses when closed", without)?;
    // The member's own file counts first, and both may be given.
    kvm.file(FileAction::Add, p.other.as_raw_fd())?;
    kvm.file(FileAction::Del, p.leader.as_raw_fd())?;
    let device = p.leader.device(p.groups[1].name())?;
    same("uses by its own", kvm_uses()?, without + 1)?;
    let leaders = p.leader.device(p.groups[0].name())?;
    same("uses by the leader", kvm_uses()?, without + 1)?;
    drop((device, leaders));
    p.leader.split(&p.other)?;
    // Given already, to the same machine: nothing changes behind its back.
    kvm.file(FileAction::Add, p.leader.as_raw_fd())?;
    p.leader.merge(&p.other)?;
    drop((kvm, vm));
    Ok(())
}

/// A pair of groups, of which that with this index is the only coherent one.
fn pair_with_coherent(index: usize) -> Result<(Pair, TestModule)> {
    drop(machine()?);
    let p = pair()?;
    let device = format!("device={}", p.groups[index].name());
    let module = TestModule::load("vfio_rs_coherent", &[&device])?;
    Ok((p, module))
}

/// The groups can join and part.
fn check_allowed(what: &str, p: &Pair) -> Outcome {
    same(what, p.leader.merge(&p.other).is_ok(), true)?;
    same(what, p.leader.status()?, VIABLE | SET)?;
    Ok(p.leader.split(&p.other)?)
}

/// They cannot, and nothing has changed: what is mapped is reached as before.
fn check_refused(what: &str, p: &Pair) -> Outcome {
    let buf = vfio_client::DmaBuf::new(PAGE as usize)?;
    p.container.map_buf(&buf, IOVA)?;
    errno(what, p.leader.merge(&p.other), Errno::EBUSY)?;
    same(what, p.other.status()?, VIABLE)?;
    let device = p.leader.device(p.groups[0].name())?;
    same("DMA of the leader", reaches(&device, IOVA, &buf)?, true)?;
    same("unmapped", p.container.unmap(IOVA, PAGE)?, PAGE)
}

fn coherent_leader_of_a_machine() -> Outcome {
    let (p, _module) = pair_with_coherent(0)?;
    let (leader, other) = (p.leader.as_raw_fd(), p.other.as_raw_fd());
    check_allowed("no machine", &p)?;
    let (_vm, kvm) = machine()?;
    kvm.file(FileAction::Add, leader)?;
    check_refused("a machine knows the leader", &p)?;
    let (another_vm, another) = machine()?;
    another.file(FileAction::Add, other)?;
    check_refused("another machine knows the other", &p)?;
    another.file(FileAction::Del, other)?;
    drop((another, another_vm));
    check_refused("nobody knows the other", &p)?;
    kvm.file(FileAction::Add, other)?;
    check_allowed("the same machine knows both", &p)?;
    kvm.file(FileAction::Del, leader)?;
    check_allowed("it knows the other alone", &p)?;
    kvm.file(FileAction::Del, other)?;
    check_allowed("it knows none", &p)
}

/// Told of the leader when the other had joined, the machine knows that not all is coherent.
fn joined_before_the_machine_came() -> Outcome {
    let (p, _module) = pair_with_coherent(0)?;
    let (_vm, kvm) = machine()?;
    p.leader.merge(&p.other)?;
    kvm.file(FileAction::Add, p.leader.as_raw_fd())?;
    let device = p.leader.device(p.groups[1].name())?;
    let buf = vfio_client::DmaBuf::new(PAGE as usize)?;
    p.container.map_buf(&buf, IOVA)?;
    same("DMA", reaches(&device, IOVA, &buf)?, true)?;
    drop(device);
    p.container.unmap(IOVA, PAGE)?;
    p.leader.split(&p.other)?;
    // From here on the leader is coherent, as far as can be told.
    check_refused("parted", &p)
}

fn incoherent_leader_of_a_machine() -> Outcome {
    let (p, _module) = pair_with_coherent(1)?;
    let (_vm, kvm) = machine()?;
    kvm.file(FileAction::Add, p.leader.as_raw_fd())?;
    check_allowed("nothing becomes worse", &p)
}

suite!(
    iommus: Vtd, debug: Answers;
    machine_of_the_leader,
    coherent_leader_of_a_machine,
    joined_before_the_machine_came,
    incoherent_leader_of_a_machine,
);
