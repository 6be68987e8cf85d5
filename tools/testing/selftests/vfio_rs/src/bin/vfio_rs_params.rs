// SPDX-License-Identifier: GPL-2.0
//! Parameters of the module vfio-pci, given when it is loaded and in sysfs.

use std::fs;
use std::path::Path;

use vfio_client::sysfs::{PciDevice, VFIO_PCI};
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::modules::{Set, VfioPci, modprobe, parameter};
use vfio_rs_selftests::setup::EDU;
use vfio_rs_selftests::{Context, Outcome, ensure, same, skip, suite};

const DRIVER: &str = "/sys/bus/pci/drivers/vfio-pci";

/// An edu device that no driver has.
fn free_edu() -> vfio_rs_selftests::Result<PciDevice> {
    let pci = EDU.find()?;
    pci.release()?;
    Ok(pci)
}

/// Takes an id back.
fn remove_id(id: &str) -> std::io::Result<()> {
    fs::write(format!("{DRIVER}/remove_id"), id)
}

/// Those that are on or off.
const SWITCHES: [&str; 5] = [
    "nointxmask",
    "disable_vga",
    "disable_idle_d3",
    "enable_sriov",
    "disable_denylist",
];

fn defaults() -> Outcome {
    let _module = VfioPci::load(&[])?;
    for name in SWITCHES {
        same(name, parameter("vfio_pci", name)?.as_str(), "N")?;
    }
    let noiommu = parameter("vfio", "enable_unsafe_noiommu_mode")?;
    same("no-IOMMU mode", noiommu.as_str(), "N")
}

fn given_at_load() -> Outcome {
    let module = VfioPci::load(&[
        "nointxmask=1",
        "disable_vga=1",
        "disable_idle_d3=y",
        "enable_sriov",
        "disable_denylist=Y",
    ])?;
    for name in SWITCHES {
        same(name, parameter("vfio_pci", name)?.as_str(), "Y")?;
    }
    drop(module);
    same(
        "after the next load",
        parameter("vfio_pci", "enable_sriov")?.as_str(),
        "N",
    )
}

fn written_in_sysfs() -> Outcome {
    for (module, name) in [
        ("vfio", "enable_unsafe_noiommu_mode"),
        ("vfio_pci", "nointxmask"),
        ("vfio_pci", "disable_idle_d3"),
        ("vfio_pci", "enable_sriov"),
    ] {
        let before = parameter(module, name)?;
        let set = Set::new(module, name, "1")?;
        same(name, parameter(module, name)?.as_str(), "Y")?;
        ensure!(
            Set::new(module, name, "maybe").is_err(),
            "{name} takes 'maybe'"
        );
        same(name, parameter(module, name)?.as_str(), "Y")?;
        drop(set);
        same(name, parameter(module, name)?, before)?;
    }
    ensure!(
        !Path::new("/sys/module/vfio_pci/parameters/ids").exists(),
        "ids is for the command line only"
    );
    Ok(())
}

/// What a device was bound with stays, whatever is written, and debugfs shows it.
fn latched_when_bound() -> Outcome {
    let pci = free_edu()?;
    let folder = Path::new("/sys/kernel/debug/vfio").join(&pci.address);
    if !Path::new("/sys/kernel/debug/vfio").exists() {
        skip!("a kernel without CONFIG_VFIO_DEBUGFS");
    }
    for (on, off) in [
        ("nointxmask", "disable_idle_d3"),
        ("disable_idle_d3", "nointxmask"),
    ] {
        let set = Set::new("vfio_pci", on, "1")?;
        pci.bind_vfio()?;
        let other = Set::new("vfio_pci", off, "1")?;
        drop(set);
        let read = |name| fs::read_to_string(folder.join("pci").join(name)).context(name);
        same(on, read(on)?.as_str(), "Y\n")?;
        same(off, read(off)?.as_str(), "N\n")?;
        drop(other);
        pci.release()?;
        ensure!(!folder.exists(), "{} stays", folder.display());
    }
    Ok(())
}

fn ids_bind_without_an_override() -> Outcome {
    let pci = free_edu()?;
    let mut log = Kmsg::now()?;
    let module = VfioPci::load(&["ids=1234:11e8"])?;
    log.expect("vfio_pci: add [1234:11e8[ffffffff:ffffffff]] class 0x000000/00000000")?;
    same("driver", pci.driver().as_deref(), Some(VFIO_PCI))?;
    remove_id("1234 11e8")?;
    // Bound devices stay.
    same(
        "driver after remove_id",
        pci.driver().as_deref(),
        Some(VFIO_PCI),
    )?;
    pci.release()?;
    pci.probe().ok();
    same("driver without the id", pci.driver(), None)?;
    drop(module);
    Ok(())
}

fn ids_are_forgotten_with_the_module() -> Outcome {
    let pci = free_edu()?;
    let module = VfioPci::load(&["ids=1234:11e8"])?;
    fs::write(format!("{DRIVER}/new_id"), "dead beef")?;
    same("driver", pci.driver().as_deref(), Some(VFIO_PCI))?;
    // Loads it without.
    drop(module);
    same("driver after the next load", pci.driver(), None)?;
    pci.probe().ok();
    same("driver asked again", pci.driver(), None)?;
    for id in ["1234 11e8", "dead beef"] {
        ensure!(remove_id(id).is_err(), "the id {id} is still there");
    }
    Ok(())
}

fn ids_in_all_forms() -> Outcome {
    let pci = free_edu()?;
    let mut log = Kmsg::now()?;
    // By number, by subsystem, by class; and what is no id.
    let _module = VfioPci::load(&[
        "ids=,dead:beef,1234:11e8:1af4:1101,0x1234:11e8:ffffffff:ffffffff:020000:ff0000,12,x:y,",
    ])?;
    let lines = log.lines()?;
    for text in [
        "vfio_pci: add [dead:beef[ffffffff:ffffffff]] class 0x000000/00000000",
        "vfio_pci: add [1234:11e8[1af4:1101]] class 0x000000/00000000",
        "vfio_pci: add [1234:11e8[ffffffff:ffffffff]] class 0x020000/00ff0000",
        "vfio_pci: invalid id string \"12\"",
        "vfio_pci: invalid id string \"x:y\"",
    ] {
        ensure!(
            lines.iter().any(|line| line.ends_with(text)),
            "no log line '{text}' but {lines:#?}"
        );
    }
    remove_id("dead beef")?;
    remove_id("1234 11e8 1af4 1101")?;
    remove_id("1234 11e8 ffffffff ffffffff 020000 ff0000")?;
    ensure!(remove_id("1234 11e8").is_err(), "an id too many");
    pci.release()?;
    Ok(())
}

fn too_many_ids() -> Outcome {
    let long = format!("ids={}", "1234:11e8,".repeat(110));
    let error = VfioPci::load(&[&long]).err();
    ensure!(
        error.is_some(),
        "{} bytes of ids are taken",
        long.len().saturating_sub(4)
    );
    // Dropped in `load`: it is there again.
    ensure!(
        Path::new("/sys/module/vfio_pci").is_dir(),
        "not loaded again"
    );
    Ok(())
}

fn options_of_modprobe() -> Outcome {
    let pci = free_edu()?;
    let file = "/etc/modprobe.d/vfio-rs-selftest.conf";
    fs::create_dir_all("/etc/modprobe.d")?;
    fs::write(file, "options vfio-pci ids=1234:11e8 nointxmask=1\n")?;
    let loaded = VfioPci::load(&[]);
    fs::remove_file(file)?;
    let _module = loaded?;
    let driver = pci.driver();
    pci.release()?;
    same("driver", driver.as_deref(), Some(VFIO_PCI))?;
    same(
        "nointxmask",
        parameter("vfio_pci", "nointxmask")?.as_str(),
        "Y",
    )
}

fn denylist_switched_off() -> Outcome {
    let mut log = Kmsg::now()?;
    let _module = VfioPci::load(&["disable_denylist=1"])?;
    log.expect("vfio_pci: device denylist disabled.")
}

fn module_by_its_other_name() -> Outcome {
    modprobe(&["-r", "vfio_pci"])?;
    let gone = !Path::new("/sys/module/vfio_pci").exists();
    let driver = Path::new(DRIVER).exists();
    modprobe(&["vfio_pci"])?;
    ensure!(gone, "vfio_pci stays");
    ensure!(!driver, "{DRIVER} stays");
    ensure!(Path::new(DRIVER).exists(), "no {DRIVER}");
    Ok(())
}

suite!(
    iommus: Vtd, debug: Answers;
    defaults,
    given_at_load,
    written_in_sysfs,
    latched_when_bound,
    ids_bind_without_an_override,
    ids_are_forgotten_with_the_module,
    ids_in_all_forms,
    too_many_ids,
    options_of_modprobe,
    denylist_switched_off,
    module_by_its_other_name,
);
