// SPDX-License-Identifier: GPL-2.0
//! The configuration space: what drivers in a guest read and write again and again.

use anyhow::Result;
use vfio_client::Device;
use vfio_client::config::{BAR0, COMMAND, COMMAND_MEMORY};
use vfio_client::uapi::{VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX};

use crate::clock::Clock;
use crate::rows::device::{BAR_SIZE, ROUNDS, read};
use crate::sheet::Sheet;

/// The register that only tells drivers something, `PCI_INTERRUPT_LINE`.
const INTERRUPT_LINE: u64 = 0x3c;

/// All rows; the device's memory is on.
pub(crate) fn all(sheet: &mut Sheet<'_>, clock: Clock, device: &Device) {
    sheet.measure(["config_read"], || {
        read(clock, device, VFIO_PCI_CONFIG_REGION_INDEX, 0, 4)
    });
    sheet.measure(["config_write"], || write(clock, device));
    sheet.measure(["config_command"], || command(clock, device));
    sheet.measure(["config_bar"], || size_bar(clock, device));
    sheet.measure(["memory_off_on"], || memory_off_on(clock, device));
}

/// Writes a register that is the user's alone.
fn write(clock: Clock, device: &Device) -> Result<[f64; 1]> {
    let config = device.config()?;
    let average = clock.best_tenth(ROUNDS, || Ok(config.write8(INTERRUPT_LINE, 11)?))?;
    Ok([average])
}

/// Writes the command register, with what is in it.
fn command(clock: Clock, device: &Device) -> Result<[f64; 1]> {
    let config = device.config()?;
    let command = config.read16(COMMAND)?;
    let average = clock.best_tenth(ROUNDS, || Ok(config.write16(COMMAND, command)?))?;
    Ok([average])
}

/// Asks a BAR for its size: writes ones, reads, writes back.
fn size_bar(clock: Clock, device: &Device) -> Result<[f64; 1]> {
    let config = device.config()?;
    let bar = config.read32(BAR0)?;
    let average = clock.best_tenth(ROUNDS, || {
        config.write32(BAR0, u32::MAX)?;
        std::hint::black_box(config.read32(BAR0)?);
        Ok(config.write32(BAR0, bar)?)
    })?;
    Ok([average])
}

/// Switches memory off and on with a BAR mapped and touched.
fn memory_off_on(clock: Clock, device: &Device) -> Result<[f64; 1]> {
    let config = device.config()?;
    let region = device.region(VFIO_PCI_BAR0_REGION_INDEX)?;
    let bar = device.mmap(&region, 0, BAR_SIZE)?;
    let command = config.read16(COMMAND)?;
    let average = clock.best_tenth(ROUNDS, || {
        std::hint::black_box(bar.read32(0));
        config.write16(COMMAND, command & !COMMAND_MEMORY)?;
        Ok(config.write16(COMMAND, command)?)
    })?;
    Ok([average])
}
