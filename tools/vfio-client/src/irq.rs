// SPDX-License-Identifier: GPL-2.0
//! Interrupts of a device, delivered through eventfds.

use std::io;
use std::os::fd::RawFd;

use crate::device::Device;
use crate::sys;
use crate::uapi::*;

/// Data of a VFIO_DEVICE_SET_IRQS call: its type flag and tail.
#[derive(Debug, Clone, Copy)]
pub enum IrqData<'a> {
    /// DATA_NONE.
    None,
    /// DATA_BOOL: one byte per vector.
    Bool(&'a [u8]),
    /// DATA_EVENTFD: one descriptor per vector, -1 for a hole.
    Eventfd(&'a [RawFd]),
}

impl IrqData<'_> {
    fn flag(&self) -> u32 {
        match self {
            Self::None => VFIO_IRQ_SET_DATA_NONE,
            Self::Bool(_) => VFIO_IRQ_SET_DATA_BOOL,
            Self::Eventfd(_) => VFIO_IRQ_SET_DATA_EVENTFD,
        }
    }

    fn tail(&self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Bool(bools) => bools.to_vec(),
            Self::Eventfd(fds) => fds.iter().flat_map(|fd| fd.to_ne_bytes()).collect(),
        }
    }
}

impl Device {
    /// VFIO_DEVICE_GET_IRQ_INFO.
    ///
    /// # Errors
    /// EINVAL if the device knows no interrupt `index`.
    pub fn irq_info(&self, index: u32) -> io::Result<vfio_irq_info> {
        let mut info = vfio_irq_info {
            argsz: argsz::<vfio_irq_info>(),
            index,
            ..Default::default()
        };
        sys::with_struct(self, DEVICE_GET_IRQ_INFO, &mut info)?;
        Ok(info)
    }

    /// VFIO_DEVICE_SET_IRQS with header and tail as given: nothing is computed, anything may be
    /// wrong. `argsz` is added to the header only if `head.argsz` is 0.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn set_irqs_raw(&self, head: vfio_irq_set, tail: &[u8]) -> io::Result<i32> {
        let head_len = size_of::<vfio_irq_set>();
        let mut buf = sys::buffer(head_len + tail.len());
        let argsz = if head.argsz == 0 {
            (head_len + tail.len()) as u32
        } else {
            head.argsz
        };
        let bytes = sys::bytes_mut(&mut buf);
        sys::write_struct(bytes, vfio_irq_set { argsz, ..head });
        bytes[head_len..head_len + tail.len()].copy_from_slice(tail);
        sys::with_buffer(self, DEVICE_SET_IRQS, &mut buf)
    }

    /// VFIO_DEVICE_SET_IRQS: `action` is `VFIO_IRQ_SET_ACTION_*`. Returns what the ioctl returned:
    /// 0, or the number of vectors to be had if fewer than asked.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn set_irqs(
        &self,
        index: u32,
        action: u32,
        start: u32,
        count: u32,
        data: IrqData<'_>,
    ) -> io::Result<i32> {
        let head = vfio_irq_set {
            flags: action | data.flag(),
            index,
            start,
            count,
            ..Default::default()
        };
        self.set_irqs_raw(head, &data.tail())
    }

    /// Has vectors `0..fds.len()` of `index` signal `fds`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn enable_irqs(&self, index: u32, fds: &[RawFd]) -> io::Result<i32> {
        self.set_irqs(
            index,
            VFIO_IRQ_SET_ACTION_TRIGGER,
            0,
            fds.len() as u32,
            IrqData::Eventfd(fds),
        )
    }

    /// Turns all vectors of `index` off.
    ///
    /// # Errors
    /// EINVAL if they are not on.
    pub fn disable_irqs(&self, index: u32) -> io::Result<()> {
        self.set_irqs(index, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, IrqData::None)
            .map(drop)
    }

    /// Has the kernel signal the eventfds of vectors `start..start + count`, as if the device had
    /// raised them.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn trigger_irqs(&self, index: u32, start: u32, count: u32) -> io::Result<()> {
        self.set_irqs(
            index,
            VFIO_IRQ_SET_ACTION_TRIGGER,
            start,
            count,
            IrqData::None,
        )
        .map(drop)
    }
}
