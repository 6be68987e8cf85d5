// SPDX-License-Identifier: GPL-2.0
//! Devices by their own nodes: what a user of one does, and waits for, keeps nobody else from
//! anything, and whoever takes the device or its group away does not wait for the user's memory.

use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use vfio_client::config::COMMAND_MASTER;
use vfio_client::iommufd::Ioas;
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::*;
use vfio_client::{Device, DmaBuf, Edu, Event};
use vfio_rs_selftests::absent::{Absent, Call, wait_stuck};
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::modules::TestModule;
use vfio_rs_selftests::node;
use vfio_rs_selftests::process;
use vfio_rs_selftests::race::{race, race_while};
use vfio_rs_selftests::reset::{bridged, reset_by_sysfs};
use vfio_rs_selftests::setup::{
    E1000E, EDU, GLANCE, IGB, IOVA, PAGE, PATIENCE, is_rust_stack, number, slowness,
};
use vfio_rs_selftests::shapes::{bind, pairs};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite, until};

const DRIVER: &str = "vfio-rs-intruder";

/// An attach waits for memory. Another user has a device of the same set meanwhile, and an
/// administrator takes that away.
fn stalled_attach_keeps_nobody() -> Outcome {
    if !is_rust_stack() {
        skip!("there they wait");
    }
    node::prepare()?;
    let devices = bridged()?;
    let [first, second, ..] = &devices[..] else {
        skip!("needs two devices of a set");
    };
    first.bind_vfio()?;
    second.bind_vfio()?;
    let absent = Absent::new(1)?;
    let ioas = Ioas::new()?;
    let device = Device::open_node(first)?;
    device.bind_iommufd(&ioas)?;
    ioas.map(absent.buf.addr(), IOVA, PAGE)?;
    scope(|threads| {
        let attach = Call::begin(threads, || Ok(device.attach_pt(ioas.id())?))?;
        absent.wait_wanted()?;
        attach.wait_stuck()?;
        // The user's own calls that need no address space.
        device.info()?;
        Edu::new(&device)?.liveness(1)?;
        // Others. The second device is of the same group, so it has the same context.
        let others = process::spawn(|| {
            let run = || -> Outcome {
                let other = Device::open_node(second)?;
                other.bind_iommufd(&ioas)?;
                other.info()?;
                if other.can_reset()? {
                    other.reset()?;
                }
                drop(other);
                second.unbind()?;
                Ok(second.bind_vfio()?)
            };
            run().inspect_err(|e| println!("# {e:#}")).map_or(1, |()| 0)
        })?;
        let mut others = others;
        others.ended_well("who has the other device")?;
        ensure!(attach.sleeps()?, "the attach goes on");
        absent.let_come()?;
        attach.end().map(drop)
    })?;
    device.detach_pt()?;
    Ok(())
}

/// Whoever waits can be killed.
fn stalled_attach_can_be_killed() -> Outcome {
    let (_bound, device) = node::open(&EDU)?;
    let absent = Absent::new(1)?;
    let ioas = Ioas::new()?;
    device.bind_iommufd(&ioas)?;
    ioas.map(absent.buf.addr(), IOVA, PAGE)?;
    let status = process::twin(&|| device.attach_pt(ioas.id()).is_ok(), |pid| {
        wait_stuck(&pid.to_string())?;
        Ok(kill(pid, Signal::SIGKILL)?)
    })?;
    let dead = matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _));
    ensure!(dead, "{status:?}");
    // Nothing is attached.
    Ok(ioas.iommufd().destroy(ioas.id())?)
}

/// A map waits for memory while its device is unbound: the administrator waits for the user to
/// close it, who is asked to, and for nothing else.
fn unbind_with_an_address_space() -> Outcome {
    let edu = node::attach(&EDU)?;
    let _buf = edu.map_new(IOVA, 2)?;
    let request = Event::new()?;
    let device = edu.device;
    device.enable_irqs(VFIO_PCI_REQ_IRQ_INDEX, &[request.as_raw_fd()])?;
    let pci = &edu.bound.pci;
    scope(|threads| {
        let unbind = Call::begin(threads, || Ok(pci.unbind()?))?;
        let asked = request.wait(PATIENCE * slowness())?;
        ensure!(asked.is_some(), "the user is not asked to let go");
        drop(device);
        unbind.end()
    })?;
    ensure!(pci.driver().is_none(), "still bound");
    Ok(pci.bind_vfio()?)
}

/// A node that is open and not bound to anything keeps its device from being unbound, too.
fn unbind_with_a_node_open() -> Outcome {
    let (bound, device) = node::open(&EDU)?;
    // By another program, as a child would have the node open as well.
    let command = format!(
        "echo {} > /sys/bus/pci/drivers/vfio-pci/unbind",
        bound.pci.address
    );
    let mut unbind = Command::new("sh").args(["-c", &command]).spawn()?;
    // Nobody comes in any more.
    until("the name goes", PATIENCE * slowness(), || {
        Ok(vfio_client::iommufd::node(&bound.pci).is_err())
    })?;
    sleep(GLANCE);
    ensure!(unbind.try_wait()?.is_none(), "it does not wait");
    drop(device);
    ensure!(unbind.wait()?.success(), "the unbinding");
    Ok(bound.pci.bind_vfio()?)
}

/// The driver that declares itself safe for as long as it is asked.
fn intruder() -> Result<TestModule> {
    if !is_rust_stack() {
        skip!("C VFIO does not notice");
    }
    TestModule::load("vfio_rs_intruder", &[])
}

fn user_is_cut_off() -> Outcome {
    let _module = intruder()?;
    node::prepare()?;
    let [one, two] = pairs()?.remove(0);
    bind(&one)?;
    two.release()?;
    let ioas = Ioas::new()?;
    let device = ioas.open_device(&one)?;
    let buf = DmaBuf::new(2 * PAGE as usize)?;
    ioas.map(buf.addr(), IOVA, 2 * PAGE)?;
    let request = Event::new()?;
    device.enable_irqs(VFIO_PCI_REQ_IRQ_INDEX, &[request.as_raw_fd()])?;
    let edu = Edu::new(&device)?;
    buf.fill(0x5a);
    edu.fetch(IOVA, 128)?;
    edu.store(IOVA + PAGE, 128)?;

    let mut log = Kmsg::now()?;
    two.bind_to(DRIVER)?;
    log.expect(&format!("{}: Driver {DRIVER} got the device", two.address))?;
    let asked = request.wait(PATIENCE * slowness())?;
    ensure!(asked.is_some(), "the user is not asked to let go");
    buf.fill(0x11);
    edu.store(IOVA, 128)?;
    ensure!(buf.is_filled(0, buf.len(), 0x11), "DMA arrives");
    check_no_master(&device, &one)?;
    errno("ATTACH", device.attach_pt(ioas.id()), Errno::EPERM)?;
    // It is detached soon.
    let end = Instant::now() + PATIENCE * slowness();
    while ioas.iommufd().destroy(ioas.id()).is_err() {
        ensure!(Instant::now() < end, "it stays attached");
        sleep(Duration::from_millis(10));
    }
    let other = Device::open_node(&one)?;
    errno("BIND", other.bind_iommufd(&ioas), Errno::EPERM)?;
    drop(device);
    errno("BIND, closed", other.bind_iommufd(&ioas), Errno::EPERM)?;
    two.release()?;
    other.bind_iommufd(&ioas)?;
    let again = ioas.iommufd().alloc_ioas()?;
    other.attach_pt(again)?;
    ioas.iommufd().map(again, buf.addr(), IOVA, 2 * PAGE)?;
    let edu = Edu::new(&other)?;
    edu.store(IOVA, 128)?;
    ensure!(!buf.is_filled(0, 128, 0x11), "DMA does not arrive again");
    Ok(())
}

/// The same while the user's map waits for memory: the intruder does not wait for that.
fn user_is_cut_off_while_a_map_waits() -> Outcome {
    let _module = intruder()?;
    node::prepare()?;
    let [one, two] = pairs()?.remove(0);
    bind(&one)?;
    two.release()?;
    let ioas = Ioas::new()?;
    let device = ioas.open_device(&one)?;
    let buf = DmaBuf::new(PAGE as usize)?;
    ioas.map(buf.addr(), IOVA, PAGE)?;
    let edu = Edu::new(&device)?;
    buf.fill(0x11);
    let absent = Absent::new(1)?;
    scope(|threads| {
        let map = Call::begin(threads, || {
            Ok(ioas.map(absent.buf.addr(), IOVA + PAGE, PAGE)?)
        })?;
        absent.wait_wanted()?;
        map.wait_stuck()?;
        let mut intrude = process::spawn(|| match two.bind_to(DRIVER) {
            Ok(()) => 0,
            Err(e) => {
                println!("# {e:#}");
                1
            }
        })?;
        intrude.ended_well("the intruder")?;
        edu.store(IOVA, 128)?;
        ensure!(buf.is_filled(0, buf.len(), 0x11), "DMA arrives");
        check_no_master(&device, &one)?;
        sleep(GLANCE);
        ensure!(map.sleeps()?, "the map goes on");
        absent.let_come()?;
        map.end()
    })?;
    let end = Instant::now() + PATIENCE * slowness();
    while ioas.iommufd().destroy(ioas.id()).is_err() {
        ensure!(Instant::now() < end, "it stays attached");
        sleep(Duration::from_millis(10));
    }
    drop(device);
    Ok(two.release()?)
}

/// The device is no bus master, whatever its user writes.
fn check_no_master(device: &Device, one: &PciDevice) -> Outcome {
    device.config()?.update_command(0, COMMAND_MASTER)?;
    let command = std::fs::read(one.path().join("config")).context("config")?[4];
    same("bus master", u16::from(command) & COMMAND_MASTER, 0)
}

/// A driver of the kernel wants a device of the group again and again: never are both there.
fn probes_against_binds() -> Outcome {
    node::prepare()?;
    let devices = vfio_rs_selftests::setup::shared_group()?;
    let Some(host) = devices.iter().find(|d| d.id() == Some(E1000E.id)) else {
        skip!("no e1000e that shares a group");
    };
    let Some(own) = devices.iter().find(|d| d.address != host.address) else {
        skip!("needs another device of the group");
    };
    E1000E.load_host_driver()?;
    own.bind_vfio()?;
    host.release()?;
    let [tries, bound, gaps] = [0; 3].map(AtomicU32::new);
    let over = AtomicBool::new(false);
    let ioas = Ioas::new()?;
    let fine = race_while(
        || {
            sleep(Duration::from_secs(1));
            // A probe may take half a minute on a slow kernel.
            let end = Instant::now() + PATIENCE * slowness();
            while gaps.load(Ordering::Relaxed) == 0 && Instant::now() < end {
                sleep(Duration::from_millis(10));
            }
            over.store(true, Ordering::Relaxed);
        },
        &[
            &|| {
                tries.fetch_add(1, Ordering::Relaxed);
                let Ok(device) = Device::open_node(own) else {
                    return false;
                };
                match device.bind_iommufd(&ioas) {
                    Ok(_) => {
                        bound.fetch_add(1, Ordering::Relaxed);
                        host.driver().is_none_or(|name| name != "e1000e") || device.info().is_err()
                    }
                    Err(e) => matches!(e.raw_os_error(), Some(libc::EPERM | libc::EBUSY)),
                }
            },
            &|| {
                let _ = host.set_override(Some("e1000e"));
                let _ = host.probe();
                let _ = host.unbind();
                // Of the tries that begin from here on, the first lies within the time without a
                // driver as soon as the second has begun.
                let seen = tries.load(Ordering::Relaxed);
                while tries.load(Ordering::Relaxed) < seen + 2 && !over.load(Ordering::Relaxed) {
                    sleep(Duration::from_millis(1));
                }
                gaps.fetch_add(1, Ordering::Relaxed);
                true
            },
        ],
    );
    host.release()?;
    ensure!(fine, "both had it, or a wrong errno");
    let (tries, bound) = (tries.into_inner(), bound.into_inner());
    ensure!(bound > 0, "not bound by any of {tries} tries");
    Ok(())
}

/// Address spaces change while the device is reset in all ways.
fn replaces_against_resets() -> Outcome {
    let igb = node::attach(&IGB)?;
    let other = igb.ioas.iommufd().alloc_ioas()?;
    let pci = &igb.bound.pci;
    let expected = |result: std::io::Result<u32>| match result {
        Ok(_) => true,
        Err(e) => e.raw_os_error() == Some(libc::EBUSY),
    };
    let fine = race(
        Duration::from_secs(1) * slowness(),
        &[
            &|| {
                expected(igb.device.attach_pt(other))
                    && expected(igb.device.attach_pt(igb.ioas.id()))
            },
            &|| {
                let _ = igb.device.reset();
                let _ = reset_by_sysfs(pci);
                true
            },
            &|| igb.device.detach_pt().is_ok(),
        ],
    );
    ensure!(fine, "a wrong errno");
    igb.device.attach_pt(igb.ioas.id())?;
    Ok(())
}

/// BIND, ATTACH, DETACH of one file by several threads.
fn one_file_by_many() -> Outcome {
    for _ in 0..3 {
        let (_bound, device) = node::open(&EDU)?;
        let ioas = Ioas::new()?;
        let other = ioas.iommufd().alloc_ioas()?;
        let fine = race(
            Duration::from_millis(100) * slowness(),
            &[
                &|| {
                    let result = device.bind_iommufd(&ioas);
                    result.is_ok_and(|id| id != 0) || device.info().is_ok()
                },
                &|| {
                    let result = device.attach_pt(other);
                    result.is_ok() || device.info().is_err() || device.attach_pt(other).is_ok()
                },
                &|| {
                    let _ = device.detach_pt();
                    true
                },
            ],
        );
        ensure!(fine, "a call failed that may not");
    }
    Ok(())
}

/// Processes that have a device attached are killed, wherever they are.
fn killed_at_any_moment() -> Outcome {
    node::prepare()?;
    let bound = EDU.bind()?;
    let rounds = if slowness() > 1 { 6 } else { 20 };
    for round in 0..number("VFIO_RS_ROUNDS", rounds)? {
        let mut user = process::spawn(|| {
            loop {
                let run = || -> Outcome {
                    let ioas = Ioas::new()?;
                    let device = ioas.open_device(&bound.pci)?;
                    let buf = DmaBuf::new(64 * PAGE as usize)?;
                    ioas.map(buf.addr(), IOVA, 64 * PAGE)?;
                    device.detach_pt()?;
                    device.attach_pt(ioas.id())?;
                    Ok(())
                };
                if run().is_err() {
                    return 1;
                }
            }
        })?;
        // Long enough on a kernel with checkers, too: it does several rounds in that time.
        sleep(Duration::from_micros(2000 + round * 3700));
        user.kill()?;
        // All is as before.
        let ioas = Ioas::new()?;
        drop(
            ioas.open_device(&bound.pci)
                .with_context(|| format!("round {round}"))?,
        );
    }
    Ok(())
}

suite!(
    iommus: Vtd, debug: Lifetimes;
    stalled_attach_keeps_nobody,
    stalled_attach_can_be_killed,
    unbind_with_an_address_space,
    unbind_with_a_node_open,
    user_is_cut_off,
    user_is_cut_off_while_a_map_waits,
    probes_against_binds,
    replaces_against_resets,
    one_file_by_many,
    killed_at_any_moment,
);
