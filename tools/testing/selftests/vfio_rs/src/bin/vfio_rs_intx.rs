// SPDX-License-Identifier: GPL-2.0
//! The interrupt pin of edu: masked by each interrupt, unmasked by a call or by an eventfd,
//! disabled in the command register.

use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use vfio_client::config::COMMAND;
use vfio_client::irq::IrqData;
use vfio_client::uapi::VFIO_PCI_MSI_IRQ_INDEX;
use vfio_client::{Edu, Event};
use vfio_rs_selftests::order::permutations;
use vfio_rs_selftests::pin::{DISABLE, INTX, MASK, Pin, TRIGGER, UNMASK, real_disable};
use vfio_rs_selftests::race::{is_expected, race};
use vfio_rs_selftests::setup::{EDU, GLANCE, PATIENCE, is_rust_stack, open_edu, slowness};
use vfio_rs_selftests::{Outcome, ensure, errno, same, suite};

fn unmasked_by_eventfd() -> Outcome {
    let pin = Pin::new(open_edu()?)?;
    let edu = pin.edu()?;
    let unmask = Event::new()?;
    pin.unmask_by(unmask.as_raw_fd())?;
    for _ in 0..3 {
        edu.raise_irq(1)?;
        pin.heard("interrupts")?;
        pin.silent("while masked")?;
        edu.ack_irq(1)?;
        unmask.signal()?;
        pin.silent("without a cause")?;
        same("left in the eventfd", unmask.take()?, None)?;
    }
    // The kernel does not listen any more: no unmasking, and the signal stays.
    pin.unmask_by(-1)?;
    edu.raise_irq(1)?;
    pin.heard("interrupts")?;
    unmask.signal()?;
    pin.silent("still masked")?;
    same("left in the eventfd", unmask.take()?, Some(1))?;
    Ok(pin.device().disable_irqs(INTX)?)
}

/// A device that still asks when it is unmasked is heard again, once each time.
fn still_asserted() -> Outcome {
    let pin = Pin::new(open_edu()?)?;
    let edu = pin.edu()?;
    let unmask = Event::new()?;
    pin.unmask_by(unmask.as_raw_fd())?;
    edu.raise_irq(1)?;
    pin.heard("interrupts")?;
    for _ in 0..20 {
        unmask.signal()?;
        pin.heard("by eventfd")?;
        pin.act(UNMASK)?;
        pin.heard("by call")?;
    }
    edu.ack_irq(1)?;
    unmask.signal()?;
    pin.silent("without a cause")
}

/// A signal from before is acted on, and stays where the user can read it.
fn signalled_before_it_is_set() -> Outcome {
    let pin = Pin::new(open_edu()?)?;
    let edu = pin.edu()?;
    let unmask = Event::new()?;
    edu.raise_irq(1)?;
    pin.heard("interrupts")?;
    unmask.signal()?;
    pin.unmask_by(unmask.as_raw_fd())?;
    pin.heard("still asserted")?;
    same("left in the eventfd", unmask.take()?, Some(1))?;
    edu.ack_irq(1)?;
    unmask.signal()?;
    edu.raise_irq(1)?;
    pin.heard("interrupts after")?;
    Ok(edu.ack_irq(1)?)
}

fn errors() -> Outcome {
    let pin = Pin::new(open_edu()?)?;
    let (one, two) = (Event::new()?, Event::new()?);
    let null = std::fs::File::open("/dev/null")?;
    for fd in [one.as_raw_fd(), -1, 999] {
        let mask = pin
            .device()
            .set_irqs(INTX, MASK, 0, 1, IrqData::Eventfd(&[fd]));
        errno("mask by eventfd", mask, Errno::ENOTTY)?;
    }
    for armed in [false, true] {
        errno("closed", pin.unmask_by(999), Errno::EBADF)?;
        errno("/dev/null", pin.unmask_by(null.as_raw_fd()), Errno::EINVAL)?;
        if !armed {
            pin.unmask_by(-1)?;
            pin.unmask_by(one.as_raw_fd())?;
        }
    }
    errno("a second", pin.unmask_by(two.as_raw_fd()), Errno::EBUSY)?;
    errno(
        "the same again",
        pin.unmask_by(one.as_raw_fd()),
        Errno::EBUSY,
    )?;
    pin.unmask_by(-2)?;
    pin.unmask_by(two.as_raw_fd())?;
    // One that its user closed makes room, maybe a moment later.
    drop(two);
    pin.unmask_by(one.as_raw_fd())?;
    for (start, count) in [(0, 0), (1, 0)] {
        let none = pin
            .device()
            .set_irqs(INTX, UNMASK, start, count, IrqData::Eventfd(&[]));
        errno("of none", none, Errno::EINVAL)?;
    }
    pin.device().disable_irqs(INTX)?;
    errno("when off", pin.unmask_by(one.as_raw_fd()), Errno::EINVAL)?;
    // Off took the eventfd with it.
    pin.device().enable_irqs(INTX, &[pin.trigger.as_raw_fd()])?;
    Ok(pin.unmask_by(one.as_raw_fd()).map(drop)?)
}

fn masks_and_bools() -> Outcome {
    let pin = Pin::new(open_edu()?)?;
    let edu = pin.edu()?;
    let bool = |action, value| {
        pin.device()
            .set_irqs(INTX, action, 0, 1, IrqData::Bool(&[value]))
    };
    bool(MASK, 0)?;
    edu.raise_irq(1)?;
    pin.heard("not masked by 0")?;
    edu.ack_irq(1)?;
    bool(UNMASK, 0)?;
    edu.raise_irq(1)?;
    pin.silent("not unmasked by 0")?;
    bool(UNMASK, 1)?;
    pin.heard("unmasked by 1")?;
    edu.ack_irq(1)?;
    pin.act(UNMASK)?;
    bool(MASK, 0x80)?;
    pin.act(MASK)?;
    edu.raise_irq(1)?;
    pin.silent("masked")?;
    bool(TRIGGER, 1)?;
    pin.heard("by hand")?;
    bool(TRIGGER, 0)?;
    pin.silent("by hand with 0")?;
    pin.act(UNMASK)?;
    pin.heard("unmasked once")?;
    edu.ack_irq(1)?;
    pin.act(UNMASK)?;
    pin.silent("without a cause")
}

fn trigger_is_replaced() -> Outcome {
    let pin = Pin::new(open_edu()?)?;
    let edu = pin.edu()?;
    let other = Event::new()?;
    let unmask = Event::new()?;
    pin.unmask_by(unmask.as_raw_fd())?;
    edu.raise_irq(1)?;
    pin.heard("interrupts")?;
    pin.device().enable_irqs(INTX, &[other.as_raw_fd()])?;
    unmask.signal()?;
    same("on the new", other.wait(PATIENCE * slowness())?, Some(1))?;
    pin.silent("on the old")?;
    // Nobody listens, and the pin is still masked by each interrupt.
    pin.device().enable_irqs(INTX, &[-1])?;
    unmask.signal()?;
    same("on none", other.wait(GLANCE)?, None)?;
    pin.device().enable_irqs(INTX, &[other.as_raw_fd()])?;
    unmask.signal()?;
    same(
        "on the new again",
        other.wait(PATIENCE * slowness())?,
        Some(1),
    )?;
    edu.ack_irq(1)?;
    unmask.signal()?;
    Ok(())
}

/// A pin disabled in the command register is silent, whoever unmasks it.
fn disabled_in_command() -> Outcome {
    let pin = Pin::new(open_edu()?)?;
    let edu = pin.edu()?;
    let unmask = Event::new()?;
    pin.unmask_by(unmask.as_raw_fd())?;
    pin.command(0, DISABLE)?;
    edu.raise_irq(1)?;
    unmask.signal()?;
    pin.act(UNMASK)?;
    pin.act(TRIGGER)?;
    pin.silent("disabled")?;
    same(
        "bit",
        pin.device().config()?.read16(COMMAND)? & DISABLE,
        DISABLE,
    )?;
    pin.command(DISABLE, 0)?;
    pin.heard("enabled")?;
    edu.ack_irq(1)?;
    unmask.signal()?;
    // Disabled before it is set up.
    pin.device().disable_irqs(INTX)?;
    pin.command(0, DISABLE)?;
    pin.device().enable_irqs(INTX, &[pin.trigger.as_raw_fd()])?;
    edu.raise_irq(1)?;
    pin.silent("disabled before")?;
    pin.command(DISABLE, 0)?;
    pin.heard("enabled after")?;
    Ok(edu.ack_irq(1)?)
}

/// The real bit is set while nobody listens, so that the pin cannot storm others on its line; C has
/// it follow the user's then.
fn command_bit_reaches_the_device() -> Outcome {
    let opened = open_edu()?;
    let real = || real_disable(&opened);
    let config = opened.device.config()?;
    let event = Event::new()?;
    let idle = if is_rust_stack() { DISABLE } else { 0 };
    same("at first", real()?, idle)?;
    same("the user's at first", config.read16(COMMAND)? & DISABLE, 0)?;
    config.update_command(0, DISABLE)?;
    same("disabled", real()?, DISABLE)?;
    config.update_command(DISABLE, 0)?;
    same("enabled", real()?, idle)?;
    // Masked in the device, and seen by nobody else.
    opened.device.enable_irqs(INTX, &[event.as_raw_fd()])?;
    same("in use", real()?, 0)?;
    opened.device.set_irqs(INTX, MASK, 0, 1, IrqData::None)?;
    same("masked", real()?, DISABLE)?;
    same("the user's", config.read16(COMMAND)? & DISABLE, 0)?;
    opened.device.set_irqs(INTX, UNMASK, 0, 1, IrqData::None)?;
    same("unmasked", real()?, 0)?;
    opened.device.disable_irqs(INTX)?;
    same("not in use", real()?, idle)?;
    opened
        .device
        .enable_irqs(VFIO_PCI_MSI_IRQ_INDEX, &[event.as_raw_fd()])?;
    opened.device.disable_irqs(VFIO_PCI_MSI_IRQ_INDEX)?;
    same("after MSI", real()?, idle)
}

/// A pin that unmasks itself: the device asks on and on, and the machine lives.
fn unmask_is_its_own_trigger() -> Outcome {
    let pin = Pin::new(open_edu()?)?;
    let edu = pin.edu()?;
    pin.unmask_by(pin.trigger.as_raw_fd())?;
    edu.raise_irq(1)?;
    sleep(GLANCE);
    edu.ack_irq(1)?;
    sleep(GLANCE);
    pin.unmask_by(-1)?;
    pin.trigger.take()?;
    pin.act(UNMASK)?;
    edu.raise_irq(1)?;
    pin.heard("interrupts after")?;
    edu.ack_irq(1)?;
    Ok(pin.device().disable_irqs(INTX)?)
}

/// Whatever is closed first, with the pin asserted and unmasked over and over.
fn closed_in_each_order() -> Outcome {
    const THINGS: usize = 5;
    let bound = EDU.bind()?;
    let mut orders = 0;
    for order in permutations(THINGS) {
        orders += 1;
        // On a slow kernel, a sample.
        if slowness() > 1 && orders % 17 != 0 {
            continue;
        }
        let opened = bound.clone().open()?;
        let (trigger, unmask) = (Event::new()?, Event::new()?);
        let device = &opened.device;
        device.enable_irqs(INTX, &[trigger.as_raw_fd()])?;
        device.set_irqs(INTX, UNMASK, 0, 1, IrqData::Eventfd(&[unmask.as_raw_fd()]))?;
        let edu = Edu::new(device)?;
        if orders % 2 == 0 {
            edu.raise_irq(1)?;
        }
        unmask.signal()?;
        let mut things: Vec<Option<Box<dyn std::any::Any>>> = vec![
            Some(Box::new(trigger)),
            Some(Box::new(unmask)),
            Some(Box::new(opened.device)),
            Some(Box::new(opened.group)),
            Some(Box::new(opened.container)),
        ];
        for thing in order {
            things[thing] = None;
        }
    }
    same("orders", orders, 120)
}

fn racing() -> Outcome {
    let pin = Pin::new(open_edu()?)?;
    let edu = pin.edu()?;
    let (one, two) = (Event::new()?, Event::new()?);
    let fine = |result| is_expected::<i32>(result, &[Errno::EINVAL, Errno::EBUSY]);
    let device = pin.device();
    let bodies: [&(dyn Fn() -> bool + Sync); 8] = [
        &|| fine(pin.unmask_by(one.as_raw_fd())),
        &|| fine(pin.unmask_by(-1)),
        &|| one.signal().is_ok() && two.signal().is_ok(),
        &|| {
            // Closed while armed.
            Event::new()
                .is_ok_and(|brief| fine(pin.unmask_by(brief.as_raw_fd())) && brief.signal().is_ok())
        },
        &|| fine(pin.act(MASK)) && fine(pin.act(UNMASK)) && fine(pin.act(TRIGGER)),
        &|| edu.raise_irq(1).is_ok() && edu.ack_irq(1).is_ok(),
        &|| pin.command(0, DISABLE).is_ok() && pin.command(DISABLE, 0).is_ok(),
        &|| {
            fine(device.enable_irqs(INTX, &[two.as_raw_fd()]))
                && fine(device.enable_irqs(INTX, &[-1]))
                && fine(device.set_irqs(INTX, TRIGGER, 0, 0, IrqData::None))
                && fine(device.enable_irqs(INTX, &[pin.trigger.as_raw_fd()]))
        },
    ];
    ensure!(
        race(Duration::from_millis(1500), &bodies),
        "a call failed strangely"
    );
    // It still works.
    let _ = pin.device().disable_irqs(INTX);
    edu.ack_irq(1)?;
    pin.trigger.take()?;
    pin.device().enable_irqs(INTX, &[pin.trigger.as_raw_fd()])?;
    edu.raise_irq(1)?;
    pin.heard("interrupts after")?;
    Ok(edu.ack_irq(1)?)
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    unmasked_by_eventfd,
    still_asserted,
    signalled_before_it_is_set,
    errors,
    masks_and_bools,
    trigger_is_replaced,
    disabled_in_command,
    command_bit_reaches_the_device,
    unmask_is_its_own_trigger,
    closed_in_each_order,
    racing,
);
