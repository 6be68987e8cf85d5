// SPDX-License-Identifier: GPL-2.0
//! Sleep: of devices that nobody uses, of those whose user puts them to sleep, and of those whose
//! user lets them.

use std::os::fd::AsRawFd;
use std::thread::scope;
use std::time::Instant;

use nix::errno::Errno;
use vfio_client::config::{self, COMMAND_MEMORY};
use vfio_client::sys;
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::*;
use vfio_client::{Device, Event};
use vfio_rs_selftests::absent::Absent;
use vfio_rs_selftests::setup::{
    E1000E, EDU, GLANCE, IGB, Kind, NVME, Opened, PAGE, PATIENCE, is_rust_stack, read_trimmed,
    slowness,
};
use vfio_rs_selftests::{Outcome, Result, ensure, errno, joined, same, skip, suite};

const ENTRY: u32 = VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY;
const ENTRY_WITH_WAKEUP: u32 = VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP;
const EXIT: u32 = VFIO_DEVICE_FEATURE_LOW_POWER_EXIT;
const SET: u32 = VFIO_DEVICE_FEATURE_SET;

fn sysfs(pci: &PciDevice, name: &str) -> Result<String> {
    read_trimmed(&pci.path().join(name).display().to_string())
}

/// Skips on a kernel without runtime power management.
fn need_runtime_pm(pci: &PciDevice) -> Outcome {
    if !pci.path().join("power/runtime_status").exists() {
        skip!("the kernel has no power management");
    }
    Ok(())
}

fn await_status(pci: &PciDevice, want: &str) -> Outcome {
    let end = Instant::now() + PATIENCE * slowness();
    while sysfs(pci, "power/runtime_status")? != want {
        ensure!(
            Instant::now() < end,
            "{} does not become {want}",
            pci.address
        );
        std::thread::yield_now();
    }
    Ok(())
}

/// VFIO_DEVICE_FEATURE of `argsz` bytes with two words of data.
fn feature(device: &Device, argsz: u32, flags: u32, data: [i32; 2]) -> std::io::Result<i32> {
    let words = [argsz as i32, flags as i32, data[0], data[1]].map(i32::to_ne_bytes);
    let mut buf = sys::buffer(16);
    sys::bytes_mut(&mut buf).copy_from_slice(&words.concat());
    sys::with_buffer(device, DEVICE_FEATURE, &mut buf)
}

fn enter(device: &Device) -> std::io::Result<i32> {
    feature(device, 8, SET | ENTRY, [0; 2])
}

fn enter_with_wakeup(device: &Device, event: &Event) -> std::io::Result<i32> {
    feature(device, 16, SET | ENTRY_WITH_WAKEUP, [event.as_raw_fd(), 0])
}

fn leave(device: &Device) -> std::io::Result<i32> {
    feature(device, 8, SET | EXIT, [0; 2])
}

fn unused_devices_sleep() -> Outcome {
    for kind in [IGB, E1000E, NVME, EDU] {
        let bound = kind.bind()?;
        let pci = bound.pci.clone();
        need_runtime_pm(&pci)?;
        same("control", sysfs(&pci, "power/control")?.as_str(), "auto")?;
        await_status(&pci, "suspended")?;
        let has_pm = kind != EDU;
        if has_pm {
            same("state", sysfs(&pci, "power_state")?.as_str(), "D3hot")?;
        }
        let opened = bound.open()?;
        same(
            "status",
            sysfs(&pci, "power/runtime_status")?.as_str(),
            "active",
        )?;
        same("state", sysfs(&pci, "power_state")?.as_str(), "D0")?;
        let vendor = opened.device.config()?.read16(config::VENDOR)?;
        same("vendor", vendor, kind.id.0)?;
        drop(opened);
        await_status(&pci, "suspended")?;
        pci.release()?;
        same("control", sysfs(&pci, "power/control")?.as_str(), "on")?;
        same("state, unbound", sysfs(&pci, "power_state")?.as_str(), "D0")?;
    }
    Ok(())
}

fn idle_d3_can_be_disabled() -> Outcome {
    const PARAMETER: &str = "/sys/module/vfio_pci/parameters/disable_idle_d3";
    let pci = IGB.find()?;
    need_runtime_pm(&pci)?;
    std::fs::write(PARAMETER, "Y")?;
    let bound = IGB.bind();
    std::fs::write(PARAMETER, "N")?;
    let bound = bound?;
    std::thread::sleep(GLANCE);
    same(
        "status",
        sysfs(&pci, "power/runtime_status")?.as_str(),
        "active",
    )?;
    drop(bound.clone().open()?);
    std::thread::sleep(GLANCE);
    same(
        "status",
        sysfs(&pci, "power/runtime_status")?.as_str(),
        "active",
    )?;
    same("state", sysfs(&pci, "power_state")?.as_str(), "D0")?;
    pci.release()?;
    // The device keeps what it was bound with, and the next one gets the parameter anew.
    let bound = IGB.bind()?;
    await_status(&bound.pci, "suspended")
}

/// Opens a device with its memory on; the offset of its PM capability.
fn open_with_pm(kind: Kind) -> Result<(Opened, u64)> {
    let opened = kind.open()?;
    let config = opened.device.config()?;
    config.update_command(0, COMMAND_MEMORY)?;
    let Some(cap) = config.find_cap(1)? else {
        skip!("{} has no power management", kind.name)
    };
    Ok((opened, cap))
}

fn the_user_changes_the_state() -> Outcome {
    for kind in [IGB, E1000E] {
        let (opened, cap) = open_with_pm(kind)?;
        let (device, pci) = (&opened.device, &opened.bound.pci);
        let config = device.config()?;
        let bar = device.region(0)?;
        let mapping = device.mmap(&bar, 0, PAGE as usize)?;
        let (status, first) = (device.read32(&bar, 8)?, mapping.read32(8));
        same("mapped", first, status)?;
        let latency = config.read8(0x0c)?;
        config.write8(0x0c, 0x10)?;
        for _ in 0..3 {
            config.write16(cap + 4, 3)?;
            same("state", config.read16(cap + 4)? & 3, 3)?;
            same("state", sysfs(pci, "power_state")?.as_str(), "D3hot")?;
            errno("BAR", device.read32(&bar, 8), Errno::EIO)?;
            errno("BAR", device.write32(&bar, 0x38, 1), Errno::EIO)?;
            config.write16(cap + 4, 0)?;
            same("state", sysfs(pci, "power_state")?.as_str(), "D0")?;
            same("cache line size", config.read8(0x0c)?, 0x10)?;
            same("BAR", device.read32(&bar, 8)?, status)?;
            same("map", mapping.read32(8), status)?;
        }
        config.write8(0x0c, latency)?;
        // What is written to the command register asleep counts. In C it is undone: memory that the
        // user has on is off.
        for memory in [0, COMMAND_MEMORY] {
            config.update_command(COMMAND_MEMORY, memory ^ COMMAND_MEMORY)?;
            config.write16(cap + 4, 3)?;
            config.update_command(COMMAND_MEMORY, memory)?;
            config.write16(cap + 4, 0)?;
            if is_rust_stack() {
                let real = config.read16(config::COMMAND)? & COMMAND_MEMORY;
                same("memory", real, memory)?;
            }
        }
        config.update_command(0, COMMAND_MEMORY)?;
        same("BAR", device.read32(&bar, 8)?, status)?;
        // A reset wakes it up.
        config.write16(cap + 4, 3)?;
        if device.can_reset()? {
            device.reset()?;
            same("state", sysfs(pci, "power_state")?.as_str(), "D0")?;
            same("vendor", config.read16(config::VENDOR)?, kind.id.0)?;
            device.read32(&bar, 8)?;
        }
        // And so does the last close.
        config.write16(cap + 4, 3)?;
        drop(mapping);
        drop(opened);
        let opened = kind.open()?;
        same(
            "vendor",
            opened.device.config()?.read16(config::VENDOR)?,
            kind.id.0,
        )?;
    }
    Ok(())
}

fn malformed_requests() -> Outcome {
    let opened = IGB.open()?;
    let device = &opened.device;
    let (get, probe) = (VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_PROBE);
    for number in [ENTRY, ENTRY_WITH_WAKEUP, EXIT] {
        feature(device, 8, probe | SET | number, [0; 2])?;
        feature(device, 8, probe | number, [0; 2])?;
        for flags in [probe | get, probe | get | SET, get, 0] {
            let result = feature(device, 16, flags | number, [0; 2]);
            errno(&format!("{number} with {flags:#x}"), result, Errno::EINVAL)?;
        }
    }
    let wakeup = |argsz, fd| feature(device, argsz, SET | ENTRY_WITH_WAKEUP, [fd, 0]);
    errno("too short", wakeup(15, 0), Errno::EINVAL)?;
    errno("fd -1", wakeup(16, -1), Errno::EINVAL)?;
    errno("not open", wakeup(16, 9999), Errno::EBADF)?;
    errno("no eventfd", wakeup(16, device.as_raw_fd()), Errno::EINVAL)?;
    // Leaving what was not entered is fine.
    leave(device)?;
    leave(device)?;
    enter(device)?;
    errno("twice", enter(device), Errno::EINVAL)?;
    let event = Event::new()?;
    errno("twice", enter_with_wakeup(device, &event), Errno::EINVAL)?;
    leave(device)?;
    same("signals", event.take()?, None)?;
    enter(device)?;
    Ok(())
}

fn sleeps_until_used() -> Outcome {
    let (opened, _) = open_with_pm(IGB)?;
    let (device, pci) = (&opened.device, &opened.bound.pci);
    need_runtime_pm(pci)?;
    let bar = device.region(0)?;
    let status = device.read32(&bar, 8)?;
    enter(device)?;
    await_status(pci, "suspended")?;
    same("state", sysfs(pci, "power_state")?.as_str(), "D3hot")?;
    // Each access wakes it up, and then it sleeps again.
    for _ in 0..3 {
        same("vendor", device.config()?.read16(config::VENDOR)?, IGB.id.0)?;
        await_status(pci, "suspended")?;
        same("BAR", device.read32(&bar, 8)?, status)?;
        await_status(pci, "suspended")?;
    }
    leave(device)?;
    std::thread::sleep(GLANCE);
    same(
        "status",
        sysfs(pci, "power/runtime_status")?.as_str(),
        "active",
    )?;
    let mapping = device.mmap(&bar, 0, PAGE as usize)?;
    same("map", mapping.read32(8), status)?;
    // Closed asleep.
    enter(device)?;
    await_status(pci, "suspended")?;
    drop(mapping);
    Ok(())
}

fn wakeup_is_told() -> Outcome {
    let (opened, _) = open_with_pm(IGB)?;
    let (device, pci) = (&opened.device, &opened.bound.pci);
    need_runtime_pm(pci)?;
    let event = Event::new()?;
    enter_with_wakeup(device, &event)?;
    await_status(pci, "suspended")?;
    same("signals asleep", event.take()?, None)?;
    // The host wants it awake.
    let control = pci.path().join("power/control");
    std::fs::write(&control, "on")?;
    same("signals", event.take()?, Some(1))?;
    std::fs::write(&control, "auto")?;
    std::thread::sleep(GLANCE);
    same(
        "status",
        sysfs(pci, "power/runtime_status")?.as_str(),
        "active",
    )?;
    same("more signals", event.take()?, None)?;
    // An access of the user's own wakes it up as well.
    enter_with_wakeup(device, &event)?;
    await_status(pci, "suspended")?;
    device.config()?.read16(config::VENDOR)?;
    same("signals", event.take()?, Some(1))?;
    // So does one that only signals eventfds.
    device.enable_irqs(VFIO_PCI_REQ_IRQ_INDEX, &[Event::new()?.as_raw_fd()])?;
    enter_with_wakeup(device, &event)?;
    await_status(pci, "suspended")?;
    device.trigger_irqs(VFIO_PCI_REQ_IRQ_INDEX, 0, 1)?;
    same("signals", event.take()?, Some(1))?;
    enter_with_wakeup(device, &event)?;
    await_status(pci, "suspended")?;
    leave(device)?;
    same("signals", event.take()?, Some(1))?;
    // Not told that it is closed.
    enter_with_wakeup(device, &event)?;
    await_status(pci, "suspended")?;
    drop(opened);
    same("signals", event.take()?, None)
}

fn maps_are_revoked() -> Outcome {
    let (opened, _) = open_with_pm(IGB)?;
    let device = &opened.device;
    let mapping = device.mmap(&device.region(0)?, 0, PAGE as usize)?;
    let before = mapping.read32(8);
    enter(device)?;
    let addr = mapping.addr() as usize;
    // Read by the kernel, which fails where a load would end the process.
    let touch = || {
        let file = std::fs::File::create("/tmp/vfio_rs_power")?;
        // SAFETY: the map is ours and alive; a page that is not there is an error.
        let n = unsafe { libc::write(file.as_raw_fd(), (addr + 8) as *const _, 4) };
        if n < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(n)
    };
    errno("a touch", touch(), Errno::EFAULT)?;
    leave(device)?;
    same("the map", mapping.read32(8), before)
}

fn interrupt_pin_sleeps_too() -> Outcome {
    let (opened, _) = open_with_pm(E1000E)?;
    let (device, pci) = (&opened.device, &opened.bound.pci);
    need_runtime_pm(pci)?;
    const ICS: u64 = 0xc8;
    const IMS: u64 = 0xd0;
    let (event, unmask) = (Event::new()?, Event::new()?);
    device.enable_irqs(VFIO_PCI_INTX_IRQ_INDEX, &[event.as_raw_fd()])?;
    device.set_irqs(
        VFIO_PCI_INTX_IRQ_INDEX,
        VFIO_IRQ_SET_ACTION_UNMASK,
        0,
        1,
        vfio_client::irq::IrqData::Eventfd(&[unmask.as_raw_fd()]),
    )?;
    let bar = device.region(0)?;
    for unmasked_asleep in [false, true, false] {
        enter(device)?;
        await_status(pci, "suspended")?;
        // In C the pin stays masked for ever after that.
        if unmasked_asleep && is_rust_stack() {
            unmask.signal()?;
        }
        leave(device)?;
        device.write32(&bar, IMS, 4)?;
        device.write32(&bar, ICS, 4)?;
        ensure!(event.wait(PATIENCE * slowness())?.is_some(), "no interrupt");
        device.write32(&bar, 0xd8, u32::MAX)?;
        device.read32(&bar, 0xc0)?;
        device.set_irqs(
            VFIO_PCI_INTX_IRQ_INDEX,
            VFIO_IRQ_SET_ACTION_UNMASK,
            0,
            1,
            vfio_client::irq::IrqData::None,
        )?;
    }
    Ok(())
}

/// An access that its own user's memory keeps from going on, while another thread lets the device
/// sleep: it is one to a device that is awake.
fn an_access_under_way_goes_on() -> Outcome {
    const LIVENESS: u64 = 4;
    for (kind, len, write) in [
        (IGB, 64, false),
        (IGB, 4, false),
        (EDU, 4, true),
        (EDU, 64, true),
    ] {
        let what = format!(
            "{} of {len} bytes of {}",
            ["read", "write"][usize::from(write)],
            kind.name
        );
        let opened = kind.open()?;
        let (device, pci) = (&opened.device, &opened.bound.pci);
        need_runtime_pm(pci)?;
        device.config()?.update_command(0, COMMAND_MEMORY)?;
        let bar = device.region(0)?;
        let at = if write { LIVENESS } else { 0 };
        if write {
            device.write(&bar, LIVENESS, &1u32.to_le_bytes())?;
        }
        let absent = Absent::behind(1)?;
        // All of it for one access, half of it for more.
        let ahead = if len == 4 { 0 } else { 32 };
        let (addr, offset) = (absent.page() - ahead, (bar.offset + at) as i64);
        let fd = device.as_raw_fd();
        let got = scope(|scope| -> Result<_> {
            let access = scope.spawn(move || {
                let buf = addr as *mut libc::c_void;
                // SAFETY: reads or writes mapped memory that nobody else has; all bytes are good.
                Errno::result(unsafe {
                    match write {
                        false => libc::pread(fd, buf, len, offset),
                        true => libc::pwrite(fd, buf, len, offset),
                    }
                })
            });
            let entered = absent.wait_wanted().and_then(|()| Ok(enter(device)?));
            std::thread::sleep(GLANCE);
            let status = sysfs(pci, "power/runtime_status")?;
            absent.let_come()?;
            entered?;
            if len == 64 {
                same(&what, status.as_str(), "active")?;
            }
            joined(access)
        })?;
        same(&what, got, Ok(len as isize))?;
        await_status(pci, "suspended")?;
        if write {
            same(&what, device.read32(&bar, LIVENESS)?, !0)?;
            await_status(pci, "suspended")?;
        }
    }
    Ok(())
}

suite!(
    iommus: Vtd, debug: Answers;
    unused_devices_sleep,
    idle_d3_can_be_disabled,
    the_user_changes_the_state,
    malformed_requests,
    sleeps_until_used,
    wakeup_is_told,
    maps_are_revoked,
    interrupt_pin_sleeps_too,
    an_access_under_way_goes_on,
);
