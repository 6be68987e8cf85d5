// SPDX-License-Identifier: GPL-2.0
//! Helpers of the interrupt tests.

use std::fs;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use vfio_client::config::{COMMAND_MASTER, COMMAND_MEMORY};
use vfio_client::irq::IrqData;
use vfio_client::uapi::{VFIO_IRQ_SET_ACTION_TRIGGER as TRIGGER, vfio_irq_set};
use vfio_client::{Device, Event};

use crate::setup::Opened;
use crate::{Context, Outcome, Result, errno, same};

/// `count` new ones.
///
/// # Errors
/// errno of eventfd(2).
pub fn events(count: usize) -> Result<Vec<Event>> {
    Ok((0..count).map(|_| Event::new()).collect::<Result<_, _>>()?)
}

/// Their descriptors.
#[must_use]
pub fn fds(events: &[Event]) -> Vec<RawFd> {
    events.iter().map(AsRawFd::as_raw_fd).collect()
}

/// Takes the count of each.
///
/// # Errors
/// errno of read(2).
pub fn taken(events: &[Event]) -> Result<Vec<u64>> {
    Ok(events
        .iter()
        .map(|e| Ok(e.take()?.unwrap_or(0)))
        .collect::<std::io::Result<_>>()?)
}

/// VFIO_DEVICE_SET_IRQS with these fields and 64 zero bytes of data behind them.
///
/// # Errors
/// errno of the ioctl.
pub fn set(
    device: &Device,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
) -> std::io::Result<i32> {
    let head = vfio_irq_set {
        flags,
        index,
        start,
        count,
        ..Default::default()
    };
    device.set_irqs_raw(head, &[0; 64])
}

/// Turns on `count` vectors of interrupt `index`, has the kernel signal them in every way, and
/// turns them off.
///
/// # Errors
/// If one does not do as it should.
pub fn by_hand(device: &Device, index: u32, count: usize) -> Outcome {
    let events = events(count)?;
    same("enable", device.enable_irqs(index, &fds(&events))?, 0)?;
    device.trigger_irqs(index, 0, count as u32)?;
    same("after all", taken(&events)?, vec![1; count])?;
    let every_other: Vec<u8> = (0..count).map(|i| (i % 2) as u8).collect();
    device.set_irqs(index, TRIGGER, 0, count as u32, IrqData::Bool(&every_other))?;
    same(
        "after every other",
        taken(&events)?,
        every_other.iter().map(|b| u64::from(*b)).collect(),
    )?;
    device.trigger_irqs(index, count as u32 - 1, 1)?;
    device.trigger_irqs(index, count as u32 - 1, 1)?;
    same("the last, twice", taken(&events)?[count - 1], 2)?;
    let past = device.trigger_irqs(index, count as u32, 1);
    if device.irq_info(index)?.count as usize == count {
        errno("one past the end", past, Errno::EINVAL)?;
    }
    device.disable_irqs(index)?;
    errno("disable again", device.disable_irqs(index), Errno::EINVAL)?;
    errno(
        "trigger when off",
        device.trigger_irqs(index, 0, 1),
        Errno::EINVAL,
    )
}

/// Lets the device send interrupts; returns a function that writes to a register of BAR 0.
///
/// # Errors
/// The kernel's errno.
pub fn registers(opened: &Opened) -> Result<impl Fn(u64, u32) -> std::io::Result<()>> {
    opened
        .device
        .config()?
        .update_command(0, COMMAND_MASTER | COMMAND_MEMORY)?;
    let bar = opened.device.region(0)?;
    Ok(move |at, value| opened.device.write32(&bar, at, value))
}

/// A line of /proc/interrupts.
#[derive(Debug)]
pub struct Line {
    name: String,
    number: u32,
}

impl Line {
    /// The one that ends with `name`.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(name: &str) -> Result<Self> {
        let number = fields(name)?[0].trim_end_matches(':').parse()?;
        Ok(Self {
            name: name.to_owned(),
            number,
        })
    }

    /// Has this CPU handle it.
    ///
    /// # Errors
    /// errno of the write.
    pub fn route_to(&self, cpu: usize) -> Outcome {
        let path = format!("/proc/irq/{}/smp_affinity_list", self.number);
        fs::write(&path, cpu.to_string()).context(path)
    }

    /// How many interrupts have come, on all CPUs.
    ///
    /// # Errors
    /// If it is gone.
    pub fn count(&self) -> Result<u64> {
        let counts = fields(&self.name)?;
        Ok(counts[1..]
            .iter()
            .map_while(|n| n.parse::<u64>().ok())
            .sum())
    }
}

/// The words of the line that ends with `name`.
fn fields(name: &str) -> Result<Vec<String>> {
    let all = fs::read_to_string("/proc/interrupts")?;
    let line = all.lines().find(|line| line.ends_with(name));
    let line = line.with_context(|| format!("no interrupt {name}"))?;
    Ok(line.split_whitespace().map(str::to_owned).collect())
}
