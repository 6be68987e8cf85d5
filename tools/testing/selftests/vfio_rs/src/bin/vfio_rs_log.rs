// SPDX-License-Identifier: GPL-2.0
//! Whatever a user does over and over, the kernel's log keeps room for others.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use vfio_client::setting::Setting;
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::{VFIO_PCI_ROM_REGION_INDEX, VFIO_TYPE1v2_IOMMU};
use vfio_client::{Device, Event};
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::pin::INTX;
use vfio_rs_selftests::setup::{Bound, E1000E, Freed, IGB, all_edus, is_rust_stack};
use vfio_rs_selftests::{Outcome, Result, ensure, errno, same, skip, suite};

/// Capability Power Management.
const CAP_PM: u8 = 0x01;
/// Lines that a cause may have in five seconds, with one that tells how many are left out, for ten
/// seconds.
const LINES: usize = 2 * 11;

/// Repeats `cause`, which may have a line or two each time, and counts lines.
fn repeat(rounds: usize, cause: impl Fn() -> Outcome) -> Outcome {
    if !is_rust_stack() {
        skip!("C has no limit");
    }
    let mut log = Kmsg::now()?;
    for _ in 0..rounds {
        cause()?;
    }
    let lines = log.lines()?;
    let count = lines.len();
    println!("{count} lines of {rounds} rounds: {:?}", lines.last());
    ensure!(count <= LINES, "{count} lines");
    Ok(())
}

/// Puts a device into D0 (0) or D3hot (3).
fn power(device: &Device, state: u16) -> Outcome {
    let config = device.config()?;
    let Some(at) = config.find_cap(CAP_PM)? else {
        skip!("no Power Management")
    };
    Ok(config.write16(at + 4, state)?)
}

fn rom_of_a_sleeping_device() -> Outcome {
    let opened = E1000E.open()?;
    let device = &opened.device;
    let awake = device.region(VFIO_PCI_ROM_REGION_INDEX)?;
    if awake.size == 0 {
        skip!("no ROM");
    }
    power(device, 3)?;
    repeat(300, || {
        let rom = device.region(VFIO_PCI_ROM_REGION_INDEX)?;
        same("size", rom.size, 0)?;
        let read = device.read(&awake, 0, &mut [0; 4]);
        errno("read", read, Errno::ENOMEM)
    })?;
    power(device, 0)?;
    same("awake", &device.region(VFIO_PCI_ROM_REGION_INDEX)?, &awake)
}

/// Two functions of one slot, whose pins are one line.
fn twins() -> Result<[PciDevice; 2]> {
    let all = all_edus()?;
    let slot = |device: &PciDevice| {
        device
            .address
            .rsplit_once('.')
            .map(|(slot, _)| slot.to_owned())
    };
    for one in &all {
        let twin = all
            .iter()
            .find(|other| other.address != one.address && slot(other) == slot(one));
        if let Some(twin) = twin {
            return Ok([one.clone(), twin.clone()]);
        }
    }
    skip!("no edu of two functions")
}

fn lines_that_are_not_shared() -> Outcome {
    let [one, two] = twins()?;
    let _freed = Freed::around(&one)?;
    let set = Setting::parameter("vfio_pci", "nointxmask", "1")?;
    one.bind_vfio()?;
    two.bind_vfio()?;
    drop(set);
    let (_container, group) = Bound::new(one.clone())?.attach(VFIO_TYPE1v2_IOMMU)?;
    let (one, two) = (group.device(&one.address)?, group.device(&two.address)?);
    let (first, second) = (Event::new()?, Event::new()?);
    if let Err(e) = one.enable_irqs(INTX, &[first.as_raw_fd()]) {
        skip!("another device has the line as well: {e}");
    }
    repeat(300, || {
        let enable = two.enable_irqs(INTX, &[second.as_raw_fd()]);
        errno("the other's pin", enable, Errno::EBUSY)
    })?;
    one.disable_irqs(INTX)?;
    two.enable_irqs(INTX, &[second.as_raw_fd()])?;
    Ok(two.disable_irqs(INTX)?)
}

fn opens() -> Outcome {
    let bound = E1000E.bind()?;
    let address = bound.pci.address.clone();
    let (_container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    repeat(40, || Ok(group.device(&address).map(drop)?))
}

fn resets() -> Outcome {
    let opened = IGB.open()?;
    repeat(40, || Ok(opened.device.reset()?))
}

suite!(
    iommus: Vtd, debug: Answers;
    rom_of_a_sleeping_device,
    lines_that_are_not_shared,
    opens,
    resets,
);
