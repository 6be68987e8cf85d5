// SPDX-License-Identifier: GPL-2.0
//! `vfio-rs`, the tool, where it changes something: bind and restore, what it refuses, what a kill
//! leaves, rules of udev called as udev calls them. It works on any stack.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use clap::Parser;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use serde_json::Value;
use vfio_client::sysfs::{PciDevice, VFIO_PCI};
use vfio_client::uapi::VFIO_TYPE1v2_IOMMU;
use vfio_client::{Container, Edu, Group};
use vfio_rs_cli::cli::Cli;
use vfio_rs_cli::errors::Stop;
use vfio_rs_cli::run;
use vfio_rs_selftests::process;
use vfio_rs_selftests::setup::{
    E1000E, EDU, IGB, IOVA, PAGE, PATIENCE, is_rust_stack, shared_group, slowness,
};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, same, skip, suite, until};

const STATE: &str = "/run/vfio-rs/bound.json";

/// Runs the tool in this process: what it prints, and its exit status.
fn tool(words: &[&str]) -> Result<(String, u8)> {
    let cli = Cli::try_parse_from(std::iter::once(&"vfio-rs").chain(words))?;
    let mut out = Vec::new();
    let status = match run::run(&cli, &mut out, 80) {
        Ok(status) => status,
        Err(e) => {
            out.extend_from_slice(format!("{e:#}").as_bytes());
            e.downcast_ref::<Stop>().map_or(run::PROBLEM, Stop::status)
        }
    };
    Ok((String::from_utf8(out)?, status))
}

/// Runs it, and it must succeed.
fn good(words: &[&str]) -> Result<String> {
    let (out, status) = tool(words)?;
    ensure!(status == run::OK, "{words:?}: status {status}: {out}");
    Ok(out)
}

/// What `list` says of a device, for programs.
fn listed(pci: &PciDevice) -> Result<Value> {
    let text = good(&["list", "--json", &pci.address])?;
    let value: Value = serde_json::from_str(&text)?;
    same("schema", &value["schema"], &Value::from(1))?;
    Ok(value["devices"][0].clone())
}

fn marked(pci: &PciDevice, mark: &str) -> Outcome {
    let value = listed(pci)?;
    ensure!(value["vfio"] == *mark, "{mark} expected: {value:#}");
    Ok(())
}

fn only(pci: &PciDevice) -> Result<String> {
    Ok(fs::read_to_string(pci.path().join("driver_override"))?
        .trim()
        .to_owned())
}

/// The device has this driver, and no override unless that is vfio-pci.
fn has(pci: &PciDevice, driver: Option<&str>) -> Outcome {
    same("driver", pci.driver().as_deref(), driver)?;
    let want = if driver == Some(VFIO_PCI) {
        VFIO_PCI
    } else {
        "(null)"
    };
    same("override", only(pci)?.as_str(), want)
}

/// A network card with its own driver.
fn host_igb() -> Result<PciDevice> {
    IGB.load_host_driver()?;
    let pci = IGB.find()?;
    pci.restore()?;
    has(&pci, Some("igb"))?;
    Ok(pci)
}

fn bound_and_restored() -> Outcome {
    let pci = host_igb()?;
    marked(&pci, "host")?;
    let out = good(&["bind", &pci.address])?;
    ensure!(out.contains("igb -> vfio-pci"), "{out}");
    has(&pci, Some(VFIO_PCI))?;
    marked(&pci, "ready")?;
    let again = good(&["bind", &pci.address])?;
    ensure!(again.contains("already"), "{again}");
    let out = good(&["restore", &pci.address])?;
    ensure!(out.contains("vfio-pci -> igb"), "{out}");
    has(&pci, Some("igb"))?;
    let state = fs::read_to_string(STATE)?;
    ensure!(!state.contains(&pci.address), "{state}");
    good(&["restore", &pci.address])?;
    has(&pci, Some("igb"))
}

fn dry_run_changes_nothing() -> Outcome {
    let pci = host_igb()?;
    let shell = good(&["bind", "--dry-run", &pci.address])?;
    has(&pci, Some("igb"))?;
    let status = std::process::Command::new("sh")
        .args(["-ec", &shell])
        .status()?;
    ensure!(status.success(), "{shell}");
    has(&pci, Some(VFIO_PCI))?;
    let shell = good(&["restore", "--dry-run", &pci.address])?;
    has(&pci, Some(VFIO_PCI))?;
    let status = std::process::Command::new("sh")
        .args(["-ec", &shell])
        .status()?;
    ensure!(status.success(), "{shell}");
    has(&pci, Some("igb"))
}

fn groups_go_whole() -> Outcome {
    let ends = shared_group()?;
    let before: Vec<_> = ends.iter().map(PciDevice::driver).collect();
    good(&["bind", &ends[0].address])?;
    for pci in &ends {
        has(pci, Some(VFIO_PCI))?;
        marked(pci, "ready")?;
    }
    good(&["restore", &ends[1].address])?;
    for (pci, before) in ends.iter().zip(before) {
        has(pci, before.as_deref())?;
    }
    Ok(())
}

/// In a process with mounts of its own, where the files by which a driver gets a device do nothing.
fn deaf(paths: &[&str], body: impl FnOnce() -> Outcome) -> Outcome {
    let mut child = process::spawn(|| {
        let outcome = || -> Outcome {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
            fs::write("/tmp/deaf", "")?;
            for path in paths {
                let bind = MsFlags::MS_BIND;
                mount(Some("/tmp/deaf"), *path, None::<&str>, bind, None::<&str>)?;
            }
            body()
        };
        match outcome() {
            Ok(()) => 0,
            Err(e) => {
                println!("{e:#}");
                1
            }
        }
    })?;
    child.ended_well("with deaf files")
}

/// Writes succeed, but nothing binds: that is seen, and all is put back.
fn failures_are_rolled_back() -> Outcome {
    let pci = host_igb()?;
    let files = [
        "/sys/bus/pci/drivers_probe",
        "/sys/bus/pci/drivers/vfio-pci/bind",
    ];
    let edu = EDU.find()?;
    edu.release()?;
    deaf(&files, || {
        let (out, status) = tool(&["bind", &edu.address, &pci.address])?;
        ensure!(
            status == run::PROBLEM && out.contains("as it was before"),
            "{status}: {out}"
        );
        Ok(())
    })?;
    has(&edu, None)?;
    has(&pci, Some("igb"))?;
    let state = fs::read_to_string(STATE)?;
    ensure!(
        !state.contains(&pci.address) && !state.contains(&edu.address),
        "{state}"
    );
    Ok(())
}

/// Runs the tool in a traced process, and kills it before its `nth` write to a file of /sys or
/// /run; whether it came so far.
fn killed_at(nth: usize, words: &[&str]) -> Result<bool> {
    let child = process::spawn(|| {
        let traced = ptrace::traceme().is_ok() && nix::sys::signal::raise(Signal::SIGSTOP).is_ok();
        let done = traced && tool(words).is_ok_and(|(_, status)| status == run::OK);
        i32::from(!done)
    })?;
    let pid = child.pid;
    // What waits for it here is not what `Child` does.
    std::mem::forget(child);
    waitpid(pid, None)?;
    ptrace::setoptions(
        pid,
        ptrace::Options::PTRACE_O_EXITKILL | ptrace::Options::PTRACE_O_TRACESYSGOOD,
    )?;
    let (mut writes, mut entering, mut signal) = (0, true, None);
    loop {
        ptrace::syscall(pid, signal.take())?;
        match waitpid(pid, None)? {
            WaitStatus::PtraceSyscall(_) if entering => {
                entering = false;
                let regs = ptrace::getregs(pid)?;
                let file =
                    fs::read_link(format!("/proc/{pid}/fd/{}", regs.rdi)).unwrap_or_default();
                let is_write = regs.orig_rax == libc::SYS_write as u64;
                let is_ours = file.starts_with("/sys") || file.starts_with("/run/vfio-rs");
                if is_write && is_ours {
                    writes += 1;
                    if writes > nth {
                        ptrace::kill(pid)?;
                        waitpid(pid, None)?;
                        return Ok(true);
                    }
                }
            }
            WaitStatus::PtraceSyscall(_) => entering = true,
            WaitStatus::Exited(_, status) => {
                same("its status", status, 0)?;
                return Ok(false);
            }
            WaitStatus::Stopped(_, other) => signal = Some(other),
            status => ensure!(false, "{status:?}"),
        }
    }
}

fn killed_at_each_write() -> Outcome {
    let igb = host_igb()?;
    E1000E.load_host_driver()?;
    let e1000e = E1000E.find()?;
    e1000e.restore()?;
    let words = ["bind", igb.address.as_str(), e1000e.address.as_str()];
    let both = |igb_driver, e1000e_driver| -> Outcome {
        has(&igb, Some(igb_driver))?;
        has(&e1000e, Some(e1000e_driver))
    };
    let mut nth = 0;
    while killed_at(nth, &words)? {
        // Every other time somebody binds again before, and every time it is restored.
        if nth % 2 == 1 {
            good(&words)?;
            both(VFIO_PCI, VFIO_PCI)?;
        }
        good(&["restore", "--all"]).with_context(|| format!("after write {nth}"))?;
        both("igb", "e1000e").with_context(|| format!("after write {nth}"))?;
        nth += 1;
    }
    both(VFIO_PCI, VFIO_PCI)?;
    good(&["restore", "--all"])?;
    println!("{nth} writes");
    // The state, then three for each device.
    ensure!(nth >= 7, "only {nth} writes were seen");
    both("igb", "e1000e")
}

fn users_are_not_disturbed() -> Outcome {
    let edu = EDU.find()?;
    edu.release()?;
    good(&["bind", &edu.address])?;
    let group = edu.group().context("group")?;
    let container = Container::open()?;
    let opened = Group::open(group)?;
    opened.set_container(&container)?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    let _device = opened.device(&edu.address)?;
    let buf = vfio_client::DmaBuf::new(0x3000)?;
    container.map_buf(&buf, IOVA)?;
    marked(&edu, "open")?;
    let (out, status) = tool(&["restore", &edu.address])?;
    let me = std::process::id();
    ensure!(
        status == 3 && out.contains(&me.to_string()),
        "{status}: {out}"
    );
    has(&edu, Some(VFIO_PCI))?;
    let who: Value = serde_json::from_str(&good(&["who", "--json"])?)?;
    let all = who["processes"].as_array().context("processes")?;
    let mine = all
        .iter()
        .find(|p| p["pid"] == me)
        .with_context(|| format!("{who:#}"))?;
    ensure!(
        mine["groups"][0] == group && mine["devices"][0] == *edu.address,
        "{mine:#}"
    );
    ensure!(mine["locked"] == 0x3000, "{mine:#}");
    if is_rust_stack() {
        ensure!(mine["mappings"][0]["mapped"] == 0x3000, "{mine:#}");
        ensure!(mine["mappings"][0]["left"] == 65534, "{mine:#}");
    }
    container.unmap_all()?;
    Ok(())
}

fn what_the_host_needs_is_refused() -> Outcome {
    let pci = host_igb()?;
    let Some(name) = pci.netdevs().into_iter().next() else {
        skip!("the card has no interface");
    };
    let ip = |words: &str| -> Outcome {
        let status = std::process::Command::new("ip")
            .args(words.split(' '))
            .status();
        match status {
            Ok(status) => same("ip", status.success(), true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => skip!("no ip here"),
            Err(e) => Err(e.into()),
        }
    };
    ip(&format!("link set {name} up"))?;
    ip(&format!("addr add 10.9.9.1/24 dev {name}"))?;
    ip(&format!("route add default via 10.9.9.2 dev {name}"))?;
    let (out, status) = tool(&["bind", &name])?;
    ensure!(
        status == 3 && out.contains("default route"),
        "{status}: {out}"
    );
    has(&pci, Some("igb"))?;
    good(&["bind", "--force=a test", &name])?;
    has(&pci, Some(VFIO_PCI))?;
    let state = fs::read_to_string(STATE)?;
    ensure!(state.contains("a test"), "{state}");
    good(&["restore", &pci.address])?;
    has(&pci, Some("igb"))
}

/// As udev does it when the device comes.
fn persisted() -> Outcome {
    let pci = host_igb()?;
    good(&["persist", &pci.address])?;
    let file = format!("/etc/vfio-rs/devices.d/{}.conf", pci.address);
    let kept = fs::read_to_string(&file)?;
    ensure!(kept.contains("id=8086:10c9"), "{kept}");
    let rule = fs::read_to_string("/etc/udev/rules.d/10-vfio-rs.rules")?;
    ensure!(rule.contains(" udev-apply %k\""), "{rule}");
    // Its own driver was faster.
    let (_, status) = tool(&["udev-apply", &pci.address])?;
    same(
        "with a driver",
        (status, only(&pci)?.as_str()),
        (1, "(null)"),
    )?;
    pci.unbind()?;
    // Another card in its place.
    fs::write(&file, kept.replace("8086:10c9", "8086:10d3"))?;
    let (_, status) = tool(&["udev-apply", &pci.address])?;
    same("another", (status, only(&pci)?.as_str()), (1, "(null)"))?;
    fs::write(&file, kept.replace("subsystem=", "subsystem=f"))?;
    let (_, status) = tool(&["udev-apply", &pci.address])?;
    same(
        "another maker's",
        (status, only(&pci)?.as_str()),
        (1, "(null)"),
    )?;
    // The one that was meant.
    fs::write(&file, &kept)?;
    good(&["udev-apply", &pci.address])?;
    pci.probe()?;
    has(&pci, Some(VFIO_PCI))?;
    // Nobody wants this one.
    let (_, status) = tool(&["udev-apply", &E1000E.find()?.address])?;
    same("not persisted", status, 1)?;
    good(&["forget", &pci.address])?;
    ensure!(!Path::new(&file).exists(), "{file} is there");
    pci.restore()?;
    has(&pci, Some("igb"))
}

fn allowed_and_denied() -> Outcome {
    let edu = EDU.bind()?;
    let node = format!("/dev/vfio/{}", edu.group);
    let address = edu.pci.address.as_str();
    let passwd = fs::read_to_string("/etc/passwd")?;
    let names: Vec<&str> = passwd.lines().filter(|l| l.contains(":x:65534:")).collect();
    let Some(user) = names.first().and_then(|line| line.split(':').next()) else {
        skip!("no user nobody");
    };
    let out = good(&["allow", user, address])?;
    ensure!(out.contains("memlock"), "{out}");
    same("owner", fs::metadata(&node)?.uid(), 65534)?;
    let rule = fs::read_to_string(format!("/etc/udev/rules.d/61-vfio-rs-{address}.rules"))?;
    ensure!(rule.contains(address) && rule.contains(user), "{rule}");
    good(&["deny", address])?;
    same("owner", fs::metadata(&node)?.uid(), 0)
}

fn doctor_and_the_rest_print() -> Outcome {
    let edu = EDU.bind()?;
    let address = edu.pci.address.as_str();
    let (text, _) = tool(&["doctor", "--json", address])?;
    let value: Value = serde_json::from_str(&text)?;
    let checks = value["devices"][0]["checks"].as_array().context("checks")?;
    let group = checks
        .iter()
        .find(|check| check["name"] == "group")
        .context("group")?;
    ensure!(group["status"] == "PASS", "{group:#}");
    let qemu = good(&["qemu", address])?;
    same(
        "qemu",
        qemu.as_str(),
        format!("-device vfio-pci,host={address}\n").as_str(),
    )?;
    ensure!(
        good(&["libvirt", address])?.contains("<hostdev"),
        "no hostdev"
    );
    let top: Value = serde_json::from_str(&good(&["top", "--once", "--json"])?)?;
    let is_it = |device: &&Value| device["address"] == *address;
    let devices = top["devices"].as_array().context("devices")?;
    devices
        .iter()
        .find(is_it)
        .with_context(|| format!("{top:#}"))?;
    Ok(())
}

/// DMA to where nothing is mapped: the log has it, and the tool says what is nearest.
fn faults_name_what_is_nearest() -> Outcome {
    let opened = EDU.open()?;
    let _buf = opened.map_new(IOVA, 1)?;
    let edu = Edu::new(&opened.device)?;
    let wrong = IOVA + (1 << 20) + PAGE;
    edu.store(wrong, PAGE as usize)?;
    until("a fault in the log", PATIENCE * slowness(), || {
        let value: Value = serde_json::from_str(&good(&["faults", "--json"])?)?;
        let all = value["faults"].as_array().context("faults")?;
        let is_it = |fault: &&Value| fault["address"] == *format!("{wrong:#x}");
        let Some(fault) = all.iter().find(is_it) else {
            return Ok(false);
        };
        ensure!(fault["device"] == *opened.bound.pci.address, "{fault:#}");
        ensure!(fault["users"][0]["pid"] == std::process::id(), "{fault:#}");
        let near = fault["nearest"].as_str().unwrap_or_default();
        let says = format!("1 MiB past {IOVA:#x}-{:#x}", IOVA + PAGE - 1);
        ensure!(!is_rust_stack() || near.contains(&says), "{fault:#}");
        Ok(true)
    })
}

suite!(
    iommus: Vtd, debug: Answers;
    bound_and_restored,
    dry_run_changes_nothing,
    groups_go_whole,
    failures_are_rolled_back,
    killed_at_each_write,
    users_are_not_disturbed,
    what_the_host_needs_is_refused,
    persisted,
    allowed_and_denied,
    doctor_and_the_rest_print,
    faults_name_what_is_nearest,
);
