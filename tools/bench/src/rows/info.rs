// SPDX-License-Identifier: GPL-2.0
//! What there is to know, asked by one call with room for the whole answer, as by a client that
//! asked before.

use std::io;
use std::os::fd::AsRawFd;

use anyhow::Result;
use vfio_client::Device;
use vfio_client::sys;
use vfio_client::uapi::{
    DEVICE_GET_INFO, DEVICE_GET_IRQ_INFO, DEVICE_GET_REGION_INFO, DEVICE_RESET, IOMMU_GET_INFO,
    VFIO_PCI_BAR0_REGION_INDEX,
};

use crate::clock::Clock;
use crate::rows::device::ROUNDS;
use crate::sheet::Sheet;
use crate::space::Space;

/// Words of room, enough for each answer.
const WORDS: usize = 32;

/// All rows.
pub(crate) fn all(sheet: &mut Sheet<'_>, clock: Clock, space: &Space) {
    let device = &space.device;
    sheet.measure(["info_device"], || ask(clock, device, DEVICE_GET_INFO));
    sheet.measure(["info_region"], || {
        ask(clock, device, DEVICE_GET_REGION_INFO)
    });
    sheet.measure(["info_irq"], || ask(clock, device, DEVICE_GET_IRQ_INFO));
    sheet.measure(["info_iommu"], || match space.container() {
        Some(container) => ask(clock, container, IOMMU_GET_INFO),
        None => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
    });
    sheet.measure(["reset_none"], || reset(clock, device));
}

/// Asks for what begins with `argsz`, flags and an index, if any: of the first BAR, or of the pin.
fn ask(clock: Clock, file: &impl AsRawFd, nr: u32) -> Result<[f64; 1]> {
    const _: () = assert!(VFIO_PCI_BAR0_REGION_INDEX == 0);
    let mut words = [0; WORDS];
    let average = clock.best_tenth(ROUNDS, || {
        words[0] = size_of_val(&words) as u64;
        words[1] = 0;
        Ok(sys::with_buffer(file, nr, &mut words).map(drop)?)
    })?;
    Ok([average])
}

/// Asks for a reset of a device that has none, which fails.
fn reset(clock: Clock, device: &Device) -> Result<[f64; 1]> {
    if device.can_reset()? {
        return Err(io::Error::from(io::ErrorKind::Unsupported).into());
    }
    let average = clock.best_tenth(ROUNDS, || match sys::with_value(device, DEVICE_RESET, 0) {
        Err(_) => Ok(()),
        Ok(_) => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
    })?;
    Ok([average])
}
