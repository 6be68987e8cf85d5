// SPDX-License-Identifier: GPL-2.0
//! The device itself: opening, BARs, interrupts.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};
use vfio_client::config::COMMAND_MEMORY;
use vfio_client::irq::IrqData;
use vfio_client::uapi::{
    VFIO_IRQ_SET_ACTION_UNMASK, VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX,
};
use vfio_client::{Device, Edu, Event};

use crate::Devices;
use crate::clock::Clock;
use crate::rows::{config, info};
use crate::sheet::Sheet;
use crate::space::{Interface, Space};

/// How often steps are run: ticks of the clock, which come every now and then, are to even out.
pub(crate) const ROUNDS: u32 = 1000;
/// How often long ones are.
const FEW: u32 = 100;
/// Bytes of edu's BAR.
pub(crate) const BAR_SIZE: usize = 1 << 20;
/// Where in it nothing happens when it is read.
const IDLE: u64 = 0x1000;

/// All rows.
///
/// # Errors
/// If the device cannot be opened.
pub(crate) fn all(
    sheet: &mut Sheet<'_>,
    clock: Clock,
    interface: Interface,
    devices: &Devices,
) -> Result<()> {
    sheet.measure(["open", "close"], || open(clock, interface, devices));
    let space = Space::open(interface, &devices.edu)?;
    let device = &space.device;
    device.config()?.update_command(0, COMMAND_MEMORY)?;
    config::all(sheet, clock, device);
    info::all(sheet, clock, &space);
    sheet.measure(["bar_read"], || {
        read(clock, device, VFIO_PCI_BAR0_REGION_INDEX, 0, 4)
    });
    sheet.measure(["bar_read_page"], || {
        read(clock, device, VFIO_PCI_BAR0_REGION_INDEX, IDLE, 4096)
    });
    sheet.measure(["bar_mmap"], || bar_mmap(clock, device));
    sheet.measure(["msi_on_off"], || msi_on_off(clock, device));
    sheet.measure(["msi_trigger"], || msi_trigger(clock, device));
    sheet.measure(["intx"], || intx(clock, device));
    Ok(())
}

/// Opens all that it takes to a ready device, and closes it.
fn open(clock: Clock, interface: Interface, devices: &Devices) -> Result<[f64; 2]> {
    drop(Space::open(interface, &devices.edu)?);
    let mut sums = [0.0; 2];
    for _ in 0..FEW {
        let (space, open) = clock.time(|| Space::open(interface, &devices.edu))?;
        let ((), close) = clock.time(|| {
            drop(space);
            anyhow::Ok(())
        })?;
        sums[0] += open;
        sums[1] += close;
    }
    Ok(sums.map(|sum| sum / f64::from(FEW)))
}

/// Reads `len` bytes at `at` of a region.
pub(crate) fn read(
    clock: Clock,
    device: &Device,
    index: u32,
    at: u64,
    len: usize,
) -> Result<[f64; 1]> {
    let region = device.region(index)?;
    let mut buf = vec![0; len];
    let average = clock.best_tenth(ROUNDS, || {
        ensure!(device.read(&region, at, &mut buf)? == len, "fewer bytes");
        Ok(())
    })?;
    Ok([average])
}

/// Maps the BAR, reads one word, unmaps it.
fn bar_mmap(clock: Clock, device: &Device) -> Result<[f64; 1]> {
    let region = device.region(VFIO_PCI_BAR0_REGION_INDEX)?;
    let average = clock.best_tenth(ROUNDS, || {
        let bar = device.mmap(&region, 0, BAR_SIZE)?;
        std::hint::black_box(bar.read32(0));
        Ok(())
    })?;
    Ok([average])
}

/// Has one MSI signal an eventfd, and turns it off again.
fn msi_on_off(clock: Clock, device: &Device) -> Result<[f64; 1]> {
    let event = Event::new()?;
    let average = clock.average(ROUNDS, || {
        device.enable_irqs(VFIO_PCI_MSI_IRQ_INDEX, &[event.as_raw_fd()])?;
        Ok(device.disable_irqs(VFIO_PCI_MSI_IRQ_INDEX)?)
    })?;
    Ok([average])
}

/// Has the kernel trigger it, and reads the eventfd.
fn msi_trigger(clock: Clock, device: &Device) -> Result<[f64; 1]> {
    let event = Event::new()?;
    device.enable_irqs(VFIO_PCI_MSI_IRQ_INDEX, &[event.as_raw_fd()])?;
    let average = clock.best_tenth(ROUNDS, || {
        device.trigger_irqs(VFIO_PCI_MSI_IRQ_INDEX, 0, 1)?;
        event.take()?.context("no event came").map(drop)
    })?;
    device.disable_irqs(VFIO_PCI_MSI_IRQ_INDEX)?;
    Ok([average])
}

/// From an interrupt by the pin, through the eventfd and the device's register, to the pin
/// unmasked.
fn intx(clock: Clock, device: &Device) -> Result<[f64; 1]> {
    let edu = Edu::new(device)?;
    let event = Event::new()?;
    device.enable_irqs(VFIO_PCI_INTX_IRQ_INDEX, &[event.as_raw_fd()])?;
    let average = clock.best_tenth(ROUNDS, || {
        edu.raise_irq(1)?;
        event.take()?.context("no interrupt came")?;
        edu.ack_irq(1)?;
        device.set_irqs(
            VFIO_PCI_INTX_IRQ_INDEX,
            VFIO_IRQ_SET_ACTION_UNMASK,
            0,
            1,
            IrqData::None,
        )?;
        Ok(())
    })?;
    device.disable_irqs(VFIO_PCI_INTX_IRQ_INDEX)?;
    Ok([average])
}
