// SPDX-License-Identifier: GPL-2.0
//! Names that clients look for: modules, parameters, nodes, classes, driver links. They are part of
//! the interface.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use vfio_client::sysfs::PciDevice;
use vfio_rs_selftests::setup::{EDU, all_edus, is_rust_stack, open_edu, read_trimmed};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, same, skip, suite};

/// File name that a symbolic link leads to.
fn target(link: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_link(link).ok()?.file_name()?.to_str()?.to_owned())
}

/// Each of `names` is a parameter of `module`, with these permissions.
fn parameters(module: &str, names: &[(&str, u32)]) -> Outcome {
    for (name, mode) in names {
        let path = format!("/sys/module/{module}/parameters/{name}");
        let file = fs::metadata(&path).with_context(|| path.clone())?;
        same(&format!("mode of {path}"), file.mode() & 0o777, *mode)?;
    }
    Ok(())
}

fn modules() -> Outcome {
    for name in ["vfio", "vfio_pci_core", "vfio_pci", "vfio_iommu_type1"] {
        ensure!(
            Path::new(&format!("/sys/module/{name}")).is_dir(),
            "no /sys/module/{name}"
        );
    }
    Ok(())
}

fn parameters_of_vfio() -> Outcome {
    parameters("vfio", &[("enable_unsafe_noiommu_mode", 0o644)])
}

fn parameters_of_type1() -> Outcome {
    let names = [
        ("allow_unsafe_interrupts", 0o644),
        ("disable_hugepages", 0o644),
        ("dma_entry_limit", 0o644),
    ];
    parameters("vfio_iommu_type1", &names)?;
    let limit = read_trimmed("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit")?;
    same("limit", limit.as_str(), "65535")
}

fn parameters_of_vfio_pci() -> Outcome {
    // `ids` exists for the command line only.
    let names = [
        ("nointxmask", 0o644),
        ("disable_vga", 0o444),
        ("disable_idle_d3", 0o644),
        ("enable_sriov", 0o644),
        ("disable_denylist", 0o444),
    ];
    parameters("vfio_pci", &names)
}

fn container_node() -> Outcome {
    let node = fs::metadata("/dev/vfio/vfio")?;
    same("mode", node.mode(), libc::S_IFCHR | 0o666)?;
    same("device number", node.rdev(), libc::makedev(10, 196))?;
    same(
        "class",
        target("/sys/class/misc/vfio/subsystem").as_deref(),
        Some("misc"),
    )?;
    same(
        "dev",
        read_trimmed("/sys/class/misc/vfio/dev")?.as_str(),
        "10:196",
    )
}

fn group_node() -> Outcome {
    let bound = EDU.bind()?;
    let node = fs::metadata(vfio_client::group::node(bound.group))?;
    same("mode", node.mode(), libc::S_IFCHR | 0o600)?;
    let class = format!("/sys/class/vfio/{}", bound.group);
    let (major, minor) = (libc::major(node.rdev()), libc::minor(node.rdev()));
    same(
        "dev",
        read_trimmed(&format!("{class}/dev"))?,
        format!("{major}:{minor}"),
    )?;
    same(
        "subsystem",
        target(format!("{class}/subsystem")).as_deref(),
        Some("vfio"),
    )?;
    bound.pci.release()?;
    ensure!(
        !Path::new(&class).exists(),
        "{class} stays after the unbinding"
    );
    ensure!(
        !Path::new(&vfio_client::group::node(bound.group)).exists(),
        "the node stays after the unbinding"
    );
    Ok(())
}

fn major_in_proc_devices() -> Outcome {
    let devices = read_trimmed("/proc/devices")?;
    ensure!(
        devices.lines().any(|line| line.trim().ends_with(" vfio")),
        "no vfio in /proc/devices"
    );
    Ok(())
}

fn driver_link() -> Outcome {
    let bound = EDU.bind()?;
    same(
        "driver",
        target(bound.pci.path().join("driver")).as_deref(),
        Some("vfio-pci"),
    )?;
    let uevent = fs::read_to_string(bound.pci.path().join("uevent"))?;
    ensure!(
        uevent.lines().any(|line| line == "DRIVER=vfio-pci"),
        "uevent: {uevent}"
    );
    same(
        "group link",
        target(bound.pci.path().join("iommu_group")),
        Some(bound.group.to_string()),
    )
}

fn driver_folder() -> Outcome {
    for name in ["bind", "unbind", "new_id", "remove_id"] {
        let path = format!("/sys/bus/pci/drivers/vfio-pci/{name}");
        ensure!(Path::new(&path).exists(), "no {path}");
    }
    Ok(())
}

/// By which libvirt finds the driver of the module that it has loaded, and others the module of the
/// driver.
fn driver_and_module_name_each_other() -> Outcome {
    same(
        "module of the driver",
        target("/sys/bus/pci/drivers/vfio-pci/module").as_deref(),
        Some("vfio_pci"),
    )?;
    let drivers = fs::read_dir("/sys/module/vfio_pci/drivers").context("drivers of vfio_pci")?;
    let names: Vec<_> = drivers
        .map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()))
        .collect::<Result<_>>()?;
    same(
        "drivers of vfio_pci",
        names,
        vec!["pci:vfio-pci".to_owned()],
    )?;
    same(
        "driver of the module",
        target("/sys/module/vfio_pci/drivers/pci:vfio-pci").as_deref(),
        Some("vfio-pci"),
    )
}

/// What modprobe finds for `name`.
fn resolve(name: &str) -> Result<String> {
    let Ok(output) = Command::new("modprobe")
        .args(["--resolve-alias", name])
        .output()
    else {
        skip!("no modprobe");
    };
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// libvirt loads the module that has the best alias for the device.
fn alias_of_any_device() -> Outcome {
    let modalias = read_trimmed(&format!("{}/modalias", EDU.find()?.path().display()))?;
    let alias = format!("vfio_{modalias}");
    same(&alias, resolve(&alias)?.as_str(), "vfio_pci")?;
    same(
        "of the node",
        resolve("devname:vfio/vfio")?.as_str(),
        "vfio",
    )
}

/// Without an override, vfio-pci takes a device only if told its number.
fn new_id() -> Outcome {
    let pci = EDU.find()?;
    pci.release()?;
    pci.probe().ok();
    same("driver without an override", pci.driver(), None)?;
    fs::write("/sys/bus/pci/drivers/vfio-pci/new_id", "1234 11e8")?;
    let driver = pci.driver();
    fs::write("/sys/bus/pci/drivers/vfio-pci/remove_id", "1234 11e8")?;
    same("driver after new_id", driver.as_deref(), Some("vfio-pci"))
}

fn sysfs_folder_of_an_open_device() -> Outcome {
    let edu = open_edu()?;
    let info = read_trimmed(&format!("/proc/self/fdinfo/{}", edu.device.as_raw_fd()))?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("vfio-device-syspath: "));
    let path = fs::canonicalize(edu.bound.pci.path())?;
    if line.is_none() && is_rust_stack() {
        skip!("not told by this stack");
    }
    same("fdinfo", line, path.to_str())
}

/// What a device is called below its own folder, which there is for as long as it is bound.
fn vfio_dev(pci: &PciDevice) -> Result<Vec<String>> {
    let Ok(folder) = fs::read_dir(pci.path().join("vfio-dev")) else {
        return Ok(Vec::new());
    };
    Ok(folder
        .map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()))
        .collect::<io::Result<_>>()?)
}

/// By this folder libvirt tells drivers of VFIO from others.
fn name_of_a_device() -> Outcome {
    let bound = EDU.bind()?;
    let names = vfio_dev(&bound.pci)?;
    same("how many", names.len(), 1)?;
    let name = names.first().context("no name")?;
    let number = name
        .strip_prefix("vfio")
        .and_then(|n| n.parse::<u32>().ok());
    ensure!(number.is_some(), "{name} is no vfioN");
    let class = Path::new("/sys/class/vfio-dev").join(name);
    same(
        "of the class",
        fs::canonicalize(&class).context("class vfio-dev")?,
        fs::canonicalize(bound.pci.path())?
            .join("vfio-dev")
            .join(name),
    )?;
    same(
        "its device",
        fs::canonicalize(class.join("device"))?,
        fs::canonicalize(bound.pci.path())?,
    )?;
    same(
        "subsystem",
        target(class.join("subsystem")).as_deref(),
        Some("vfio-dev"),
    )?;
    bound.pci.release()?;
    same("after the unbinding", vfio_dev(&bound.pci)?, Vec::new())?;
    ensure!(!class.exists(), "{} stays", class.display());
    Ok(())
}

/// A device gets the lowest number that is free.
fn numbers_come_back() -> Outcome {
    let edus = all_edus()?;
    let [first, second, ..] = &edus[..] else {
        skip!("needs two edus");
    };
    first.bind_vfio()?;
    second.bind_vfio()?;
    let (one, two) = (vfio_dev(first)?, vfio_dev(second)?);
    ensure!(
        one != two && one.len() == 1 && two.len() == 1,
        "{one:?} {two:?}"
    );
    first.release()?;
    first.bind_vfio()?;
    same("bound again", vfio_dev(first)?, one)?;
    same("the other", vfio_dev(second)?, two)
}

suite!(
    iommus: All, debug: Answers;
    modules,
    parameters_of_vfio,
    parameters_of_type1,
    parameters_of_vfio_pci,
    container_node,
    group_node,
    major_in_proc_devices,
    driver_link,
    driver_folder,
    driver_and_module_name_each_other,
    alias_of_any_device,
    new_id,
    sysfs_folder_of_an_open_device,
    name_of_a_device,
    numbers_come_back,
);
