// SPDX-License-Identifier: GPL-2.0
//! By `vfio-ioctls`, as a virtual machine monitor would.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use vfio_ioctls::{VfioContainer, VfioDevice};

use crate::edu::{self, COMMAND, COMMAND_ON, IOVA, PAGE, Page, Registers};

/// Region of the configuration space, and the interrupts of the device.
const CONFIG: u32 = 7;
const INTX: u32 = 0;
const MSI: u32 = 1;
const MSIX: u32 = 2;

impl Registers for VfioDevice {
    fn read(&self, at: u64) -> Result<u32> {
        let mut word = [0; 4];
        self.region_read(0, &mut word, at);
        Ok(u32::from_le_bytes(word))
    }

    fn write(&self, at: u64, value: u32) -> Result<()> {
        self.region_write(0, &value.to_le_bytes(), at);
        Ok(())
    }
}

fn device(path: &Path) -> Result<(Arc<VfioContainer>, VfioDevice)> {
    let container = Arc::new(VfioContainer::new(None)?);
    let device = VfioDevice::new(path, container.clone(), false)?;
    Ok((container, device))
}

/// Uses all of edu.
pub fn drive(path: &Path) -> Result<()> {
    let (container, edu) = device(path)?;
    edu.region_write(CONFIG, &COMMAND_ON.to_le_bytes(), COMMAND);
    edu::registers(&edu)?;

    let page = Page::new();
    // SAFETY: The page is only accessed by volatile operations until it is unmapped.
    unsafe { container.vfio_dma_map(IOVA, PAGE, page.as_ptr()) }?;
    edu::dma(&edu, &page)?;
    container.vfio_dma_unmap(IOVA, PAGE)?;
    let again = container.vfio_dma_unmap(IOVA, PAGE);
    ensure!(again.is_err(), "unmapped twice");

    let event = edu::event()?;
    edu.enable_msi(vec![&event])?;
    edu::interrupts(&edu, &event)?;
    edu.trigger_irq(MSI, 0)?;
    ensure!(event.read()? == 1, "triggered by hand");
    edu.disable_msi()?;
    edu.enable_irq(INTX, vec![&event])?;
    edu.disable_irq(INTX)?;
    Ok(())
}

/// Opens any device, reads what it is, resets it and tries all its interrupts.
pub fn open(path: &Path) -> Result<()> {
    let (_container, device) = device(path)?;
    let mut id = [0; 4];
    device.region_read(CONFIG, &mut id, 0);
    ensure!(u32::from_le_bytes(id) != u32::MAX, "no device there");
    device.reset();
    for index in [INTX, MSI, MSIX] {
        let count = device.get_irq_info(index).map_or(0, |info| info.count);
        if count == 0 {
            continue;
        }
        let count = count.min(4);
        let events = (0..count).map(|_| edu::event());
        let events = events.collect::<Result<Vec<_>>>()?;
        device.enable_irq(index, events.iter().collect())?;
        device.trigger_irq(index, count - 1)?;
        ensure!(events[count as usize - 1].read()? == 1, "interrupt {index}");
        device.disable_irq(index)?;
    }
    Ok(())
}
