// SPDX-License-Identifier: GPL-2.0
//! What debugfs shows of groups, containers and mappings, and that looking is harmless.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf};
use vfio_rs_selftests::merge::pair;
use vfio_rs_selftests::modules::modprobe;
use vfio_rs_selftests::nobody;
use vfio_rs_selftests::process::{self, Latch};
use vfio_rs_selftests::setup::{Bound, EDU, IOVA, PAGE, PATIENCE, is_rust_stack, slowness};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite};

const GROUPS: &str = "/sys/kernel/debug/vfio_rs/groups";
const MAPPINGS: &str = "/sys/kernel/debug/vfio_rs/mappings";

fn available() -> Outcome {
    if !is_rust_stack() {
        skip!("C VFIO has no such files");
    }
    if !Path::new(GROUPS).exists() {
        skip!("no debugfs");
    }
    Ok(())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.to_owned())
}

/// The line about a group, without its head, and those about its devices.
fn group(bound: &Bound) -> Result<(String, Vec<String>)> {
    let text = read(GROUPS)?;
    let head = format!("group {}: ", bound.group);
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&head));
    let first = lines
        .next()
        .with_context(|| format!("no '{head}' in {text}"))?;
    let devices = lines.take_while(|line| line.starts_with("  "));
    Ok((
        first[head.len()..].to_owned(),
        devices.map(|line| line.trim().to_owned()).collect(),
    ))
}

/// The part of the mappings that is about the container of a group.
fn mappings(bound: &Bound) -> Result<Vec<String>> {
    let (line, _) = group(bound)?;
    let number = line.split(", ").find(|part| part.starts_with("container "));
    let head = format!("{}: ", number.with_context(|| line.clone())?);
    let text = read(MAPPINGS)?;
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&head));
    let first = lines
        .next()
        .with_context(|| format!("no '{head}' in {text}"))?;
    let mut part = vec![first[head.len()..].to_owned()];
    part.extend(
        lines
            .take_while(|line| line.starts_with("  "))
            .map(|line| line.trim().to_owned()),
    );
    Ok(part)
}

fn group_through_its_life() -> Outcome {
    available()?;
    let bound = EDU.bind()?;
    let device = vec![format!("{}, driver vfio-pci: viable", bound.pci.address)];
    let is = |when: &str, text: &str| -> Outcome {
        same(when, group(&bound)?, (text.to_owned(), device.clone()))
    };
    is("closed", "viable, closed, no owner, opens of devices 0")?;
    let opened = bound.open_group()?;
    let me = std::process::id();
    is(
        "open",
        &format!("viable, open by {me}, no owner, opens of devices 0"),
    )?;
    let container = Container::open()?;
    opened.set_container(&container)?;
    same(
        "no IOMMU yet",
        mappings(&bound)?,
        vec!["no address space".to_owned()],
    )?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    let _twice = (
        opened.device(&bound.pci.address)?,
        opened.device(&bound.pci.address)?,
    );
    let (line, _) = group(&bound)?;
    ensure!(
        line.starts_with(&format!("viable, open by {me}, container "))
            && line.ends_with(", opens of devices 2"),
        "in use: {line}"
    );
    let buf = DmaBuf::new(2 * PAGE as usize)?;
    container.map_buf(&buf, IOVA)?;
    container.map(VFIO_DMA_MAP_FLAG_READ, buf.addr(), 0x40_0000, PAGE)?;
    let part = mappings(&bound)?;
    ensure!(part[0].starts_with("type1v2, groups 1, "), "{part:?}");
    same(
        "mappings",
        &part[1..],
        &[
            format!("{IOVA:#x}-{:#x} memory", IOVA + 2 * PAGE - 1),
            "0x400000-0x400fff memory".to_owned(),
        ],
    )?;
    container.unmap_all()?;
    same("mappings then", mappings(&bound)?.len(), 1)
}

fn group_that_joined() -> Outcome {
    available()?;
    let p = pair()?;
    p.leader.merge(&p.other)?;
    let _device = p.leader.device(p.groups[1].name())?;
    let [leader, member] = [&p.groups[0], &p.groups[1]].map(|g| &g.devices[0]);
    let container = mappings(leader)?;
    same("its container", mappings(member)?, container)?;
    let (line, _) = group(member)?;
    let joined = format!("viable, open by {}, joined group ", std::process::id());
    ensure!(
        line.starts_with(&format!("{joined}{}, container ", leader.group))
            && line.ends_with(", opens of devices 1"),
        "{line}"
    );
    let (line, _) = group(leader)?;
    ensure!(line.ends_with(", opens of devices 0"), "leader: {line}");
    Ok(())
}

fn output_is_bounded() -> Outcome {
    available()?;
    let bound = EDU.bind()?;
    let (container, _group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let buf = DmaBuf::new(PAGE as usize)?;
    for at in 0..2000 {
        container.map_buf(&buf, IOVA + at * PAGE)?;
    }
    let part = mappings(&bound)?;
    same("lines", part.len(), 1 + 1024 + 1)?;
    same("the last", part[1025].as_str(), "and more")?;
    same("unmapped", container.unmap_all()?, 2000 * PAGE)
}

fn for_root_to_read() -> Outcome {
    available()?;
    for path in [GROUPS, MAPPINGS] {
        let mode = fs::metadata(path)?.permissions().mode() & 0o777;
        same("mode", mode, 0o400)?;
    }
    nobody::expect_success(nobody::spawn(|| {
        errno("open", File::open(GROUPS), Errno::EACCES)
    })?)
}

/// A file that is open holds the module.
fn open_file_survives() -> Outcome {
    available()?;
    let mut file = File::open(GROUPS)?;
    modprobe(&["-r", "vfio-pci", "vfio_iommu_type1", "vfio"])?;
    let removed = modprobe(&["-r", "vfio_rs"]);
    let mut text = String::new();
    let readable = file.read_to_string(&mut text);
    drop(file);
    modprobe(&["vfio-pci"])?;
    ensure!(removed.is_err(), "the module went with its file open");
    readable?;
    Ok(())
}

/// Reads all the time while groups, containers, mappings and devices come and go.
fn reading_races_with_everything() -> Outcome {
    available()?;
    let (ready, done) = (Latch::new()?, Latch::new()?);
    let reader = process::spawn(|| {
        let loops = || -> Outcome {
            ready.open()?;
            while done.wait(std::time::Duration::ZERO).is_err() {
                read(GROUPS)?;
                read(MAPPINGS)?;
            }
            Ok(())
        };
        loops().is_err().into()
    })?;
    ready.wait(PATIENCE * slowness())?;
    let rounds = if slowness() > 1 { 5 } else { 30 };
    for _ in 0..rounds {
        let bound = EDU.bind()?;
        let opened = bound.clone().open()?;
        let _buf = opened.map_new(IOVA, 4)?;
        drop(opened);
        bound.pci.release()?;
    }
    done.open()?;
    nobody::expect_success(reader)
}

suite!(
    iommus: All, debug: Lifetimes;
    group_through_its_life,
    group_that_joined,
    output_is_bounded,
    for_root_to_read,
    reading_races_with_everything,
    open_file_survives,
);
