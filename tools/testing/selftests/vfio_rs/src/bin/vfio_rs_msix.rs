// SPDX-License-Identifier: GPL-2.0
//! MSI-X on igb and e1000e: all vectors, blocks of them with holes, vectors added later, and one
//! raised by the device itself.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use vfio_client::Event;
use vfio_client::irq::IrqData;
use vfio_client::uapi::*;
use vfio_rs_selftests::irq::{by_hand, events, fds, registers, taken};
use vfio_rs_selftests::setup::{E1000E, IGB, Kind, PATIENCE, slowness};
use vfio_rs_selftests::{Outcome, ensure, errno, same, skip, suite};

const MSIX: u32 = VFIO_PCI_MSIX_IRQ_INDEX;
const TRIGGER: u32 = VFIO_IRQ_SET_ACTION_TRIGGER;

fn all_by_hand(kind: Kind) -> Outcome {
    let opened = kind.open()?;
    let count = opened.device.irq_info(MSIX)?.count;
    ensure!(count > 1, "{count} vectors");
    by_hand(&opened.device, MSIX, count as usize)?;
    // Again, with fewer: the first run must have left nothing.
    by_hand(&opened.device, MSIX, 2)
}

fn igb_by_hand() -> Outcome {
    all_by_hand(IGB)
}

fn e1000e_by_hand() -> Outcome {
    all_by_hand(E1000E)
}

fn one_event_for_all_vectors() -> Outcome {
    let opened = IGB.open()?;
    let event = Event::new()?;
    opened.device.enable_irqs(MSIX, &[event.as_raw_fd(); 4])?;
    opened.device.trigger_irqs(MSIX, 0, 4)?;
    same("signals", event.take()?, Some(4))
}

fn holes_and_blocks() -> Outcome {
    let opened = IGB.open()?;
    let device = &opened.device;
    let four = events(4)?;
    let some = |wanted: [usize; 4]| {
        (0..4)
            .map(|i| {
                if wanted[i] == 1 {
                    four[i].as_raw_fd()
                } else {
                    -1
                }
            })
            .collect::<Vec<_>>()
    };
    device.enable_irqs(MSIX, &some([1, 0, 1, 0]))?;
    device.trigger_irqs(MSIX, 0, 4)?;
    same("two of four", taken(&four)?, vec![1, 0, 1, 0])?;
    device.set_irqs(
        MSIX,
        TRIGGER,
        1,
        1,
        IrqData::Eventfd(&[four[1].as_raw_fd()]),
    )?;
    device.set_irqs(
        MSIX,
        TRIGGER,
        2,
        2,
        IrqData::Eventfd(&[-1, four[3].as_raw_fd()]),
    )?;
    device.trigger_irqs(MSIX, 0, 4)?;
    same("three of four", taken(&four)?, vec![1, 1, 0, 1])?;
    // A block with a bad descriptor is taken out whole.
    let bad = device.set_irqs(
        MSIX,
        TRIGGER,
        0,
        2,
        IrqData::Eventfd(&[four[0].as_raw_fd(), 999]),
    );
    errno("a bad descriptor in a block", bad, Errno::EBADF)?;
    device.trigger_irqs(MSIX, 0, 4)?;
    same("what is left", taken(&four)?, vec![0, 0, 0, 1])?;
    Ok(device.disable_irqs(MSIX)?)
}

fn grows() -> Outcome {
    let opened = IGB.open()?;
    let device = &opened.device;
    if device.irq_info(MSIX)?.flags & VFIO_IRQ_INFO_NORESIZE != 0 {
        skip!("vectors cannot be added here");
    }
    let three = events(3)?;
    device.enable_irqs(MSIX, &[three[0].as_raw_fd()])?;
    device.set_irqs(MSIX, TRIGGER, 1, 2, IrqData::Eventfd(&fds(&three)[1..]))?;
    device.trigger_irqs(MSIX, 0, 3)?;
    same("all three", taken(&three)?, vec![1, 1, 1])?;
    Ok(device.disable_irqs(MSIX)?)
}

/// igb raises a vector by itself: extended interrupt causes are routed one to one, and software
/// sets one.
fn raised_by_igb() -> Outcome {
    const EICS: u64 = 0x1520;
    const EIMS: u64 = 0x1524;
    const EIAC: u64 = 0x152c;
    const GPIE: u64 = 0x1514;
    let opened = IGB.open()?;
    let three = events(3)?;
    opened.device.enable_irqs(MSIX, &fds(&three))?;
    let write = registers(&opened)?;
    write(GPIE, 0x10)?;
    write(EIAC, 7)?;
    write(EIMS, 7)?;
    for (vector, event) in three.iter().enumerate() {
        write(EICS, 1 << vector)?;
        same("interrupts", event.wait(PATIENCE * slowness())?, Some(1))?;
        same("on all", taken(&three)?, vec![0; 3])?;
    }
    Ok(())
}

suite!(
    iommus: All, debug: Answers;
    igb_by_hand,
    e1000e_by_hand,
    one_event_for_all_vectors,
    holes_and_blocks,
    grows,
    raised_by_igb,
);
