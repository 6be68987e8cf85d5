// SPDX-License-Identifier: GPL-2.0
//! VFIO_DEVICE_SET_IRQS: each branch of its checks, and the events for requests and errors.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags};
use vfio_client::irq::IrqData;
use vfio_client::sys;
use vfio_client::uapi::*;
use vfio_client::{DmaBuf, Event};
use vfio_rs_selftests::irq::set;
use vfio_rs_selftests::setup::{PAGE, open_edu};
use vfio_rs_selftests::{Outcome, errno, same, suite};

const NONE: u32 = VFIO_IRQ_SET_DATA_NONE;
const BOOL: u32 = VFIO_IRQ_SET_DATA_BOOL;
const EVENTFD: u32 = VFIO_IRQ_SET_DATA_EVENTFD;
const MASK: u32 = VFIO_IRQ_SET_ACTION_MASK;
const UNMASK: u32 = VFIO_IRQ_SET_ACTION_UNMASK;
const TRIGGER: u32 = VFIO_IRQ_SET_ACTION_TRIGGER;
const MSI: u32 = VFIO_PCI_MSI_IRQ_INDEX;
const INTX: u32 = VFIO_PCI_INTX_IRQ_INDEX;

fn header() -> Outcome {
    let edu = open_edu()?;
    let device = &edu.device;
    for argsz in [1, 8, 19] {
        let head = vfio_irq_set {
            argsz,
            flags: NONE | TRIGGER,
            index: MSI,
            ..Default::default()
        };
        errno(
            &format!("argsz {argsz}"),
            device.set_irqs_raw(head, &[]),
            Errno::EINVAL,
        )?;
    }
    for bit in 6..32 {
        errno(
            &format!("flag {bit}"),
            set(device, NONE | TRIGGER | 1 << bit, MSI, 0, 1),
            Errno::EINVAL,
        )?;
    }
    // Exactly one kind of data.
    for data in [
        0,
        NONE | BOOL,
        NONE | EVENTFD,
        BOOL | EVENTFD,
        NONE | BOOL | EVENTFD,
    ] {
        errno(
            &format!("data {data:#x}"),
            set(device, data | TRIGGER, MSI, 0, 1),
            Errno::EINVAL,
        )?;
    }
    // edu has one MSI and no MSI-X.
    for (start, count) in [
        (0, 2),
        (1, 0),
        (1, 1),
        (0, u32::MAX),
        (u32::MAX, 1),
        (2, u32::MAX - 1),
        (u32::MAX, u32::MAX),
    ] {
        let what = format!("start {start:#x}, count {count:#x}");
        errno(
            &what,
            set(device, NONE | TRIGGER, MSI, start, count),
            Errno::EINVAL,
        )?;
        errno(
            &what,
            set(device, EVENTFD | TRIGGER, MSI, start, count),
            Errno::EINVAL,
        )?;
    }
    errno(
        "MSI-X of edu",
        set(device, NONE | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 0),
        Errno::EINVAL,
    )
}

fn data() -> Outcome {
    let edu = open_edu()?;
    let device = &edu.device;
    let short = |flags, argsz| {
        let head = vfio_irq_set {
            argsz,
            flags: flags | TRIGGER,
            index: MSI,
            count: 1,
            ..Default::default()
        };
        device.set_irqs_raw(head, &[0; 8])
    };
    errno("BOOL without data", short(BOOL, 20), Errno::EINVAL)?;
    errno("EVENTFD without data", short(EVENTFD, 20), Errno::EINVAL)?;
    errno(
        "EVENTFD with half its data",
        short(EVENTFD, 23),
        Errno::EINVAL,
    )?;
    // The header is in one page, the data in the next, which is gone.
    let two = DmaBuf::with_flags(
        2 * PAGE as usize,
        ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        MapFlags::MAP_PRIVATE,
    )?;
    let words = [24, EVENTFD | TRIGGER, MSI, 0, 1];
    let head: Vec<u8> = words.iter().flat_map(|w: &u32| w.to_ne_bytes()).collect();
    two.put(PAGE as usize - head.len(), &head);
    // SAFETY: the second page is not touched any more.
    unsafe {
        libc::mprotect(
            (two.addr() + PAGE) as *mut _,
            PAGE as usize,
            libc::PROT_NONE,
        )
    };
    let at = two.addr() as usize + PAGE as usize - head.len();
    errno(
        "unreadable data",
        sys::raw(device.as_raw_fd(), DEVICE_SET_IRQS, at),
        Errno::EFAULT,
    )
}

fn action() -> Outcome {
    let edu = open_edu()?;
    let device = &edu.device;
    for action in [
        0,
        MASK | UNMASK,
        MASK | TRIGGER,
        UNMASK | TRIGGER,
        MASK | UNMASK | TRIGGER,
    ] {
        for index in [INTX, MSI, VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX] {
            let what = format!("action {action:#x} on {index}");
            errno(
                &what,
                set(device, NONE | action, index, 0, 1),
                Errno::ENOTTY,
            )?;
        }
    }
    for index in [MSI, VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX] {
        for action in [MASK, UNMASK] {
            errno(
                &format!("mask {index}"),
                set(device, NONE | action, index, 0, 1),
                Errno::ENOTTY,
            )?;
        }
    }
    // Before INTx is on, there is nothing to mask.
    for flags in [
        NONE | MASK,
        NONE | UNMASK,
        BOOL | MASK,
        EVENTFD | MASK,
        EVENTFD | UNMASK,
        NONE | TRIGGER,
    ] {
        errno(
            &format!("INTx, {flags:#x}"),
            set(device, flags, INTX, 0, 1),
            Errno::EINVAL,
        )?;
    }
    Ok(())
}

fn when_off() -> Outcome {
    let edu = open_edu()?;
    let device = &edu.device;
    for index in [INTX, MSI] {
        errno(
            &format!("trigger {index}"),
            device.trigger_irqs(index, 0, 1),
            Errno::EINVAL,
        )?;
        errno(
            &format!("disable {index}"),
            device.disable_irqs(index),
            Errno::EINVAL,
        )?;
        let bools = device.set_irqs(index, TRIGGER, 0, 1, IrqData::Bool(&[1]));
        errno(&format!("trigger {index} by bool"), bools, Errno::EINVAL)?;
    }
    Ok(())
}

fn descriptors() -> Outcome {
    let edu = open_edu()?;
    let device = &edu.device;
    let null = std::fs::File::open("/dev/null")?;
    for index in [MSI, VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX] {
        errno(
            &format!("closed, {index}"),
            device.enable_irqs(index, &[999]),
            Errno::EBADF,
        )?;
        let result = device.enable_irqs(index, &[null.as_raw_fd()]);
        errno(&format!("/dev/null, {index}"), result, Errno::EINVAL)?;
    }
    // A failed enabling leaves it off.
    errno("disable", device.disable_irqs(MSI), Errno::EINVAL)
}

fn request_and_error_events() -> Outcome {
    let edu = open_edu()?;
    let device = &edu.device;
    for index in [VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX] {
        let event = Event::new()?;
        errno(
            "trigger when off",
            device.trigger_irqs(index, 0, 1),
            Errno::EINVAL,
        )?;
        errno(
            "disable when off",
            device.disable_irqs(index),
            Errno::EINVAL,
        )?;
        errno(
            "two of them",
            device.trigger_irqs(index, 0, 2),
            Errno::EINVAL,
        )?;
        errno(
            "descriptor -2",
            device.enable_irqs(index, &[-2]),
            Errno::EINVAL,
        )?;
        errno(
            "no descriptors",
            device.enable_irqs(index, &[]),
            Errno::EINVAL,
        )?;
        device.set_irqs(index, TRIGGER, 0, 1, IrqData::Bool(&[1]))?;
        device.enable_irqs(index, &[event.as_raw_fd()])?;
        device.trigger_irqs(index, 0, 1)?;
        device.set_irqs(index, TRIGGER, 0, 1, IrqData::Bool(&[0]))?;
        device.set_irqs(index, TRIGGER, 0, 1, IrqData::Bool(&[1]))?;
        same("signals", event.take()?, Some(2))?;
        errno(
            "bool of none",
            device.set_irqs(index, TRIGGER, 0, 0, IrqData::Bool(&[])),
            Errno::EINVAL,
        )?;
        device.enable_irqs(index, &[-1])?;
        errno(
            "disable after -1",
            device.disable_irqs(index),
            Errno::EINVAL,
        )?;
        device.enable_irqs(index, &[event.as_raw_fd()])?;
        device.disable_irqs(index)?;
        same("signals when off", event.take()?, None)?;
    }
    Ok(())
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    header,
    data,
    action,
    when_off,
    descriptors,
    request_and_error_events,
);
