// SPDX-License-Identifier: GPL-2.0
//! The device taken away while a user works on it with all it has: accesses to its BAR by system
//! calls and by a map, DMA maps, interrupts, configuration space. Meanwhile nobody can remove the
//! modules.

use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::*;
use vfio_client::{DmaBuf, Event};
use vfio_rs_selftests::modules::all_stay;
use vfio_rs_selftests::process::{self, Child, Latch};
use vfio_rs_selftests::qmp::Plugged;
use vfio_rs_selftests::race::{is_expected, race_while};
use vfio_rs_selftests::setup::{
    Bound, E1000E, EDU, IGB, IOVA, Kind, Opened, PAGE, PATIENCE, slowness,
};
use vfio_rs_selftests::{Outcome, Result, ensure, suite};

/// How often each way of taking away is tried.
const ROUNDS: u32 = 3;
/// How long a user goes on after it was asked to let go.
const AFTER: Duration = Duration::from_millis(60);

/// Registers that do not change by themselves: edu's version, and the type of VLAN frames of
/// Intel's adapters.
const EDU_ID: usize = 0;
const E1000_VET: usize = 0x38;

/// Works on the device until somebody wants it back, and a little longer; each answer must be right
/// all the time.
fn work(bound: Bound, working: &Latch) -> Outcome {
    let bound_id = bound.pci.id();
    let opened = bound.open()?;
    let (request, interrupt) = (Event::new()?, Event::new()?);
    let device = &opened.device;
    device.enable_irqs(VFIO_PCI_REQ_IRQ_INDEX, &[request.as_raw_fd()])?;
    let msi = match device.irq_info(VFIO_PCI_MSIX_IRQ_INDEX)?.count {
        0 => VFIO_PCI_MSI_IRQ_INDEX,
        _ => VFIO_PCI_MSIX_IRQ_INDEX,
    };
    device.enable_irqs(msi, &[interrupt.as_raw_fd()])?;
    let bar = device.region(0)?;
    let map = device.mmap(&bar, 0, PAGE as usize)?;
    let config = device.config()?;
    config.update_command(0, COMMAND_MEMORY)?;
    // What a link that comes up or a reset changes is no register to compare.
    let at = match bound_id {
        Some(id) if id == EDU.id => EDU_ID,
        _ => E1000_VET,
    };
    let (id, first) = (config.read32(0)?, map.read32(at));
    let buf = DmaBuf::new(16 * PAGE as usize)?;
    let maps = || {
        opened.container.map_buf(&buf, IOVA).is_ok()
            && opened.container.unmap(IOVA, 16 * PAGE).ok() == Some(16 * PAGE)
    };
    let interrupts = || device.trigger_irqs(msi, 0, 1).is_ok() && interrupt.take().is_ok();
    let configuration = || config.read32(0).ok() == Some(id) && config.write8(0x3c, 5).is_ok();
    let calls = || device.read32(&bar, at as u64).ok() == Some(first);
    let mapped = || map.read32(at) == first;
    let mut asked = Ok(None);
    // Says which answer was wrong.
    let said = |what: &str, right: bool| {
        if !right {
            println!("{what}: wrong");
        }
        right
    };
    let right = race_while(
        || {
            asked = working
                .open()
                .and_then(|()| Ok(request.wait(PATIENCE * slowness())?));
            std::thread::sleep(AFTER);
        },
        &[
            &|| said("DMA map", maps()),
            &|| said("interrupt", interrupts()),
            &|| said("configuration space", configuration()),
            &|| said("BAR by a call", calls()),
            &|| said("BAR by a map", mapped()),
        ],
    );
    ensure!(right, "an answer was wrong");
    ensure!(asked?.is_some(), "the user was not asked to let go");
    Ok(())
}

/// A user, once it works.
fn user(bound: &Bound) -> Result<Child> {
    let working = Latch::new()?;
    let child = process::spawn(|| match work(bound.clone(), &working) {
        Ok(()) => 0,
        Err(e) => {
            println!("{e:#}");
            1
        }
    })?;
    working.wait(PATIENCE * slowness())?;
    Ok(child)
}

fn ended_well(user: &mut Child) -> Outcome {
    user.ended_well("the user")
}

/// Has `take` take the device away from a user that works, `ROUNDS` times.
fn taken(kind: Kind, take: fn(&PciDevice) -> std::io::Result<()>) -> Outcome {
    for _ in 0..ROUNDS {
        let bound = kind.bind()?;
        let mut user = user(&bound)?;
        all_stay()?;
        take(&bound.pci)?;
        ended_well(&mut user)?;
    }
    Ok(())
}

fn remove(device: &PciDevice) -> std::io::Result<()> {
    std::fs::write(device.path().join("remove"), "1")?;
    std::fs::write("/sys/bus/pci/rescan", "1")
}

fn unbound() -> Outcome {
    taken(EDU, PciDevice::unbind)
}

fn unbound_with_msix() -> Outcome {
    taken(IGB, PciDevice::unbind)
}

fn removed_and_found_again() -> Outcome {
    taken(EDU, remove)
}

fn removed_with_msix() -> Outcome {
    taken(IGB, remove)
}

fn unplugged() -> Outcome {
    let plugged = Plugged::new("e1000e", 1, E1000E.id)?;
    let device = plugged.functions[0].clone();
    device.bind_vfio()?;
    let mut user = user(&Bound::new(device.clone())?)?;
    all_stay()?;
    drop(plugged);
    ended_well(&mut user)?;
    ensure!(!device.path().exists(), "still there");
    Ok(())
}

/// Who does not let go can be killed, and then the driver leaves.
fn user_is_killed_meanwhile() -> Outcome {
    for _ in 0..ROUNDS {
        let bound = EDU.bind()?;
        let mut user = user(&bound)?;
        let mut unbind = process::spawn(|| bound.pci.unbind().is_err().into())?;
        nix::sys::signal::kill(user.pid, Signal::SIGKILL)?;
        user.killed_by(Signal::SIGKILL)?;
        unbind.ended_well("status of the unbinding")?;
    }
    Ok(())
}

/// Reads a map, and makes DMA maps beside it, until the memory behind it goes.
fn read_on(opened: &Opened, working: &Latch) -> Result<bool> {
    let bar = opened.device.region(0)?;
    let map = opened.device.mmap(&bar, 0, PAGE as usize)?;
    let first = map.read32(0);
    let buf = DmaBuf::new(PAGE as usize)?;
    let maps = || {
        opened.container.map_buf(&buf, IOVA).is_ok()
            && opened.container.unmap(IOVA, PAGE).ok() == Some(PAGE)
    };
    let calls = || is_expected(opened.device.read32(&bar, 0), &[Errno::EIO]);
    let wait = || {
        let _ = working.open();
        std::thread::sleep(PATIENCE * slowness());
    };
    Ok(race_while(
        wait,
        &[&maps, &calls, &|| map.read32(0) == first],
    ))
}

fn memory_goes_away() -> Outcome {
    let opened = EDU.open()?;
    let config = opened.device.config()?;
    for _ in 0..ROUNDS {
        config.update_command(0, COMMAND_MEMORY)?;
        let working = Latch::new()?;
        let mut reader = process::spawn(|| read_on(&opened, &working).is_err().into())?;
        working.wait(PATIENCE * slowness())?;
        config.update_command(COMMAND_MEMORY, 0)?;
        reader.killed_by(Signal::SIGBUS)?;
        // What it had mapped goes with the container only.
        opened.container.unmap_all()?;
    }
    Ok(())
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    unbound,
    unbound_with_msix,
    removed_and_found_again,
    removed_with_msix,
    unplugged,
    user_is_killed_meanwhile,
    memory_goes_away,
);
