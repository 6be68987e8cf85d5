// SPDX-License-Identifier: GPL-2.0
//! The whole life of an assigned device, on edu: open, registers, DMA both ways, interrupts, close,
//! and again.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::WaitStatus;
use nix::unistd::execv;
use vfio_client::config::{self, COMMAND_MASTER, COMMAND_MEMORY};
use vfio_client::dma::pattern;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Edu, Event, counters};
use vfio_rs_selftests::process::{self, Latch};
use vfio_rs_selftests::setup::{EDU, IOVA, PAGE, PATIENCE, open_edu, read_trimmed, slowness};
use vfio_rs_selftests::{Outcome, ensure, errno, same, suite};

const VIABLE: u32 = VFIO_GROUP_FLAGS_VIABLE;
const IN_CONTAINER: u32 = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET;

fn whole_life() -> Outcome {
    let bound = EDU.bind()?;
    for _ in 0..2 {
        let container = Container::open()?;
        same("API version", container.api_version()?, 0)?;
        same(
            "type1v2 offered",
            container.check_extension(VFIO_TYPE1v2_IOMMU)?,
            1,
        )?;
        let group = bound.open_group()?;
        same("status at first", group.status()?, VIABLE)?;
        group.set_container(&container)?;
        same("status in a container", group.status()?, IN_CONTAINER)?;
        container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
        let device = group.device(&bound.pci.address)?;
        let info = device.info()?;
        same(
            "flags",
            info.flags & !VFIO_DEVICE_FLAGS_CAPS,
            VFIO_DEVICE_FLAGS_PCI,
        )?;
        ensure!(
            info.num_regions >= VFIO_PCI_NUM_REGIONS,
            "{} regions",
            info.num_regions
        );
        ensure!(
            info.num_irqs >= VFIO_PCI_NUM_IRQS,
            "{} interrupts",
            info.num_irqs
        );
        drop(device);
        group.unset_container()?;
        same("status after UNSET_CONTAINER", group.status()?, VIABLE)?;
    }
    Ok(())
}

fn open_close_many_times() -> Outcome {
    let bound = EDU.bind()?;
    let rounds = if slowness() > 1 { 5 } else { 20 };
    for _ in 0..rounds {
        let edu = bound.clone().open()?;
        let _buf = edu.map_new(IOVA, 1)?;
        Edu::new(&edu.device)?;
    }
    Ok(())
}

fn two_descriptors_of_one_device() -> Outcome {
    let first = open_edu()?;
    let second = first.group.device(&first.bound.pci.address)?;
    ensure!(
        first.device.as_raw_fd() != second.as_raw_fd(),
        "the same descriptor twice"
    );
    Edu::new(&first.device)?;
    let name = first.bound.pci.address.clone();
    drop(first.device);
    // Closing one must not take the device from the other.
    let edu = Edu::new(&second)?;
    same("liveness", edu.liveness(0x1234)?, !0x1234)?;
    errno(
        "UNSET_CONTAINER",
        first.group.unset_container(),
        Errno::EBUSY,
    )?;
    drop(second);
    first.group.device(&name)?;
    Ok(())
}

fn config_space() -> Outcome {
    let edu = open_edu()?;
    let config = edu.device.config()?;
    same("vendor", config.read16(config::VENDOR)?, EDU.id.0)?;
    same("device", config.read16(config::DEVICE)?, EDU.id.1)?;
    let file = std::fs::metadata(edu.bound.pci.path().join("config"))?;
    same("size", config.region().size, file.len())?;
    let mut all = vec![0; config.region().size as usize];
    same(
        "bytes of a read of all",
        edu.device.read(config.region(), 0, &mut all)?,
        all.len(),
    )?;
    same("first bytes", &all[..4], &[0x34, 0x12, 0xe8, 0x11])?;
    same(
        "bus mastering when just opened",
        config.read16(config::COMMAND)? & COMMAND_MASTER,
        0,
    )?;
    config.update_command(0, COMMAND_MASTER)?;
    same(
        "after setting it",
        config.read16(config::COMMAND)? & COMMAND_MASTER,
        COMMAND_MASTER,
    )?;
    config.update_command(COMMAND_MASTER, 0)?;
    same(
        "after clearing it",
        config.read16(config::COMMAND)? & COMMAND_MASTER,
        0,
    )?;
    config.write16(config::VENDOR, 0xdead)?;
    same(
        "vendor after writing it",
        config.read16(config::VENDOR)?,
        EDU.id.0,
    )?;
    config.update_command(0, COMMAND_MEMORY)?;
    // Sizing of BAR 0: 1 MiB of 32-bit memory.
    let old = config.read32(config::BAR0)?;
    config.write32(config::BAR0, !0)?;
    same(
        "BAR 0 while sizing",
        config.read32(config::BAR0)?,
        0xfff0_0000,
    )?;
    config.write32(config::BAR0, old)?;
    same("BAR 0 restored", config.read32(config::BAR0)?, old)
}

fn registers_by_read_and_write() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    same("ident", edu.ident()? & 0xff, vfio_client::edu::IDENT)?;
    same("liveness", edu.liveness(0xabcd_1234)?, !0xabcd_1234)?;
    same("10!", edu.factorial(10)?, 3_628_800)
}

fn registers_by_mmap() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    ensure!(edu.bar().can_mmap(), "BAR 0 says it cannot be mapped");
    let map = opened.device.mmap(edu.bar(), 0, edu.bar().size as usize)?;
    same("ident", map.read32(0), edu.ident()?)?;
    map.write32(4, 0x5555_aaaa);
    same("liveness", map.read32(4), !0x5555_aaaa)?;
    same(
        "the same by read",
        opened.device.read32(edu.bar(), 4)?,
        !0x5555_aaaa,
    )
}

fn dma_out_and_in() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let (from, to) = (opened.map_new(IOVA, 1)?, opened.map_new(IOVA + PAGE, 1)?);
    from.fill_pattern(7);
    edu.fetch(IOVA, PAGE as usize)?;
    edu.store(IOVA + PAGE, PAGE as usize)?;
    same(
        "what arrived",
        to.copy(0, to.len()),
        from.copy(0, from.len()),
    )
}

fn dma_of_a_few_bytes() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let buf = opened.map_new(IOVA, 2)?;
    buf.fill_pattern(3);
    edu.fetch(IOVA + 5, 100)?;
    buf.fill(0xee);
    // Over the border of two pages.
    edu.store(IOVA + PAGE - 50, 100)?;
    let want: Vec<u8> = (5..105).map(|i| pattern(3, i)).collect();
    same("what arrived", buf.copy(PAGE as usize - 50, 100), want)?;
    ensure!(
        buf.is_filled(0, PAGE as usize - 50, 0xee),
        "bytes before it changed"
    );
    ensure!(
        buf.is_filled(PAGE as usize + 50, PAGE as usize - 50, 0xee),
        "bytes behind it changed"
    );
    Ok(())
}

fn dma_needs_bus_mastering() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let buf = opened.map_new(IOVA, 1)?;
    buf.fill(0x11);
    edu.fetch(IOVA, 64)?;
    buf.fill(0x22);
    opened.device.config()?.update_command(COMMAND_MASTER, 0)?;
    edu.store(IOVA, 64)?;
    ensure!(
        buf.is_filled(0, PAGE as usize, 0x22),
        "the device wrote without being a bus master"
    );
    Ok(())
}

fn many_mappings() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let bufs: Vec<DmaBuf> = (0..64)
        .map(|i| opened.map_new(IOVA + i * 2 * PAGE, 1))
        .collect::<Result<_, _>>()?;
    for (i, buf) in bufs.iter().enumerate() {
        buf.fill(i as u8);
    }
    for i in [0, 17, 63] {
        edu.fetch(IOVA + i * 2 * PAGE, 16)?;
        edu.store(IOVA + 5 * 2 * PAGE, 16)?;
        ensure!(
            bufs[5].is_filled(0, 16, i as u8),
            "page {i} was not the one read"
        );
    }
    same(
        "unmapped",
        opened.container.unmap(IOVA, 128 * PAGE)?,
        64 * PAGE,
    )
}

fn interrupt() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let event = Event::new()?;
    opened
        .device
        .enable_irqs(VFIO_PCI_MSI_IRQ_INDEX, &[event.as_raw_fd()])?;
    for bits in [1, 0x42] {
        edu.raise_irq(bits)?;
        same("interrupts", event.wait(PATIENCE * slowness())?, Some(1))?;
        same("status", edu.irq_status()?, bits)?;
        edu.ack_irq(bits)?;
        same("status when done", edu.irq_status()?, 0)?;
    }
    opened.device.disable_irqs(VFIO_PCI_MSI_IRQ_INDEX)?;
    edu.raise_irq(1)?;
    same("interrupts when off", event.take()?, None)?;
    Ok(edu.ack_irq(1)?)
}

fn interrupt_at_end_of_dma() -> Outcome {
    let opened = open_edu()?;
    let edu = Edu::new(&opened.device)?;
    let event = Event::new()?;
    opened
        .device
        .enable_irqs(VFIO_PCI_MSI_IRQ_INDEX, &[event.as_raw_fd()])?;
    let buf = opened.map_new(IOVA, 1)?;
    buf.fill(0x77);
    edu.fetch(IOVA, 256)?;
    buf.fill(0);
    edu.start_store_irq(IOVA, 256)?;
    same("interrupts", event.wait(PATIENCE * slowness())?, Some(1))?;
    same("status", edu.irq_status()?, vfio_client::edu::IRQ_DMA)?;
    edu.ack_irq(vfio_client::edu::IRQ_DMA)?;
    ensure!(buf.is_filled(0, 256, 0x77), "interrupt before the data");
    Ok(())
}

fn no_reset() -> Outcome {
    let edu = open_edu()?;
    ensure!(!edu.device.can_reset()?, "edu has no reset, yet says so");
    errno("RESET", edu.device.reset(), Errno::EINVAL)
}

/// What a process has mapped outlives the program that it runs: the memory stays the device's, and
/// the new program, whose memory is another, has none of it locked.
fn across_exec() -> Outcome {
    let opened = open_edu()?;
    let before = counters::pinned_pages()?;
    let mapped = Latch::new()?;
    let mut child = process::spawn(|| {
        let work = || -> Outcome {
            let buf = opened.map_new(IOVA, 16)?;
            buf.fill(0x5a);
            same("locked KiB", counters::locked_kib()?, 16 * PAGE / 1024)?;
            mapped.open()?;
            execv(c"/bin/sleep", &[c"sleep", c"1000"])?;
            Ok(())
        };
        work().is_err().into()
    })?;
    mapped.wait(PATIENCE * slowness())?;
    let name = format!("/proc/{}/comm", child.pid);
    let end = Instant::now() + PATIENCE * slowness();
    while read_trimmed(&name)? != "sleep" {
        ensure!(Instant::now() < end, "no other program is run");
        std::thread::sleep(Duration::from_millis(5));
    }
    let locked = counters::locked_kib_of(child.pid.as_raw())?;
    same("locked by the new program", locked, 0)?;
    same("pinned", counters::pinned_pages()? - before, 16)?;
    let buf = opened.map_new(0x80_0000, 1)?;
    let edu = Edu::new(&opened.device)?;
    edu.fetch(IOVA, 64)?;
    edu.store(0x80_0000, 64)?;
    ensure!(
        buf.is_filled(0, 64, 0x5a),
        "the old program's memory is gone"
    );
    same(
        "unmapped",
        opened.container.unmap(IOVA, 16 * PAGE)?,
        16 * PAGE,
    )?;
    let locked = counters::locked_kib_of(child.pid.as_raw())?;
    same("locked by the new program then", locked, 0)?;
    same("locked by us", counters::locked_kib()?, PAGE / 1024)?;
    child.kill()?;
    Ok(())
}

/// Of two processes with one memory it does not matter which one maps, nor that it ends.
fn by_another_with_the_same_memory() -> Outcome {
    let opened = open_edu()?;
    let buf = DmaBuf::new(16 * PAGE as usize)?;
    let map = || opened.container.map_buf(&buf, IOVA).is_ok();
    let status = process::twin(&map, |_| Ok(()))?;
    ensure!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    same("locked KiB", counters::locked_kib()?, 16 * PAGE / 1024)?;
    let unmap = || opened.container.unmap(IOVA, 16 * PAGE).is_ok();
    let status = process::twin(&unmap, |_| Ok(()))?;
    ensure!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    same("locked KiB then", counters::locked_kib()?, 0)
}

suite!(
    iommus: All, debug: Answers;
    whole_life,
    open_close_many_times,
    two_descriptors_of_one_device,
    config_space,
    registers_by_read_and_write,
    registers_by_mmap,
    dma_out_and_in,
    dma_of_a_few_bytes,
    dma_needs_bus_mastering,
    many_mappings,
    interrupt,
    interrupt_at_end_of_dma,
    no_reset,
    across_exec,
    by_another_with_the_same_memory,
);
