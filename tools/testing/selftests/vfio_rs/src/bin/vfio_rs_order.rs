// SPDX-License-Identifier: GPL-2.0
//! Descriptors closed in every order, and processes killed in every state.

use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Edu, Event, Group, counters};
use vfio_rs_selftests::order::permutations;
use vfio_rs_selftests::process::{self, Latch};
use vfio_rs_selftests::setup::{Bound, EDU, IOVA, Opened, PAGE, PATIENCE, open_edu, slowness};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, suite};

/// Closes what a full set-up holds in `order`.
fn close_in(order: &[usize], opened: Opened, rest: [Box<dyn std::any::Any>; 3]) {
    let Opened {
        container,
        group,
        device,
        ..
    } = opened;
    let mut parts: Vec<Option<Box<dyn std::any::Any>>> = vec![
        Some(Box::new(container)),
        Some(Box::new(group)),
        Some(Box::new(device)),
    ];
    parts.extend(rest.into_iter().map(Some));
    for part in order {
        parts[*part] = None;
    }
}

fn every_order_of_close() -> Outcome {
    let bound = EDU.bind()?;
    // A sample of the 720; the large one has each part first, last and beside each other part.
    let step = if slowness() > 1 { 67 } else { 7 };
    for order in permutations(6).into_iter().step_by(step) {
        let opened = bound
            .clone()
            .open()
            .with_context(|| format!("before {order:?}"))?;
        let buf = opened.map_new(IOVA, 2)?;
        let event = Event::new()?;
        opened
            .device
            .enable_irqs(VFIO_PCI_MSI_IRQ_INDEX, &[event.as_raw_fd()])?;
        let bar = opened.device.region(0)?;
        let map = opened.device.mmap(&bar, 0, PAGE as usize)?;
        close_in(
            &order,
            opened,
            [Box::new(buf), Box::new(event), Box::new(map)],
        );
        let locked = counters::locked_kib()?;
        ensure!(locked == 0, "{locked} KiB stay locked after {order:?}");
    }
    let opened = bound.open()?;
    same("still works", Edu::new(&opened.device)?.liveness(1)?, !1)
}

fn device_works_without_the_other_descriptors() -> Outcome {
    let opened = open_edu()?;
    let buf = opened.map_new(IOVA, 2)?;
    let Opened {
        container,
        group,
        device,
        bound,
    } = opened;
    drop((container, group));
    let edu = Edu::new(&device)?;
    buf.fill_pattern(9);
    edu.fetch(IOVA, 64)?;
    edu.store(IOVA + PAGE, 64)?;
    same("what arrived", buf.copy(PAGE as usize, 64), buf.copy(0, 64))?;
    errno("open of the group", Group::open(bound.group), Errno::EBUSY)?;
    same("locked memory", counters::locked_kib()?, 2 * PAGE / 1024)?;
    drop(device);
    same("locked memory when closed", counters::locked_kib()?, 0)?;
    Group::open(bound.group)?;
    Ok(())
}

fn container_is_kept_by_its_group() -> Outcome {
    let (container, group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let buf = DmaBuf::new(PAGE as usize)?;
    container.map_buf(&buf, IOVA)?;
    drop(container);
    same("locked memory", counters::locked_kib()?, PAGE / 1024)?;
    group.unset_container()?;
    same("locked memory when left", counters::locked_kib()?, 0)
}

fn close_while_copying() -> Outcome {
    let bound = EDU.bind()?;
    for _ in 0..5 {
        let opened = bound.clone().open()?;
        let buf = opened.map_new(IOVA, 1)?;
        let edu = Edu::new(&opened.device)?;
        edu.fetch(IOVA, 64)?;
        buf.fill(0x3c);
        edu.start_store_irq(IOVA, 64)?;
        drop(opened);
        let before = buf.get(0);
        std::thread::sleep(Duration::from_millis(150));
        same("byte after the close", buf.get(0), before)?;
        // The copy ends in its own time; the next user must find the device idle.
        let again = bound.clone().open()?;
        Edu::new(&again.device)?.wait_dma()?;
    }
    Ok(())
}

/// Steps that a victim takes before it is killed; each keeps what it made.
type Kept = Vec<Box<dyn std::any::Any>>;

fn reach(step: usize, bound: &Bound) -> Result<Kept> {
    if step == 0 {
        return Ok(vec![Box::new(Container::open()?)]);
    }
    if step == 1 {
        return Ok(vec![Box::new(bound.open_group()?)]);
    }
    let (container, group) = bound.join()?;
    let mut kept: Kept = Vec::new();
    if step >= 3 {
        container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    }
    if step >= 4 {
        let buf = DmaBuf::new(4 << 20)?;
        container.map_buf(&buf, IOVA)?;
        kept.push(Box::new(buf));
    }
    if step >= 5 {
        let device = group.device(&bound.pci.address)?;
        if step >= 6 {
            let event = Event::new()?;
            device.enable_irqs(VFIO_PCI_MSI_IRQ_INDEX, &[event.as_raw_fd()])?;
            device.enable_irqs(VFIO_PCI_REQ_IRQ_INDEX, &[event.as_raw_fd()])?;
            kept.push(Box::new(event));
        }
        if step >= 7 {
            let bar = device.region(0)?;
            kept.push(Box::new(device.mmap(&bar, 0, PAGE as usize)?));
            Edu::new(&device)?.start_store_irq(IOVA, 4096)?;
        }
        kept.push(Box::new(device));
    }
    kept.extend([
        Box::new(container) as Box<dyn std::any::Any>,
        Box::new(group),
    ]);
    Ok(kept)
}

fn kill_in_each_state() -> Outcome {
    let bound = EDU.bind()?;
    let pinned = counters::pinned_pages()?;
    for step in 0..8 {
        let reached = Latch::new()?;
        let mut victim = process::spawn(|| match reach(step, &bound) {
            Ok(_kept) => {
                let _ = reached.open();
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
            Err(e) => {
                println!("step {step}: {e:#}");
                1
            }
        })?;
        reached
            .wait(PATIENCE * slowness())
            .with_context(|| format!("step {step}"))?;
        victim.kill()?;
        // The dead process is reaped, so all its descriptors are closed.
        let opened = bound
            .clone()
            .open()
            .with_context(|| format!("after a kill at step {step}"))?;
        drop(opened);
        let left = counters::wait_pinned_pages(pinned, PATIENCE)?;
        ensure!(
            left == pinned,
            "{} pages stay pinned after a kill at step {step}",
            left - pinned
        );
    }
    Ok(())
}

fn kill_while_mapping() -> Outcome {
    const BIG: usize = 96 << 20;
    let bound = EDU.bind()?;
    let pinned = counters::pinned_pages()?;
    for round in 0..8 {
        let ready = Latch::new()?;
        let mut victim = process::spawn(|| {
            let work = || -> Outcome {
                let (container, _group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
                let buf = DmaBuf::new(BIG)?;
                ready.open()?;
                loop {
                    container.map_buf(&buf, IOVA)?;
                    container.unmap_all()?;
                }
            };
            work().is_err().into()
        })?;
        ready.wait(PATIENCE * slowness())?;
        std::thread::sleep(Duration::from_millis(3 + round * 7));
        victim.kill()?;
        let left = counters::wait_pinned_pages(pinned, PATIENCE)?;
        ensure!(
            left == pinned,
            "{} pages stay pinned after round {round}",
            left - pinned
        );
    }
    bound.open()?;
    Ok(())
}

suite!(
    iommus: All, debug: Lifetimes;
    every_order_of_close,
    device_works_without_the_other_descriptors,
    container_is_kept_by_its_group,
    close_while_copying,
    kill_in_each_state,
    kill_while_mapping,
);
