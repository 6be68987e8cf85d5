// SPDX-License-Identifier: GPL-2.0
//! Interrupts that work: MSI on edu, INTx on e1000e, and that only one kind is on at a time.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use vfio_client::config;
use vfio_client::irq::IrqData;
use vfio_client::uapi::*;
use vfio_client::{Edu, Event};
use vfio_rs_selftests::irq::{by_hand, events, registers, taken};
use vfio_rs_selftests::setup::{E1000E, GLANCE, PATIENCE, open_edu, read_trimmed, slowness};
use vfio_rs_selftests::{Outcome, errno, same, skip, suite};

const INTX: u32 = VFIO_PCI_INTX_IRQ_INDEX;
const MSI: u32 = VFIO_PCI_MSI_IRQ_INDEX;
const MSIX: u32 = VFIO_PCI_MSIX_IRQ_INDEX;

fn msi_by_hand() -> Outcome {
    by_hand(&open_edu()?.device, MSI, 1)
}

fn msi_descriptor_is_replaced() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let two = events(2)?;
    for event in [&two[0], &two[1], &two[0]] {
        opened.device.enable_irqs(MSI, &[event.as_raw_fd()])?;
        edu.raise_irq(1)?;
        same("interrupts", event.wait(PATIENCE * slowness())?, Some(1))?;
        edu.ack_irq(1)?;
    }
    same("on both", taken(&two)?, vec![0, 0])
}

fn msi_with_a_hole() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let event = Event::new()?;
    // On, but nobody listens.
    opened.device.enable_irqs(MSI, &[-1])?;
    opened.device.trigger_irqs(MSI, 0, 1)?;
    edu.raise_irq(1)?;
    edu.ack_irq(1)?;
    opened.device.enable_irqs(MSI, &[event.as_raw_fd()])?;
    // The interrupt that nobody heard may be delivered now.
    event.wait(GLANCE)?;
    opened.device.trigger_irqs(MSI, 0, 1)?;
    same("signals", event.take()?, Some(1))?;
    opened.device.enable_irqs(MSI, &[-1])?;
    opened.device.trigger_irqs(MSI, 0, 1)?;
    same("signals with a hole", event.take()?, None)?;
    Ok(opened.device.disable_irqs(MSI)?)
}

fn event_is_closed_first() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let event = Event::new()?;
    opened.device.enable_irqs(MSI, &[event.as_raw_fd()])?;
    drop(event);
    edu.raise_irq(1)?;
    edu.ack_irq(1)?;
    opened.device.trigger_irqs(MSI, 0, 1)?;
    Ok(opened.device.disable_irqs(MSI)?)
}

fn one_kind_at_a_time() -> Outcome {
    let opened = E1000E.open()?;
    let event = Event::new()?;
    for on in [MSI, MSIX, INTX] {
        if opened.device.irq_info(on)?.count == 0 {
            continue;
        }
        opened.device.enable_irqs(on, &[event.as_raw_fd()])?;
        for other in [MSI, MSIX, INTX].into_iter().filter(|other| *other != on) {
            let what = format!("{other} while {on} is on");
            errno(
                &what,
                opened.device.enable_irqs(other, &[event.as_raw_fd()]),
                Errno::EINVAL,
            )?;
            errno(&what, opened.device.disable_irqs(other), Errno::EINVAL)?;
            errno(
                &what,
                opened.device.trigger_irqs(other, 0, 1),
                Errno::EINVAL,
            )?;
        }
        opened.device.disable_irqs(on)?;
    }
    Ok(())
}

/// e1000e raises its interrupt pin by itself. The pin is masked until the user unmasks it.
fn intx_by_e1000e() -> Outcome {
    const ICR: u64 = 0xc0;
    const ICS: u64 = 0xc8;
    const IMS: u64 = 0xd0;
    const IMC: u64 = 0xd8;
    let opened = E1000E.open()?;
    let device = &opened.device;
    if device.irq_info(INTX)?.count == 0 {
        skip!("no INTx");
    }
    let event = Event::new()?;
    device.enable_irqs(INTX, &[event.as_raw_fd()])?;
    let write = registers(&opened)?;
    write(IMC, !0)?;
    write(ICR, !0)?;
    write(IMS, 4)?;
    for _ in 0..2 {
        write(ICS, 4)?;
        same("interrupts", event.wait(PATIENCE * slowness())?, Some(1))?;
        same("while masked", event.wait(GLANCE)?, None)?;
        // Take the cause away, then unmask.
        device.read32(&device.region(0)?, ICR)?;
        write(ICR, !0)?;
        device.set_irqs(INTX, VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, IrqData::None)?;
        same("without a cause", event.wait(GLANCE)?, None)?;
    }
    device.disable_irqs(INTX)?;
    errno("disable again", device.disable_irqs(INTX), Errno::EINVAL)
}

fn shown_in_proc_interrupts() -> Outcome {
    let opened = open_edu()?;
    let event = Event::new()?;
    let name = format!("vfio-msi[0]({})", opened.bound.pci.address);
    let shown = || Ok::<_, anyhow::Error>(read_trimmed("/proc/interrupts")?.contains(&name));
    same("when off", shown()?, false)?;
    opened.device.enable_irqs(MSI, &[event.as_raw_fd()])?;
    same("when on", shown()?, true)?;
    opened.device.disable_irqs(MSI)?;
    same("when off again", shown()?, false)
}

fn msi_enable_bit() -> Outcome {
    let opened = open_edu()?;
    let event = Event::new()?;
    let config = opened.device.config()?;
    let Some(at) = config.find_cap(config::CAP_MSI)? else {
        skip!("edu without MSI")
    };
    opened.device.enable_irqs(MSI, &[event.as_raw_fd()])?;
    // What the user sees is virtual: the real bit is the kernel's.
    same("enable bit", config.read16(at + 2)? & 1, 0)?;
    opened.device.disable_irqs(MSI)?;
    same("enable bit when off", config.read16(at + 2)? & 1, 0)
}

suite!(
    iommus: All, debug: Answers;
    msi_by_hand,
    msi_descriptor_is_replaced,
    msi_with_a_hole,
    event_is_closed_first,
    one_kind_at_a_time,
    intx_by_e1000e,
    shown_in_proc_interrupts,
    msi_enable_bit,
);
