// SPDX-License-Identifier: GPL-2.0
//! Several threads at once on the same descriptors. No result is wrong but a crash, a report of the kernel's checkers, or
//! something left behind.

use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Event, Group};
use vfio_rs_selftests::race::{is_expected, race};
use vfio_rs_selftests::setup::{EDU, IOVA, PAGE, open_edu};
use vfio_rs_selftests::{Outcome, ensure, same, suite};

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

fn mapping_while_leaving() -> Outcome {
    let bound = EDU.bind()?;
    let (container, group) = (Container::open()?, bound.open_group()?);
    let cycle = || {
        group.set_container(&container).is_ok()
            && container.set_iommu(VFIO_TYPE1v2_IOMMU).is_ok()
            && container.api_version().is_ok()
            && group.unset_container().is_ok()
    };
    ensure!(race(RUN, &[&cycle]), "a cycle failed");
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
    maps_of_different_ranges,
    maps_of_the_same_range,
    group_is_opened_by_many,
    joining_and_leaving,
    mapping_while_leaving,
    interrupts_on_and_off,
    reading_while_memory_goes_off_and_on,
);
