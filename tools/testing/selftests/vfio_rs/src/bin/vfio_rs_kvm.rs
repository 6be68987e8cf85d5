// SPDX-License-Identifier: GPL-2.0
//! Files of VFIO that KVM is told of: which it takes, who keeps the machine alive, and every order
//! of closing.

use std::any::Any;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use vfio_client::kvm::FileAction;
use vfio_client::uapi::*;
use vfio_client::{Container, Edu, Event, Group};
use vfio_rs_selftests::machine::{kvm_uses, machine, wait_kvm_uses};
use vfio_rs_selftests::order::permutations;
use vfio_rs_selftests::process::{Latch, spawn};
use vfio_rs_selftests::setup::{Bound, EDU, IGB, PATIENCE, open_edu, slowness};
use vfio_rs_selftests::{Outcome, Result, errno, same, suite};

fn files() -> Outcome {
    let (_vm, kvm) = machine()?;
    let opened = open_edu()?;
    let add = |fd| kvm.file(FileAction::Add, fd);
    let del = |fd| kvm.file(FileAction::Del, fd);
    let group = opened.group.as_raw_fd();
    errno("remove before add", del(group), Errno::ENOENT)?;
    add(group)?;
    errno("twice", add(group), Errno::EEXIST)?;
    // The file of a device is one of VFIO's as well.
    add(opened.device.as_raw_fd())?;
    errno("twice", add(opened.device.as_raw_fd()), Errno::EEXIST)?;
    errno(
        "container",
        add(opened.container.as_raw_fd()),
        Errno::EINVAL,
    )?;
    let null = std::fs::File::open("/dev/null")?;
    errno("/dev/null", add(null.as_raw_fd()), Errno::EINVAL)?;
    errno("eventfd", add(Event::new()?.as_raw_fd()), Errno::EINVAL)?;
    errno("closed", add(999), Errno::EBADF)?;
    errno("remove closed", del(999), Errno::EBADF)?;
    errno("remove another", del(null.as_raw_fd()), Errno::ENOENT)?;
    del(group)?;
    errno("remove again", del(group), Errno::ENOENT)?;
    add(group)?;
    del(opened.device.as_raw_fd()).map_err(Into::into)
}

/// A device keeps the machine that its group belonged to when it was opened, until it is closed.
fn device_keeps_the_machine() -> Outcome {
    drop(machine()?);
    let bound = EDU.bind()?;
    let (_container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let idle = kvm_uses()?;
    for added in [false, true] {
        let (vm, kvm) = machine()?;
        let without = kvm_uses()?;
        if added {
            kvm.file(FileAction::Add, group.as_raw_fd())?;
        }
        let one = group.device(&bound.pci.address)?;
        let two = group.device(&bound.pci.address)?;
        same("uses when open", kvm_uses()?, without + i64::from(added))?;
        drop((vm, kvm));
        wait_kvm_uses("uses without descriptors", idle + i64::from(added))?;
        // It works, and a machine that is made now is not mixed up with it.
        let (_vm, kvm) = machine()?;
        kvm.file(FileAction::Add, group.as_raw_fd())?;
        drop(one);
        same("identification", Edu::new(&two)?.ident()? & 0xff, 0xed)?;
        kvm.file(FileAction::Del, group.as_raw_fd())?;
        drop((_vm, kvm));
        wait_kvm_uses("uses with one closed", idle + i64::from(added))?;
        drop(two);
        wait_kvm_uses("uses when closed", idle)?;
    }
    Ok(())
}

/// Added after the device was opened: the device knows nothing of it.
fn added_late() -> Outcome {
    let (_vm, kvm) = machine()?;
    let opened = open_edu()?;
    let uses = kvm_uses()?;
    kvm.file(FileAction::Add, opened.group.as_raw_fd())?;
    same("uses", kvm_uses()?, uses)?;
    drop(opened.device);
    same("uses when closed", kvm_uses()?, uses)
}

type Things = Vec<Option<Box<dyn Any>>>;

fn tangle(bound: &Bound, early: bool) -> Result<Things> {
    let (vm, kvm) = machine()?;
    let (container, group): (Container, Group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    if early {
        kvm.file(FileAction::Add, group.as_raw_fd())?;
    }
    let device = group.device(&bound.pci.address)?;
    if !early {
        kvm.file(FileAction::Add, group.as_raw_fd())?;
    }
    kvm.file(FileAction::Add, device.as_raw_fd())?;
    Ok(vec![
        Some(Box::new(vm)),
        Some(Box::new(kvm)),
        Some(Box::new(container)),
        Some(Box::new(group)),
        Some(Box::new(device)),
    ])
}

fn closed_in_each_order() -> Outcome {
    const THINGS: usize = 5;
    drop(machine()?);
    let bound = EDU.bind()?;
    let idle = kvm_uses()?;
    let mut orders = 0;
    for order in permutations(THINGS) {
        orders += 1;
        // On a slow kernel, a sample.
        if slowness() > 1 && orders % 17 != 0 {
            continue;
        }
        let mut things = tangle(&bound, orders % 2 == 0)?;
        for thing in order {
            things[thing] = None;
        }
    }
    same("orders", orders, 120)?;
    wait_kvm_uses("uses of KVM", idle)?;
    bound.open_group()?;
    Ok(())
}

fn killed() -> Outcome {
    drop(machine()?);
    let bound = EDU.bind()?;
    let idle = kvm_uses()?;
    for round in 0..if slowness() > 1 { 2 } else { 10 } {
        let ready = Latch::new()?;
        let mut child = spawn(|| {
            let things = tangle(&bound, round % 2 == 0);
            if things.is_ok() && ready.open().is_ok() {
                std::thread::sleep(Duration::from_secs(600));
            }
            1
        })?;
        ready.wait(PATIENCE * slowness())?;
        child.kill()?;
        bound.open_group()?;
    }
    wait_kvm_uses("uses of KVM", idle)
}

/// Two machines, one group: the later one counts, and the first may go.
fn two_machines() -> Outcome {
    let (vm1, kvm1) = machine()?;
    let (vm2, kvm2) = machine()?;
    let opened = open_edu()?;
    let group = opened.group.as_raw_fd();
    kvm1.file(FileAction::Add, group)?;
    kvm2.file(FileAction::Add, group)?;
    drop((vm1, kvm1));
    let second = opened.group.device(&opened.bound.pci.address)?;
    drop((vm2, kvm2));
    drop(opened.device);
    same("identification", Edu::new(&second)?.ident()? & 0xff, 0xed)
}

/// An interrupt of the device is one of the machine, by one eventfd, whoever lets go of it first.
fn interrupt_of_the_machine() -> Outcome {
    const MSI: u32 = VFIO_PCI_MSI_IRQ_INDEX;
    const GSI: u32 = 5;
    let (vm, _kvm) = machine()?;
    vm.create_irqchip()?;
    let opened = open_edu()?;
    let device = &opened.device;
    let event = Event::new()?;
    let fd = event.as_raw_fd();
    for device_first in [false, true, false, true] {
        let on = || device.enable_irqs(MSI, &[fd]);
        if device_first {
            on()?;
            vm.add_irqfd(fd, GSI)?;
        } else {
            vm.add_irqfd(fd, GSI)?;
            on()?;
        }
        device.trigger_irqs(MSI, 0, 1)?;
        same("left by the machine", event.take()?, None)?;
        // Another vector's eventfd, and this one again.
        let other = Event::new()?;
        device.enable_irqs(MSI, &[other.as_raw_fd()])?;
        on()?;
        if device_first {
            device.disable_irqs(MSI)?;
            vm.remove_irqfd(fd, GSI)?;
        } else {
            vm.remove_irqfd(fd, GSI)?;
            device.trigger_irqs(MSI, 0, 1)?;
            same("signals", event.take()?, Some(1))?;
            device.disable_irqs(MSI)?;
        }
    }
    // All are let go of at once, by the end of the process.
    device.enable_irqs(MSI, &[fd])?;
    vm.add_irqfd(fd, GSI)?;
    Ok(())
}

/// One eventfd can stand for one interrupt only when KVM is asked to deliver it, but works for all.
fn one_eventfd_for_all_vectors() -> Outcome {
    const MSIX: u32 = VFIO_PCI_MSIX_IRQ_INDEX;
    let opened = IGB.open()?;
    let event = Event::new()?;
    let all = [event.as_raw_fd(); 4];
    opened.device.enable_irqs(MSIX, &all)?;
    opened.device.trigger_irqs(MSIX, 0, 4)?;
    same("signals", event.take()?, Some(4))?;
    // The first lets go, another may have it, and so on.
    for _ in 0..3 {
        opened.device.enable_irqs(MSIX, &[-1])?;
        opened.device.enable_irqs(MSIX, &all)?;
    }
    opened.device.trigger_irqs(MSIX, 0, 4)?;
    same("signals again", event.take()?, Some(4))?;
    Ok(opened.device.disable_irqs(MSIX)?)
}

suite!(
    iommus: Vtd, debug: Answers;
    files,
    device_keeps_the_machine,
    added_late,
    closed_in_each_order,
    killed,
    two_machines,
    interrupt_of_the_machine,
    one_eventfd_for_all_vectors,
);
