// SPDX-License-Identifier: GPL-2.0
//! The device, its driver or its module taken away while a user holds on.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::*;
use vfio_client::{Edu, Event, Group};
use vfio_rs_selftests::modules::{Removed, all_stay, modprobe, parameter, remove_module, stays};
use vfio_rs_selftests::process::{self, Child, Latch};
use vfio_rs_selftests::setup::{
    EDU, GLANCE, IGB, IOVA, Kind, NVME, Opened, PATIENCE, is_rust_stack, open_edu, slowness,
};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite};

/// Starts to unbind `device` in a process of its own, for that blocks.
fn start_unbind(device: &PciDevice, opened: &Opened) -> Result<Child> {
    let fds = [
        opened.device.as_raw_fd(),
        opened.group.as_raw_fd(),
        opened.container.as_raw_fd(),
    ];
    process::spawn(|| {
        // The child must not hold the device open itself.
        for fd in fds {
            // SAFETY: the child's copies, which it never uses.
            unsafe { libc::close(fd) };
        }
        device.unbind().is_err().into()
    })
}

fn expect_done(unbind: &mut Child) -> Outcome {
    unbind.ended_well("status of the unbinding")
}

fn unbind_waits_for_the_user() -> Outcome {
    let opened = open_edu()?;
    let pci = opened.bound.pci.clone();
    let request = Event::new()?;
    opened
        .device
        .enable_irqs(VFIO_PCI_REQ_IRQ_INDEX, &[request.as_raw_fd()])?;
    let _buf = opened.map_new(IOVA, 1)?;
    let mut unbind = start_unbind(&pci, &opened)?;
    ensure!(
        request.wait(PATIENCE * slowness())?.is_some(),
        "the user is not asked to let go"
    );
    std::thread::sleep(GLANCE);
    ensure!(
        unbind.try_wait()?.is_none(),
        "the driver left a device in use"
    );
    // Until then, the device works, but nobody else gets it.
    same("liveness", Edu::new(&opened.device)?.liveness(5)?, !5)?;
    errno(
        "GET_DEVICE_FD",
        opened.group.device(&pci.address),
        Errno::ENODEV,
    )?;
    drop(opened.device);
    expect_done(&mut unbind)?;
    same("driver", pci.driver(), None)
}

/// The user is asked again every ten seconds, also when who waits has a signal.
fn request_is_repeated() -> Outcome {
    if slowness() > 1 {
        skip!("takes as long as on the release kernel, and proves no more");
    }
    let opened = open_edu()?;
    let pci = opened.bound.pci.clone();
    let request = Event::new()?;
    opened
        .device
        .enable_irqs(VFIO_PCI_REQ_IRQ_INDEX, &[request.as_raw_fd()])?;
    let mut unbind = start_unbind(&pci, &opened)?;
    same("asked", request.wait(PATIENCE)?, Some(1))?;
    nix::sys::signal::kill(unbind.pid, nix::sys::signal::Signal::SIGTERM)?;
    // The signal ends the first wait, or comes before it; each wait begins by asking. Without it,
    // that would be later.
    let again = request.wait(PATIENCE / 4)?;
    same("asked for the signal", again, Some(1))?;
    same("too early", request.wait(GLANCE)?, None)?;
    same("asked again", request.wait(PATIENCE)?, Some(1))?;
    ensure!(
        unbind.try_wait()?.is_none(),
        "the driver left a device in use"
    );
    drop(opened.device);
    unbind.wait(PATIENCE)?;
    same("driver", pci.driver(), None)
}

fn unbind_without_a_request_event() -> Outcome {
    let opened = open_edu()?;
    let pci = opened.bound.pci.clone();
    let mut unbind = start_unbind(&pci, &opened)?;
    std::thread::sleep(GLANCE);
    ensure!(
        unbind.try_wait()?.is_none(),
        "the driver left a device in use"
    );
    same("liveness", Edu::new(&opened.device)?.liveness(5)?, !5)?;
    drop(opened);
    expect_done(&mut unbind)
}

fn group_outlives_its_device() -> Outcome {
    let bound = EDU.bind()?;
    let (container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let mut unbind = process::spawn(|| {
        for fd in [group.as_raw_fd(), container.as_raw_fd()] {
            // SAFETY: the child's copies, which it never uses.
            unsafe { libc::close(fd) };
        }
        bound.pci.unbind().is_err().into()
    })?;
    expect_done(&mut unbind)?;
    // The group is an empty shell now, and stays one.
    errno("GET_STATUS", group.status(), Errno::ENODEV)?;
    errno(
        "GET_DEVICE_FD",
        group.device(&bound.pci.address),
        Errno::ENODEV,
    )?;
    errno("a new open", Group::open(bound.group), Errno::ENOENT)?;
    errno("UNSET_CONTAINER", group.unset_container(), Errno::EINVAL)?;
    errno(
        "SET_CONTAINER",
        group.set_container(&container),
        Errno::ENODEV,
    )?;
    errno(
        "MAP_DMA",
        container.map(VFIO_DMA_MAP_FLAG_READ, 0, IOVA, 4096),
        Errno::EINVAL,
    )?;
    // Bound again, the device has a new group node beside the stale descriptor.
    bound.pci.bind_vfio()?;
    errno("GET_STATUS of the old", group.status(), Errno::ENODEV)?;
    bound.open()?;
    Ok(())
}

fn remove_and_rescan() -> Outcome {
    let bound = EDU.bind()?;
    std::fs::write(bound.pci.path().join("remove"), "1")?;
    ensure!(!bound.pci.path().exists(), "still there");
    errno("open of the group", Group::open(bound.group), Errno::ENOENT)?;
    std::fs::write("/sys/bus/pci/rescan", "1")?;
    let again = EDU.bind()?;
    again.open()?;
    Ok(())
}

fn modules_stay_while_in_use() -> Outcome {
    let opened = open_edu()?;
    let _buf = opened.map_new(IOVA, 1)?;
    all_stay()?;
    same("liveness", Edu::new(&opened.device)?.liveness(5)?, !5)
}

fn modules_stay_while_a_container_is_open() -> Outcome {
    let container = vfio_client::Container::open()?;
    let _type1 = Type1Back(parameter("vfio_iommu_type1", "allow_unsafe_interrupts")?);
    let _removed = Removed::vfio_pci()?;
    // With nobody else to hold it.
    for name in ["vfio_pci_core", "vfio_iommu_type1"] {
        remove_module(name).with_context(|| name.to_owned())?;
    }
    stays("vfio")?;
    if is_rust_stack() {
        stays("vfio_rs")?;
    }
    same("API version", container.api_version()?, 0)
}

/// Loads vfio_iommu_type1 when dropped, as it was.
struct Type1Back(String);

impl Drop for Type1Back {
    fn drop(&mut self) {
        let unsafe_interrupts = format!("allow_unsafe_interrupts={}", self.0);
        let _ = modprobe(&["vfio_iommu_type1", &unsafe_interrupts]);
    }
}

/// The module takes the driver along, and the devices are nobody's; the next load finds those that
/// wait for it.
fn module_goes_and_unbinds() -> Outcome {
    let bound = EDU.bind()?;
    for _ in 0..2 {
        let removed = Removed::vfio_pci()?;
        same("driver", bound.pci.driver(), None)?;
        errno("open of the group", Group::open(bound.group), Errno::ENOENT)?;
        ensure!(
            !std::path::Path::new("/sys/bus/pci/drivers/vfio-pci").exists(),
            "the driver stays"
        );
        removed.load()?;
        same(
            "driver after the load",
            bound.pci.driver().as_deref(),
            Some("vfio-pci"),
        )?;
        let edu = bound.clone().open()?;
        same("liveness", Edu::new(&edu.device)?.liveness(7)?, !7)?;
    }
    Ok(())
}

/// A group that is open, even in a container, does not keep the driver.
fn group_outlives_the_module() -> Outcome {
    let bound = EDU.bind()?;
    let (container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let removed = Removed::vfio_pci()?;
    errno("GET_STATUS", group.status(), Errno::ENODEV)?;
    errno(
        "GET_DEVICE_FD",
        group.device(&bound.pci.address),
        Errno::ENODEV,
    )?;
    same("API version", container.api_version()?, 0)?;
    removed.load()?;
    errno("GET_STATUS of the old", group.status(), Errno::ENODEV)?;
    drop((container, group));
    bound.open()?;
    Ok(())
}

/// The module goes while another process opens the device, which holds it for as long as it is
/// open.
fn module_goes_between_opens() -> Outcome {
    let rounds = 5;
    let bound = EDU.bind()?;
    let opened_once = Latch::new()?;
    let mut user = process::spawn(|| {
        let mut said = false;
        loop {
            // Refused while there is no driver: in one of many ways.
            let Ok(edu) = bound.clone().open() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let alive = Edu::new(&edu.device).and_then(|edu| edu.liveness(9));
            if alive.ok() != Some(!9) {
                return 1;
            }
            if !said && opened_once.open().is_err() {
                return 2;
            }
            said = true;
        }
    })?;
    opened_once.wait(PATIENCE * slowness())?;
    for _ in 0..rounds {
        let end = Instant::now() + PATIENCE * slowness();
        // In use is one answer, and gone the other.
        while let Err(error) = remove_module("vfio_pci") {
            same("errno", error.raw_os_error(), Some(libc::EAGAIN))?;
            ensure!(Instant::now() < end, "always in use");
        }
        modprobe(&["vfio-pci"])?;
        ensure!(user.try_wait()?.is_none(), "the user ended");
    }
    user.kill()?;
    Ok(())
}

fn fork_shares_the_device() -> Outcome {
    let opened = open_edu()?;
    let buf = opened.map_new(IOVA, 1)?;
    buf.fill(0x10);
    let mut child = process::spawn(|| {
        // The child's memory is its own: the device must not see this.
        buf.fill(0x20);
        let work = || -> Outcome { same("liveness", Edu::new(&opened.device)?.liveness(3)?, !3) };
        work().is_err().into()
    })?;
    child.ended_well("child")?;
    buf.fill(0x30);
    let edu = Edu::new(&opened.device)?;
    edu.fetch(IOVA, 64)?;
    buf.fill(0x40);
    edu.store(IOVA, 64)?;
    // The device and the parent still share one page.
    ensure!(
        buf.is_filled(0, 64, 0x30),
        "device and parent see different pages after fork"
    );
    Ok(())
}

fn mapping_of_a_dead_process() -> Outcome {
    let opened = open_edu()?;
    let mut child = process::spawn(|| {
        let work = || -> Outcome {
            let buf = opened.map_new(IOVA, 16)?;
            buf.fill(0x77);
            Ok(())
        };
        work().is_err().into()
    })?;
    child.ended_well("child")?;
    // Its memory stays pinned for the device, and is charged to nobody alive.
    same("locked memory", vfio_client::counters::locked_kib()?, 0)?;
    let buf = opened.map_new(0x80_0000, 1)?;
    let edu = Edu::new(&opened.device)?;
    edu.fetch(IOVA, 64)?;
    edu.store(0x80_0000, 64)?;
    ensure!(
        buf.is_filled(0, 64, 0x77),
        "the memory of the dead process is gone"
    );
    same(
        "unmapped",
        opened.container.unmap(IOVA, 16 * 4096)?,
        16 * 4096,
    )
}

/// A device goes to a user and back, and its own driver works on it as before.
fn round_trip(kind: Kind, sign: &str) -> Outcome {
    let pci = kind.find()?;
    kind.load_host_driver()?;
    let group = pci.group();
    for _ in 0..2 {
        drop(kind.open()?);
        pci.restore()?;
        same("driver", pci.driver().as_deref(), kind.driver)?;
        same("group", pci.group(), group)?;
        let end = Instant::now() + PATIENCE * slowness();
        let works =
            || std::fs::read_dir(pci.path().join(sign)).is_ok_and(|mut dir| dir.next().is_some());
        while !works() {
            if Instant::now() > end {
                skip_or_fail(&pci, sign)?;
            }
            std::thread::sleep(GLANCE / 10);
        }
    }
    Ok(())
}

fn skip_or_fail(pci: &PciDevice, sign: &str) -> Outcome {
    if !pci.path().join(sign).exists() {
        skip!("the host driver makes no {sign}/ here");
    }
    anyhow::bail!("nothing in {sign}/ after the host driver came back")
}

fn igb_comes_back() -> Outcome {
    round_trip(IGB, "net")
}

fn nvme_comes_back() -> Outcome {
    round_trip(NVME, "nvme")
}

suite!(
    iommus: All, debug: Lifetimes;
    unbind_waits_for_the_user,
    request_is_repeated,
    unbind_without_a_request_event,
    group_outlives_its_device,
    remove_and_rescan,
    modules_stay_while_in_use,
    modules_stay_while_a_container_is_open,
    module_goes_and_unbinds,
    group_outlives_the_module,
    module_goes_between_opens,
    fork_shares_the_device,
    mapping_of_a_dead_process,
    igb_comes_back,
    nvme_comes_back,
);
