// SPDX-License-Identifier: GPL-2.0
//! Each allocation of a call that opens, or that switches a device's parts on, failing once, one
//! after another: the same call then succeeds. Debug kernel only.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::uapi::*;
use vfio_client::{Container, Event, Group};
use vfio_rs_selftests::faults::{Faults, IRQ_FILES};
use vfio_rs_selftests::setup::{E1000E, EDU, IGB, Kind};
use vfio_rs_selftests::{Context, Outcome, ensure, same, suite};

/// No memory, or a copy from or to the user that failed.
const USUAL: &[Errno] = &[Errno::ENOMEM, Errno::EFAULT];

fn open_container() -> Outcome {
    Faults::new()?.sweep(
        "open of the container",
        USUAL,
        |_| Ok(()),
        |()| Container::open(),
        |(), done| {
            drop(done);
            let container = Container::open().context("once more")?;
            same("version", container.api_version()?, 0)
        },
    )
}

/// It can be open once: a failed open must not count.
fn open_group() -> Outcome {
    let faults = Faults::new()?;
    let bound = EDU.bind()?;
    faults.sweep(
        "open of a group",
        USUAL,
        |_| Ok(()),
        |()| Group::open(bound.group),
        |(), done| {
            drop(done);
            let group = bound.open_group().context("once more")?;
            same("flags", group.status()?, VFIO_GROUP_FLAGS_VIABLE)
        },
    )
}

fn set_container() -> Outcome {
    let faults = Faults::new()?;
    let bound = EDU.bind()?;
    let container = Container::open()?;
    faults.sweep(
        "SET_CONTAINER",
        USUAL,
        |_| bound.open_group(),
        |group| group.set_container(&container),
        |group, done| {
            if done.is_none() {
                group.set_container(&container).context("once more")?;
            }
            Ok(group.unset_container()?)
        },
    )
}

fn open_device() -> Outcome {
    let faults = Faults::new()?;
    let bound = EDU.bind()?;
    let (_container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    faults.sweep(
        "GET_DEVICE_FD",
        USUAL,
        |_| Ok(()),
        |()| group.device(&bound.pci.address),
        |(), done| {
            drop(done);
            let device = group.device(&bound.pci.address).context("once more")?;
            ensure!(device.info()?.num_regions > 0, "no regions");
            let ids = u32::from(EDU.id.0) | u32::from(EDU.id.1) << 16;
            same("IDs", device.config()?.read32(0)?, ids)
        },
    )
}

/// Switches interrupts on, `count` vectors, which then all work; or none.
fn enable_irqs(kind: Kind, what: &str, index: u32, count: usize) -> Outcome {
    let faults = Faults::besides(IRQ_FILES)?;
    let opened = kind.open()?;
    let device = &opened.device;
    let events = (0..count).map(|_| Event::new());
    let events = events.collect::<std::io::Result<Vec<_>>>()?;
    let fds: Vec<_> = events.iter().map(AsRawFd::as_raw_fd).collect();
    faults.sweep(
        what,
        // ENOSPC: so many vectors are not to be had.
        &[Errno::ENOMEM, Errno::EFAULT, Errno::ENOSPC],
        |_| Ok(()),
        |()| match device.enable_irqs(index, &fds)? {
            0 => Ok(()),
            fewer => {
                ensure_io(fewer > 0 && (fewer as usize) < count)?;
                Err(Errno::ENOSPC.into())
            }
        },
        |(), done| {
            if done.is_none() {
                device.enable_irqs(index, &fds).context("once more")?;
            }
            device.trigger_irqs(index, 0, count as u32)?;
            for event in &events {
                same("events", event.take()?, Some(1))?;
            }
            Ok(device.disable_irqs(index)?)
        },
    )
}

fn ensure_io(holds: bool) -> std::io::Result<()> {
    holds
        .then_some(())
        .ok_or(std::io::ErrorKind::InvalidData.into())
}

fn enable_intx() -> Outcome {
    enable_irqs(EDU, "INTx on", VFIO_PCI_INTX_IRQ_INDEX, 1)
}

fn enable_msi() -> Outcome {
    enable_irqs(EDU, "MSI on", VFIO_PCI_MSI_IRQ_INDEX, 1)
}

fn enable_msix() -> Outcome {
    enable_irqs(E1000E, "MSI-X on", VFIO_PCI_MSIX_IRQ_INDEX, 3)
}

/// A vector more, while others are on and stay so.
fn add_vector() -> Outcome {
    let faults = Faults::besides(IRQ_FILES)?;
    let opened = E1000E.open()?;
    let device = &opened.device;
    let (one, two) = (Event::new()?, Event::new()?);
    let index = VFIO_PCI_MSIX_IRQ_INDEX;
    device.enable_irqs(index, &[one.as_raw_fd()])?;
    let set = |fd: i32| {
        let data = vfio_client::irq::IrqData::Eventfd(&[fd]);
        device.set_irqs(index, VFIO_IRQ_SET_ACTION_TRIGGER, 2, 1, data)
    };
    faults.sweep(
        "one vector more",
        USUAL,
        |_| Ok(()),
        |()| set(two.as_raw_fd()),
        |(), done| {
            device.trigger_irqs(index, 0, 1)?;
            same("events of the first", one.take()?, Some(1))?;
            if done.is_none() {
                set(two.as_raw_fd()).context("once more")?;
            }
            device.trigger_irqs(index, 2, 1)?;
            same("events of the third", two.take()?, Some(1))?;
            set(-1)?;
            Ok(())
        },
    )
}

/// The map, and the first touch of each of its pages.
fn mmap_of_a_bar() -> Outcome {
    let faults = Faults::new()?;
    let opened = IGB.open()?;
    let device = &opened.device;
    device.config()?.update_command(0, COMMAND_MEMORY)?;
    let bar = device.region(VFIO_PCI_BAR0_REGION_INDEX)?;
    faults.sweep(
        "mmap of a BAR",
        USUAL,
        |_| Ok(()),
        |()| {
            let map = device.mmap(&bar, 0, bar.size as usize)?;
            for at in (0..bar.size as usize).step_by(1 << 16) {
                let _ = map.read32(at);
            }
            Ok(map)
        },
        |(), done| {
            let map = match done {
                Some(map) => map,
                None => device.mmap(&bar, 0, bar.size as usize)?,
            };
            same("status by map", map.read32(8), device.read32(&bar, 8)?)
        },
    )
}

suite!(
    iommus: All, debug: Answers;
    open_container,
    open_group,
    set_container,
    open_device,
    enable_intx,
    enable_msi,
    enable_msix,
    add_vector,
    mmap_of_a_bar,
);
