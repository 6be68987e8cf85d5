// SPDX-License-Identifier: GPL-2.0
//! Machines that leave and groups that come while a guest's table is shadowed, in each order, and
//! with somebody waiting for the guest's memory.

use std::any::Any;
use std::thread::scope;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Uid, seteuid};
use vfio_client::counters::locked_kib;
use vfio_client::nested::*;
use vfio_client::{DmaBuf, Setting};
use vfio_rs_selftests::absent::{Absent, Call};
use vfio_rs_selftests::machine::{kvm_uses, wait_kvm_uses};
use vfio_rs_selftests::merge::{edu_groups, reaches};
use vfio_rs_selftests::nested::{FREE, Guest, MEMORY, Nested, ROOT, RW, required};
use vfio_rs_selftests::order::permutations;
use vfio_rs_selftests::process::{Latch, spawn};
use vfio_rs_selftests::setup::{EDU, PAGE, PATIENCE, number, slowness};
use vfio_rs_selftests::{Outcome, Result, ensure, errno, same, suite};

const AT: u64 = 0x20_0000;

/// The machine leaves: all that was bound goes, at once, and calls say so until one comes again.
fn a_machine_leaves() -> Outcome {
    let mut nested = Nested::new()?;
    nested.guest.map(AT, FREE | RW);
    let id = nested.bind()?;
    same("locked", locked_kib()?, 4)?;
    nested.guest.leave(&nested.group)?;
    same("locked then", locked_kib()?, 0)?;
    nested.is_kept_from(AT, FREE)?;
    let container = &nested.container;
    errno("range", container.invalidate(id, AT, PAGE), Errno::ENODEV)?;
    errno("all", container.invalidate_all(id), Errno::ENODEV)?;
    let many = container.invalidate_many(id, &mut [range(AT, PAGE)]);
    errno("many", many, Errno::ENODEV)?;
    errno("unbind", container.unbind_table(id), Errno::ENODEV)?;
    let table = nested.guest.table();
    errno("bind", container.bind_table(&table), Errno::ENODEV)?;
    nested.guest.take(&nested.group)?;
    let again = nested.bind()?;
    ensure!(again != id, "a number of a binding that went is used again");
    errno(
        "the old one",
        nested.container.unbind_table(id),
        Errno::ENOENT,
    )?;
    nested.reaches(AT, FREE, true)
}

/// Another machine takes the group: the binding goes as if the first had left.
fn another_machine() -> Outcome {
    let mut nested = Nested::new()?;
    nested.guest.map(AT, FREE | RW);
    let id = nested.bind()?;
    let mut other = Guest::new()?;
    other.fit(&nested.container)?;
    other.take(&nested.group)?;
    same("locked", locked_kib()?, 0)?;
    errno("first", nested.container.invalidate_all(id), Errno::ENODEV)?;
    other.map(AT, (FREE + PAGE) | RW);
    nested.container.bind_table(&other.table())?;
    same("locked by the other", locked_kib()?, 4)?;
    // The first lets go of what it has no more.
    nested.guest.leave(&nested.group)?;
    same("locked when the first leaves", locked_kib()?, 0)
}

/// Somebody waits for memory of the guest: neither a machine that leaves nor a group that comes
/// waits with them, and they find out.
fn nobody_waits_with_who_waits() -> Outcome {
    let mut nested = Nested::new()?;
    let [_, second] = two_groups()?;
    let late = second.open()?;
    let absent = Absent::new(1)?;
    nested
        .guest
        .vm
        .set_slot(1, 0, MEMORY, absent.page(), PAGE)?;
    let id = nested.bind()?;
    nested.guest.map(AT + PAGE, MEMORY | RW);
    nested.guest.map(AT, FREE | RW);
    let (container, group) = (&nested.container, &nested.group);
    scope(|threads| {
        let call = Call::begin(threads, || Ok(container.invalidate(id, AT, 2 * PAGE)))?;
        absent.wait_wanted()?;
        call.wait_stuck()?;
        late.set_container(container)?;
        nested.guest.leave(group)?;
        absent.let_come()?;
        errno("who waited", call.end()?, Errno::ENODEV)
    })?;
    same("locked", locked_kib()?, 0)?;
    nested.translates(&[])?;
    errno("later", container.invalidate_all(id), Errno::ENODEV)
}

/// The same for a table that does not come.
fn a_table_that_does_not_come() -> Outcome {
    let nested = Nested::new()?;
    let absent = Absent::new(1)?;
    nested
        .guest
        .vm
        .set_slot(1, 0, MEMORY, absent.page(), PAGE)?;
    let table = Table {
        root: MEMORY,
        ..nested.guest.table()
    };
    let (container, group) = (&nested.container, &nested.group);
    scope(|threads| {
        let call = Call::begin(threads, || Ok(container.bind_table(&table)))?;
        absent.wait_wanted()?;
        let left = nested.guest.leave(group);
        absent.let_come()?;
        left?;
        match call.end()? {
            // An empty table may be walked before the next look.
            Ok(_) => Ok(()),
            result => errno("who waited", result, Errno::ENODEV),
        }
    })?;
    errno("later", container.bind_table(&table), Errno::ENODEV)
}

/// Between two ranges of one call, a group that comes waits, without a lock, until what was found
/// is mapped.
fn a_group_waits_for_what_is_under_way() -> Outcome {
    let mut nested = Nested::new()?;
    let [_, second] = two_groups()?;
    let late = second.open()?;
    let absent = Absent::new(1)?;
    nested
        .guest
        .vm
        .set_slot(1, 0, MEMORY, absent.page(), PAGE)?;
    let id = nested.bind()?;
    nested.guest.map(AT, FREE | RW);
    nested.guest.map(AT + PAGE, MEMORY | RW);
    let container = &nested.container;
    scope(|threads| {
        let call = Call::begin(threads, || {
            let mut ranges = [range(AT, PAGE), range(AT + PAGE, PAGE)];
            container.invalidate_many(id, &mut ranges)?;
            Ok(ranges.map(|range| range.mapped))
        })?;
        absent.wait_wanted()?;
        let join = Call::begin(threads, || Ok(late.set_container(container)))?;
        join.wait_stuck()?;
        // It holds nothing that others need.
        late.status()?;
        absent.let_come()?;
        same("mapped", call.end()?, [PAGE, PAGE])?;
        let joined: Outcome = join.end()?.map_err(Into::into);
        joined
    })?;
    let device = late.device(second.name())?;
    nested.guest.memory.put(FREE as usize, &[7; 64]);
    let edu = vfio_client::Edu::new(&device)?;
    edu.fetch(AT, 64)?;
    edu.store(AT + PAGE, 64)?;
    ensure!(absent.buf.is_filled(0, 64, 7), "the late group reaches it");
    Ok(())
}

/// Whoever waits is killed.
fn killed_while_waiting() -> Outcome {
    required()?;
    let bound = EDU.bind()?;
    for many in [false, true] {
        let ready = Latch::new()?;
        let mut child = spawn(|| {
            let run = || -> Outcome {
                let mut nested = Nested::new()?;
                let absent = Absent::new(1)?;
                nested
                    .guest
                    .vm
                    .set_slot(1, 0, MEMORY, absent.page(), PAGE)?;
                let id = nested.bind()?;
                nested.guest.map(AT, FREE | RW);
                nested.guest.map(AT + PAGE, MEMORY | RW);
                let container = &nested.container;
                scope(|threads| {
                    let _call = Call::begin(threads, || {
                        if many {
                            let mut ranges = [range(AT, PAGE), range(AT + PAGE, PAGE)];
                            return Ok(container.invalidate_many(id, &mut ranges));
                        }
                        Ok(container.invalidate_all(id).map(drop))
                    })?;
                    absent.wait_wanted()?;
                    ready.open()?;
                    std::thread::sleep(Duration::from_secs(600));
                    Ok(())
                })
            };
            i32::from(run().is_err())
        })?;
        ready.wait(PATIENCE * slowness())?;
        child.kill()?;
        bound.open_group()?;
    }
    Ok(())
}

/// Two groups of edu devices.
fn two_groups() -> Result<[vfio_rs_selftests::merge::EduGroup; 2]> {
    required()?;
    edu_groups()
}

fn groups_and_their_machines() -> Outcome {
    let [first, second] = two_groups()?;
    let mut guest = Guest::new()?;
    let other = Guest::new()?;
    let (container, group) = first.devices[0].attach(VFIO_KVM_IOMMU)?;
    guest.fit(&container)?;
    let late = second.open()?;
    // Without a machine there is nothing to bind.
    errno("none", container.bind_table(&guest.table()), Errno::ENODEV)?;
    // With two there is no telling.
    guest.take(&group)?;
    other.take(&late)?;
    late.set_container(&container)?;
    errno("two", container.bind_table(&guest.table()), Errno::EXDEV)?;
    late.unset_container()?;
    guest.map(AT, FREE | RW);
    let (id, _) = container.bind_table(&guest.table())?;
    // A group of another machine does not come, by itself or by joining.
    errno("another's", late.set_container(&container), Errno::EXDEV)?;
    errno("another's, joining", group.merge(&late), Errno::EXDEV)?;
    other.leave(&late)?;
    // One of none does, and sees what there is.
    late.set_container(&container)?;
    let page = DmaBuf::new(PAGE as usize)?;
    guest.vm.set_slot(1, 0, MEMORY, page.addr(), PAGE)?;
    guest.map(AT + PAGE, MEMORY | RW);
    let device = late.device(second.name())?;
    ensure!(
        !reaches(&device, AT + PAGE, &page)?,
        "mapped before it is told"
    );
    container.invalidate(id, AT, 2 * PAGE)?;
    ensure!(reaches(&device, AT + PAGE, &page)?, "both see what comes");
    // As long as one has the machine, the binding stays.
    guest.take(&late)?;
    guest.leave(&group)?;
    container.invalidate(id, AT, 2 * PAGE)?;
    ensure!(reaches(&device, AT + PAGE, &page)?, "one has the machine");
    guest.leave(&late)?;
    ensure!(!reaches(&device, AT + PAGE, &page)?, "none has the machine");
    errno("gone", container.invalidate_all(id), Errno::ENODEV)
}

/// A member has its leader's machine; leaving the container or the leader leaves bindings.
fn members() -> Outcome {
    let [first, second] = two_groups()?;
    let mut guest = Guest::new()?;
    let (container, leader) = first.devices[0].attach(VFIO_KVM_IOMMU)?;
    guest.fit(&container)?;
    let member = second.open()?;
    guest.take(&leader)?;
    let page = DmaBuf::new(PAGE as usize)?;
    guest.vm.set_slot(1, 0, MEMORY, page.addr(), PAGE)?;
    guest.map(AT, MEMORY | RW);
    let (id, _) = container.bind_table(&guest.table())?;
    leader.merge(&member)?;
    let device = leader.device(second.name())?;
    ensure!(reaches(&device, AT, &page)?, "a member sees what there is");
    drop(device);
    leader.split(&member)?;
    container.invalidate(id, AT, PAGE)?;
    // The leader leaves with its machine; what is bound stays for who is left.
    member.set_container(&container)?;
    leader.unset_container()?;
    let device = member.device(second.name())?;
    ensure!(reaches(&device, AT, &page)?, "the binding stays");
    container.invalidate(id, AT, PAGE)?;
    container.unbind_table(id)?;
    ensure!(!reaches(&device, AT, &page)?, "unbound");
    errno(
        "no machine",
        container.bind_table(&guest.table()),
        Errno::ENODEV,
    )
}

type Things = Vec<Option<Box<dyn Any>>>;

fn tangle() -> Result<Things> {
    let mut nested = Nested::new()?;
    for page in 0..8 {
        nested
            .guest
            .map(AT + page * PAGE, (FREE + page * 2 * PAGE) | RW);
    }
    nested.bind()?;
    let Nested {
        container,
        group,
        device,
        bound: _,
        guest,
    } = nested;
    let Guest {
        vm, kvm, memory, ..
    } = guest;
    Ok(vec![
        Some(Box::new(vm)),
        Some(Box::new(kvm)),
        Some(Box::new(container)),
        Some(Box::new(group)),
        Some(Box::new(device)),
        Some(Box::new(memory)),
    ])
}

fn closed_in_each_order() -> Outcome {
    drop(Guest::new()?);
    let bound = EDU.bind()?;
    let idle = kvm_uses()?;
    for (round, order) in (0..).zip(permutations(6)) {
        // A sample, a smaller one on a slow kernel.
        if round % if slowness() > 1 { 97 } else { 11 } != 0 {
            continue;
        }
        let mut things = tangle()?;
        for thing in order {
            things[thing] = None;
        }
        same("locked", locked_kib()?, 0)?;
    }
    wait_kvm_uses("uses of KVM", idle)?;
    bound.open_group()?;
    Ok(())
}

/// Killed at any moment of binding, invalidating and unbinding.
fn killed() -> Outcome {
    drop(Guest::new()?);
    let bound = EDU.bind()?;
    let idle = kvm_uses()?;
    let rounds = number("VFIO_RS_KILL_ROUNDS", if slowness() > 1 { 5 } else { 50 })?;
    for round in 0..rounds {
        let ready = Latch::new()?;
        let mut child = spawn(|| {
            let run = || -> Outcome {
                let mut nested = Nested::new()?;
                ready.open()?;
                for turn in 0.. {
                    for page in 0..64 {
                        let gpa = FREE + (page * 7 + turn) % 512 * PAGE;
                        nested.guest.map(AT + page * PAGE, gpa | RW);
                    }
                    let id = nested.bind()?;
                    nested.guest.map(AT, FREE | RW);
                    nested.container.invalidate(id, AT, PAGE)?;
                    nested.container.invalidate_all(id)?;
                    nested.container.unbind_table(id)?;
                }
                Ok(())
            };
            i32::from(run().is_err())
        })?;
        ready.wait(PATIENCE * slowness())?;
        std::thread::sleep(Duration::from_micros(round * 977 % 20_000));
        child.kill()?;
        bound.open_group()?;
    }
    wait_kvm_uses("uses of KVM", idle)
}

/// The guest's memory must be the caller's own.
fn another_process() -> Outcome {
    let mut nested = Nested::new()?;
    nested.guest.map(AT, FREE | RW);
    let id = nested.bind()?;
    let mut child = spawn(|| {
        let check = || -> Outcome {
            let container = &nested.container;
            let table = Table {
                window: (0, 0xfff),
                ..nested.guest.table()
            };
            errno("bind", container.bind_table(&table), Errno::EIO)?;
            errno("range", container.invalidate(id, AT, PAGE), Errno::EIO)?;
            let many = container.invalidate_many(id, &mut [range(AT, PAGE)]);
            errno("many", many, Errno::EIO)
        };
        match check() {
            Ok(()) => 0,
            Err(e) => {
                println!("# {e:#}");
                1
            }
        }
    })?;
    child.ended_well("the other process")?;
    nested.reaches(AT, FREE, true)
}

/// Locked memory is limited, and what is too much leaves no trace.
fn locked_memory() -> Outcome {
    let mut nested = Nested::new()?;
    for page in 0..8 {
        nested
            .guest
            .map(AT + page * PAGE, (FREE + page * PAGE) | RW);
    }
    setrlimit(Resource::RLIMIT_MEMLOCK, 4 * PAGE, 4 * PAGE)?;
    let table = nested.guest.table();
    let bind = limited(|| nested.container.bind_table(&table))?;
    errno("too much", bind, Errno::ENOMEM)?;
    same("locked", locked_kib()?, 0)?;
    nested.translates(&[])?;
    for page in 4..8 {
        nested.guest.map(AT + page * PAGE, 0);
    }
    let (id, _) = limited(|| nested.container.bind_table(&table))??;
    same("locked by four", locked_kib()?, 16)?;
    // As many others: they need no more.
    let mut expected = Vec::new();
    for page in 0..4 {
        let gpa = FREE + (page + 16) * PAGE;
        nested.guest.map(AT + page * PAGE, gpa | RW);
        expected.push((AT + page * PAGE, gpa, PAGE, true));
    }
    limited(|| nested.container.invalidate_all(id))??;
    nested.translates(&expected)?;
    // One too many: nothing changes.
    nested.guest.map(AT + 4 * PAGE, FREE | RW);
    nested.guest.map(AT, FREE | RW);
    let all = limited(|| nested.container.invalidate_all(id))?;
    errno("one too many", all, Errno::ENOMEM)?;
    same("locked then", locked_kib()?, 16)?;
    nested.translates(&expected)
}

/// Runs `call` without the right to lock more memory than the limit.
fn limited<T>(call: impl FnOnce() -> T) -> Result<T> {
    seteuid(Uid::from_raw(65534))?;
    let result = call();
    seteuid(Uid::from_raw(0))?;
    Ok(result)
}

/// A table in itself, all of whose entries are good, ends at the limit.
fn too_many_entries() -> Outcome {
    let nested = Nested::new()?;
    for entry in 0..512 {
        nested.guest.write(ROOT + entry * 8, ROOT | RW);
    }
    let _limit = Setting::parameter("vfio_rs", "kvm_entry_limit", "20000")?;
    let bind = nested.container.bind_table(&nested.guest.table());
    errno("endless", bind, Errno::ENOMEM)?;
    same("locked", locked_kib()?, 0)?;
    // One that has itself once is one page: as its last entry, or as the first one where devices
    // cannot address what the last one is for.
    let own = nested.guest.last >> 39;
    for entry in (0..512).filter(|entry| *entry != own) {
        nested.guest.write(ROOT + entry * 8, 0);
    }
    let page = (0..4).fold(0, |iova, level| iova | own << (12 + 9 * level));
    let (_, found) = nested.container.bind_table(&nested.guest.table())?;
    same("mapped", found.mapped, PAGE)?;
    nested.translates(&[(page, ROOT, PAGE, true)])
}

suite!(
    iommus: All, debug: Lifetimes;
    a_machine_leaves,
    another_machine,
    nobody_waits_with_who_waits,
    a_table_that_does_not_come,
    a_group_waits_for_what_is_under_way,
    killed_while_waiting,
    groups_and_their_machines,
    members,
    closed_in_each_order,
    killed,
    another_process,
    locked_memory,
    too_many_entries,
);
