// SPDX-License-Identifier: GPL-2.0
//! Parameter nointxmask of vfio-pci: pins that are masked at the interrupt controller.

use std::os::fd::AsRawFd;
use std::thread::sleep;

use nix::errno::Errno;
use vfio_client::Event;
use vfio_rs_selftests::pin::{DISABLE, INTX, MASK, Pin, TRIGGER, UNMASK};
use vfio_rs_selftests::setup::{EDU, GLANCE, is_rust_stack};
use vfio_rs_selftests::{Outcome, Result, same, skip, suite};

/// Sets parameter nointxmask of vfio-pci, and puts it back.
struct NoIntxMask;

impl NoIntxMask {
    const PATH: &str = "/sys/module/vfio_pci/parameters/nointxmask";

    fn new() -> Result<Self> {
        std::fs::write(Self::PATH, "1")?;
        Ok(Self)
    }
}

impl Drop for NoIntxMask {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::PATH, "0");
    }
}

/// A device that may not be masked by its command register is masked at the interrupt controller.
fn line_of_its_own() -> Outcome {
    let set = NoIntxMask::new()?;
    // What counts is the value when it was bound.
    let bound = EDU.bind()?;
    drop(set);
    let opened = bound.open()?;
    let pin = match Pin::new(opened) {
        Err(e)
            if e.downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::raw_os_error)
                == Some(Errno::EBUSY as i32) =>
        {
            skip!("another device has the same line")
        }
        pin => pin?,
    };
    let edu = pin.edu()?;
    let unmask = Event::new()?;
    let real = || pin.real_disable();
    pin.unmask_by(unmask.as_raw_fd())?;
    for _ in 0..3 {
        edu.raise_irq(1)?;
        pin.heard("interrupts")?;
        same("real bit", real()?, 0)?;
        pin.silent("while masked")?;
        unmask.signal()?;
        pin.heard("still asserted, by eventfd")?;
        pin.act(UNMASK)?;
        pin.heard("still asserted, by call")?;
        edu.ack_irq(1)?;
        unmask.signal()?;
        pin.silent("without a cause")?;
    }
    // Masking twice takes one unmasking.
    pin.act(MASK)?;
    pin.act(MASK)?;
    pin.command(0, DISABLE)?;
    same("real bit of a disabled pin", real()?, 0)?;
    edu.raise_irq(1)?;
    pin.silent("disabled")?;
    pin.command(DISABLE, 0)?;
    pin.heard("enabled")?;
    edu.ack_irq(1)?;
    unmask.signal()?;
    pin.device().disable_irqs(INTX)?;
    pin.command(0, DISABLE)?;
    same("real bit of a pin not in use", real()?, 0)?;
    pin.device().enable_irqs(INTX, &[pin.trigger.as_raw_fd()])?;
    edu.raise_irq(1)?;
    pin.silent("disabled before")?;
    pin.command(DISABLE, 0)?;
    pin.heard("enabled after")?;
    if is_rust_stack() {
        // In C, an interrupt that unmasks itself at the controller keeps the CPU for ever.
        pin.unmask_by(pin.trigger.as_raw_fd())?;
        pin.act(TRIGGER)?;
        sleep(GLANCE);
    }
    edu.ack_irq(1)?;
    sleep(GLANCE);
    Ok(pin.device().disable_irqs(INTX)?)
}

suite!(iommus: Vtd, debug: Answers; line_of_its_own);
