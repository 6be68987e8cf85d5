// SPDX-License-Identifier: GPL-2.0
//! Several threads at once on the same descriptors. No result is wrong but a crash, a report of the
//! kernel's checkers, or something left behind.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use nix::errno::Errno;
use vfio_client::dma::PageSize;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Event, Group};
use vfio_rs_selftests::pamu;
use vfio_rs_selftests::race::{is_expected, race, race_while};
use vfio_rs_selftests::setup::{EDU, IOVA, PAGE, is_rust_stack, open_edu, slowness};
use vfio_rs_selftests::{Context, Outcome, bail, ensure, same, skip, suite};

/// How long the threads run against each other.
const RUN: Duration = Duration::from_millis(700);

fn maps_of_different_ranges() -> Outcome {
    let (container, _group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let (one, two) = (DmaBuf::new(64 << 12)?, DmaBuf::new(64 << 12)?);
    let map = |buf: &DmaBuf, iova| {
        container.map_buf(buf, iova).is_ok()
            && container.unmap(iova, 64 * PAGE).ok() == Some(64 * PAGE)
    };
    ensure!(
        race(RUN, &[&|| map(&one, IOVA), &|| map(&two, IOVA + (1 << 24))]),
        "one thread disturbed the other"
    );
    same("left", container.unmap_all()?, 0)
}

fn maps_of_the_same_range() -> Outcome {
    let (container, _group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let buf = DmaBuf::new(8 << 12)?;
    let map = || is_expected(container.map_buf(&buf, IOVA), &[Errno::EEXIST]);
    let unmap = || matches!(container.unmap(IOVA, 8 * PAGE), Ok(0 | 0x8000));
    let info = || {
        container
            .iommu_info()
            .is_ok_and(|i| i.dma_avail.is_some_and(|n| n >= 65534))
    };
    ensure!(
        race(RUN, &[&map, &map, &unmap, &info]),
        "a thread saw what cannot be"
    );
    container.unmap_all()?;
    Ok(())
}

fn group_is_opened_by_many() -> Outcome {
    let bound = EDU.bind()?;
    let open = || is_expected(Group::open(bound.group), &[Errno::EBUSY]);
    ensure!(
        race(RUN, &[&open, &open, &open]),
        "an open failed strangely"
    );
    bound.open_group()?;
    Ok(())
}

fn joining_and_leaving() -> Outcome {
    let bound = EDU.bind()?;
    let (container, group) = (Container::open()?, bound.open_group()?);
    let join = || is_expected(group.set_container(&container), &[Errno::EINVAL]);
    let leave = || is_expected(group.unset_container(), &[Errno::EINVAL, Errno::EBUSY]);
    let set = || is_expected(container.set_iommu(VFIO_TYPE1v2_IOMMU), &[Errno::EINVAL]);
    let open = || is_expected(group.device(&bound.pci.address), &[Errno::EINVAL]);
    let status = || group.status().is_ok() && container.check_extension(EXT_DMA_CC).is_ok();
    ensure!(
        race(RUN, &[&join, &leave, &set, &open, &status]),
        "a call failed strangely"
    );
    Ok(())
}

/// Maps and unmaps until the race is over, in a container that may have no group or no address
/// space just then.
fn mapper<'a>(
    container: &'a Container,
    buf: &'a DmaBuf,
    iova: u64,
) -> impl Fn() -> bool + Sync + 'a {
    move || {
        is_expected(container.map_buf(buf, iova), &[Errno::EINVAL])
            && is_expected(container.unmap(iova, buf.len() as u64), &[Errno::EINVAL])
    }
}

fn mapping_while_leaving() -> Outcome {
    if !is_rust_stack() {
        skip!("its mutex spins for ever on the test machine");
    }
    let bound = EDU.bind()?;
    let (container, group) = (Container::open()?, bound.open_group()?);
    let (own, other) = (DmaBuf::new(2 << 12)?, DmaBuf::new(64 << 12)?);
    let cycle = || {
        group.set_container(&container).is_ok()
            && container.set_iommu(VFIO_TYPE1v2_IOMMU).is_ok()
            // Nobody else is there, or in the way.
            && container.map_buf(&own, IOVA).is_ok()
            && group.unset_container().is_ok()
    };
    let map = mapper(&container, &other, IOVA + (1 << 24));
    ensure!(race(RUN, &[&cycle, &map]), "a call failed");
    Ok(())
}

/// The same, by the last close.
fn mapping_while_the_group_is_closed() -> Outcome {
    if !is_rust_stack() {
        skip!("its mutex spins for ever on the test machine");
    }
    let bound = EDU.bind()?;
    let container = Container::open()?;
    let (own, other) = (DmaBuf::new(2 << 12)?, DmaBuf::new(64 << 12)?);
    let cycle = || {
        let Ok(group) = Group::open(bound.group) else {
            return false;
        };
        group.set_container(&container).is_ok()
            && container.set_iommu(VFIO_TYPE1v2_IOMMU).is_ok()
            && container.map_buf(&own, IOVA).is_ok()
    };
    let map = mapper(&container, &other, IOVA + (1 << 24));
    ensure!(race(RUN, &[&cycle, &map]), "a call failed");
    Ok(())
}

fn mapping_while_another_group_joins() -> Outcome {
    let (container, _group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let group = pamu::second_edu()?.open_group()?;
    let (one, two) = (DmaBuf::new(2 << 12)?, DmaBuf::new(64 << 12)?);
    let map = |buf: &DmaBuf, iova| {
        let size = buf.len() as u64;
        container.map_buf(buf, iova).is_ok() && container.unmap(iova, size).ok() == Some(size)
    };
    let join = || group.set_container(&container).is_ok() && group.unset_container().is_ok();
    ensure!(
        race(
            RUN,
            &[&|| map(&one, IOVA), &|| map(&two, IOVA + (1 << 24)), &join]
        ),
        "one thread disturbed the other"
    );
    same("left", container.unmap_all()?, 0)
}

/// An unmap of many mappings against a map in the hole behind them that reaches beyond what is
/// unmapped.
fn unmapping_against_a_map_beyond_the_end() -> Outcome {
    let (container, _group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let many = if slowness() > 1 { 100 } else { 1000 };
    let (page, beyond) = (DmaBuf::new(1 << 12)?, DmaBuf::new(257 << 12)?);
    let end = IOVA + many * 2 * PAGE;
    for round in 0..10 {
        for at in 0..many {
            container.map_buf(&page, IOVA + at * 2 * PAGE)?;
        }
        let unmapped = scope(|threads| {
            let map = threads.spawn(|| container.map_buf(&beyond, end - PAGE));
            let unmapped = container.unmap(IOVA, many * 2 * PAGE);
            match map.join() {
                Ok(mapped) => mapped.context("the map")?,
                Err(_) => bail!("a thread panicked"),
            }
            Ok(unmapped)
        })?;
        // The map may have been first.
        if matches!(&unmapped, Err(e) if e.raw_os_error() == Some(Errno::EINVAL as i32)) {
            same(
                "first",
                container.unmap(IOVA, many * 2 * PAGE - 2 * PAGE)?,
                (many - 1) * PAGE,
            )?;
            same("last", container.unmap(end - 2 * PAGE, PAGE)?, PAGE)?;
        } else {
            same(&format!("round {round}"), unmapped?, many * PAGE)?;
        }
        same(
            "beyond",
            container.unmap(end - PAGE, 257 * PAGE)?,
            257 * PAGE,
        )?;
    }
    same("left", container.unmap_all()?, 0)
}

/// Maps of others that are made while an unmap of where they go waits and works: of each thread at
/// most the one that it is in, and the first behind the unmap, however long that takes. Some more
/// if the machine lets one thread sleep, so the middle of several rounds counts.
fn unmap_is_not_overtaken() -> Outcome {
    const THREADS: usize = 4;
    const ROUNDS: usize = 15;
    if !is_rust_stack() {
        skip!("whoever is fastest gets the lock there");
    }
    let (container, _group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let pages = if slowness() > 1 { 64 } else { 512 };
    let bufs = (0..THREADS).map(|_| DmaBuf::new(pages << 12));
    let bufs = bufs.collect::<Result<Vec<_>, _>>()?;
    for buf in &bufs {
        buf.advise(PageSize::Small)?;
        buf.populate()?;
    }
    let made = AtomicUsize::new(0);
    let map = |at: usize| {
        let (iova, size) = (IOVA + ((at as u64) << 24), bufs[at].len() as u64);
        let mapped = container.map_buf(&bufs[at], iova).is_ok();
        made.fetch_add(1, Ordering::Relaxed);
        // Gone if the large one was faster.
        mapped && matches!(container.unmap(iova, size), Ok(n) if n == size || n == 0)
    };
    let mut counts = Vec::new();
    let mut failed = Ok(());
    let good = race_while(
        || {
            for _ in 0..ROUNDS {
                let before = made.load(Ordering::Relaxed);
                failed = container.unmap(IOVA, (THREADS as u64) << 24).map(drop);
                counts.push(made.load(Ordering::Relaxed) - before);
                if failed.is_err() {
                    break;
                }
                sleep(Duration::from_millis(5));
            }
        },
        &[&|| map(0), &|| map(1), &|| map(2), &|| map(3)],
    );
    failed?;
    ensure!(good, "a map failed");
    counts.sort_unstable();
    println!("# maps during each unmap: {counts:?}");
    let middle = counts[ROUNDS / 2];
    ensure!(
        middle <= 2 * THREADS,
        "{middle} maps went first: {counts:?}"
    );
    container.unmap_all()?;
    Ok(())
}

fn interrupts_on_and_off() -> Outcome {
    let edu = open_edu()?;
    let event = Event::new()?;
    let device = &edu.device;
    let msi = VFIO_PCI_MSI_IRQ_INDEX;
    let on = || {
        is_expected(
            device.enable_irqs(msi, &[event.as_raw_fd()]),
            &[Errno::EINVAL],
        )
    };
    let off = || is_expected(device.disable_irqs(msi), &[Errno::EINVAL]);
    let trigger = || is_expected(device.trigger_irqs(msi, 0, 1), &[Errno::EINVAL]);
    let config = || device.config().and_then(|c| c.read32(0)).is_ok();
    ensure!(
        race(RUN, &[&on, &off, &trigger, &config]),
        "a call failed strangely"
    );
    Ok(())
}

fn reading_while_memory_goes_off_and_on() -> Outcome {
    let edu = open_edu()?;
    let bar = edu.device.region(0)?;
    let read = || is_expected(edu.device.read32(&bar, 0), &[Errno::EIO]);
    let toggle = || {
        let config = edu.device.config();
        config.is_ok_and(|c| c.update_command(2, 0).is_ok() && c.update_command(0, 2).is_ok())
    };
    ensure!(race(RUN, &[&read, &toggle]), "a call failed strangely");
    Ok(())
}

suite!(
    iommus: All, debug: Lifetimes;
    maps_of_different_ranges,
    maps_of_the_same_range,
    group_is_opened_by_many,
    joining_and_leaving,
    mapping_while_leaving,
    mapping_while_the_group_is_closed,
    mapping_while_another_group_joins,
    unmapping_against_a_map_beyond_the_end,
    unmap_is_not_overtaken,
    interrupts_on_and_off,
    reading_while_memory_goes_off_and_on,
);
