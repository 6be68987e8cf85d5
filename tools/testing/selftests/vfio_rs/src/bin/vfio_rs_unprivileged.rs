// SPDX-License-Identifier: GPL-2.0
//! Ordinary users: one who owns a group's node, and one who is handed descriptors of somebody who
//! does.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use vfio_client::uapi::*;
use vfio_client::{Container, Device, DmaBuf, Edu, Event, Group, counters};
use vfio_rs_selftests::nobody::{self, LIMIT, NOBODY, Passage};
use vfio_rs_selftests::process::Latch;
use vfio_rs_selftests::setup::{EDU, IOVA, Opened, PAGE, PATIENCE, open_edu, slowness};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, suite};

const MSI: u32 = VFIO_PCI_MSI_IRQ_INDEX;
const IN_USE: u32 = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET;

/// Registers, DMA and an interrupt of an edu device.
fn works(container: &Container, device: &Device) -> Outcome {
    let buf = DmaBuf::new(2 * PAGE as usize)?;
    container.map_buf(&buf, IOVA).context("MAP_DMA")?;
    let edu = Edu::new(device)?;
    let map = device.mmap(edu.bar(), 0, PAGE as usize).context("mmap")?;
    map.write32(4, 0x1234_5678);
    same("liveness", map.read32(4), !0x1234_5678)?;
    let event = Event::new()?;
    device.enable_irqs(MSI, &[event.as_raw_fd()])?;
    buf.fill_pattern(9);
    edu.fetch(IOVA, 256)?;
    edu.start_store_irq(IOVA + PAGE, 256)?;
    same("interrupts", event.wait(PATIENCE * slowness())?, Some(1))?;
    edu.ack_irq(vfio_client::edu::IRQ_DMA)?;
    same("data", buf.copy(PAGE as usize, 256), buf.copy(0, 256))?;
    same("unmapped", container.unmap(IOVA, 2 * PAGE)?, 2 * PAGE)
}

fn owner_of_the_node() -> Outcome {
    let bound = EDU.bind()?;
    nobody::give_node(&bound, NOBODY)?;
    nobody::expect_success(nobody::spawn(|| {
        let opened = bound.clone().open()?;
        works(&opened.container, &opened.device)
    })?)
}

fn send(passage: &Passage, opened: &Opened) -> Outcome {
    passage.send(&[
        opened.container.as_raw_fd(),
        opened.group.as_raw_fd(),
        opened.device.as_raw_fd(),
    ])
}

fn receive(passage: &Passage) -> Result<(Container, Group, Device)> {
    let [container, group, device] = passage.receive()?;
    Ok((container.into(), group.into(), device.into()))
}

/// QEMU under libvirt gets its descriptors so.
fn descriptors_work_without_rights() -> Outcome {
    let passage = Passage::new()?;
    let bound = EDU.bind()?;
    let user = nobody::spawn(|| {
        let (container, group, device) = receive(&passage)?;
        errno("open the node", Group::open(bound.group), Errno::EACCES)?;
        same("status", group.status()?, IN_USE)?;
        works(&container, &device)?;
        drop(device);
        works(&container, &group.device(&bound.pci.address)?)
    })?;
    let opened = bound.clone().open()?;
    send(&passage, &opened)?;
    nobody::expect_success(user)?;
    // They are as good as before.
    works(&opened.container, &opened.device)
}

/// The user does with container and group what usually the one does who opened them.
fn container_is_set_up_by_another() -> Outcome {
    let passage = Passage::new()?;
    let bound = EDU.bind()?;
    let user = nobody::spawn(|| {
        let [container, group] = passage.receive()?;
        let (container, group) = (Container::from(container), Group::from(group));
        group.set_container(&container)?;
        container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
        works(&container, &group.device(&bound.pci.address)?)?;
        Ok(group.unset_container()?)
    })?;
    let (container, group) = (Container::open()?, bound.open_group()?);
    passage.send(&[container.as_raw_fd(), group.as_raw_fd()])?;
    nobody::expect_success(user)?;
    same("status", group.status()?, VFIO_GROUP_FLAGS_VIABLE)
}

fn limit_is_that_of_who_maps() -> Outcome {
    let passage = Passage::new()?;
    let user = nobody::spawn(|| {
        let (container, _group, _device) = receive(&passage)?;
        let buf = DmaBuf::new((LIMIT as usize + 1) * PAGE as usize)?;
        errno("over it", container.map_buf(&buf, IOVA), Errno::ENOMEM)?;
        same("locked then", counters::locked_kib()?, 0)?;
        let buf = DmaBuf::new(LIMIT as usize * PAGE as usize)?;
        container.map_buf(&buf, IOVA).context("up to it")?;
        let kib = LIMIT * PAGE / 1024;
        same("locked", counters::locked_kib()?, kib)?;
        same("unmapped", container.unmap_all()?, LIMIT * PAGE)?;
        same("locked at the end", counters::locked_kib()?, 0)
    })?;
    let opened = open_edu()?;
    send(&passage, &opened)?;
    nobody::expect_success(user)?;
    same("locked by who opened it", counters::locked_kib()?, 0)?;
    // Root has none, whoever else used the container.
    setrlimit(Resource::RLIMIT_MEMLOCK, PAGE, PAGE)?;
    let _buf = opened.map_new(IOVA, 4 * LIMIT as usize)?;
    same("unmapped", opened.container.unmap_all()?, 4 * LIMIT * PAGE)
}

fn root_with_descriptors_of_a_user() -> Outcome {
    let passage = Passage::new()?;
    let bound = EDU.bind()?;
    nobody::give_node(&bound, NOBODY)?;
    let user = nobody::spawn(|| {
        let opened = bound.clone().open()?;
        send(&passage, &opened)
    })?;
    nobody::expect_success(user)?;
    // In the socket they stay open although their process is gone.
    errno("another open", Group::open(bound.group), Errno::EBUSY)?;
    let (container, _group, device) = receive(&passage)?;
    works(&container, &device)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, PAGE, PAGE)?;
    let buf = DmaBuf::new(4 * LIMIT as usize * PAGE as usize)?;
    container.map_buf(&buf, IOVA).context("over the limit")?;
    same("unmapped", container.unmap_all()?, 4 * LIMIT * PAGE)
}

fn unmapped_by_another() -> Outcome {
    let passage = Passage::new()?;
    let (mapped, unmapped) = (Latch::new()?, Latch::new()?);
    let user = nobody::spawn(|| {
        let (container, _group, _device) = receive(&passage)?;
        let buf = DmaBuf::new(8 * PAGE as usize)?;
        container.map_buf(&buf, IOVA)?;
        same("locked", counters::locked_kib()?, 8 * PAGE / 1024)?;
        mapped.open()?;
        unmapped.wait(PATIENCE * slowness())?;
        same("locked then", counters::locked_kib()?, 0)?;
        // And so there is room for as much as ever.
        let buf = DmaBuf::new(LIMIT as usize * PAGE as usize)?;
        container.map_buf(&buf, IOVA)?;
        same("unmapped", container.unmap_all()?, LIMIT * PAGE)
    })?;
    let opened = open_edu()?;
    send(&passage, &opened)?;
    mapped.wait(PATIENCE * slowness())?;
    same("unmapped", opened.container.unmap_all()?, 8 * PAGE)?;
    same("locked by who unmapped", counters::locked_kib()?, 0)?;
    unmapped.open()?;
    nobody::expect_success(user)
}

fn mapping_outlives_its_process() -> Outcome {
    let passage = Passage::new()?;
    let user = nobody::spawn(|| {
        let (container, _group, _device) = receive(&passage)?;
        let buf = DmaBuf::new(2 * PAGE as usize)?;
        buf.fill_pattern(5);
        Ok(container.map_buf(&buf, IOVA)?)
    })?;
    let opened = open_edu()?;
    send(&passage, &opened)?;
    nobody::expect_success(user)?;
    // The memory is only the device's now, with what the process left there.
    let edu = Edu::new(&opened.device)?;
    let buf = opened.map_new(IOVA + 2 * PAGE, 1)?;
    edu.fetch(IOVA + PAGE, 64)?;
    edu.store(IOVA + 2 * PAGE, 64)?;
    let want: Vec<u8> = (0..64)
        .map(|at| vfio_client::dma::pattern(5, PAGE as usize + at))
        .collect();
    ensure!(buf.copy(0, 64) == want, "not what the process wrote");
    same("unmapped", opened.container.unmap_all()?, 3 * PAGE)
}

suite!(
    iommus: All, debug: Answers;
    owner_of_the_node,
    descriptors_work_without_rights,
    container_is_set_up_by_another,
    limit_is_that_of_who_maps,
    root_with_descriptors_of_a_user,
    unmapped_by_another,
    mapping_outlives_its_process,
);
