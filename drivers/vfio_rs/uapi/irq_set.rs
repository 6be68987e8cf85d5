// SPDX-License-Identifier: GPL-2.0

//! `struct vfio_irq_set`: decoded and checked before anything acts on it.

use kernel::prelude::*;
use vfio_kernel::{
    argsz::UserArg,
    uapi, //
};

use super::row::{
    self,
    Row, //
};

type IrqSetHeader = uapi::vfio_irq_set_header;

/// What to do with a range of interrupts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IrqAction {
    /// Stop delivering.
    Mask,
    /// Deliver again.
    Unmask,
    /// Deliver to, or deliver now.
    Trigger,
}

/// What `VFIO_DEVICE_SET_IRQS` carries.
pub(crate) enum IrqData {
    /// Nothing: act on all, or disable if there is none.
    None,
    /// Act on those that are not 0.
    Bool(KVec<u8>),
    /// Deliver to these eventfds; -1 for none.
    EventFd(KVec<i32>),
}

/// A checked request.
pub(crate) struct IrqSet {
    pub(crate) index: u32,
    /// `None` if the user asked for no action, or several.
    pub(crate) action: Option<IrqAction>,
    pub(crate) start: u32,
    pub(crate) count: u32,
    pub(crate) data: IrqData,
}

impl IrqSet {
    /// Reads a request for a device with `indices` kinds of interrupts; `irq_count` tells how many
    /// interrupts one has.
    ///
    /// # Errors
    ///
    /// `EFAULT`, `EINVAL`, `ENOMEM`, as vfio_set_irqs_validate_and_prepare().
    pub(crate) fn read(
        arg: UserArg,
        indices: u32,
        irq_count: impl FnOnce(u32) -> u32,
    ) -> Result<Self> {
        const MIN: usize = IrqSetHeader::MIN;

        let header: IrqSetHeader = row::read(arg)?;
        let room = row::room(&header);
        let end = header.start.checked_add(header.count).ok_or(EINVAL)?;
        if header.index >= indices || end == u32::MAX {
            return Err(EINVAL);
        }
        let irqs = irq_count(header.index);
        if header.start >= irqs || end > irqs {
            return Err(EINVAL);
        }
        let count = header.count as usize;
        let data = match header.flags & uapi::VFIO_IRQ_SET_DATA_TYPE_MASK {
            uapi::VFIO_IRQ_SET_DATA_NONE => IrqData::None,
            uapi::VFIO_IRQ_SET_DATA_BOOL if room >= count => {
                IrqData::Bool(read_elements(arg, MIN, count, |[value]: [u8; 1]| value)?)
            }
            uapi::VFIO_IRQ_SET_DATA_EVENTFD if room >= count.saturating_mul(4) => {
                IrqData::EventFd(read_elements(arg, MIN, count, i32::from_ne_bytes)?)
            }
            _ => return Err(EINVAL),
        };
        Ok(Self {
            index: header.index,
            action: match header.flags & uapi::VFIO_IRQ_SET_ACTION_TYPE_MASK {
                uapi::VFIO_IRQ_SET_ACTION_MASK => Some(IrqAction::Mask),
                uapi::VFIO_IRQ_SET_ACTION_UNMASK => Some(IrqAction::Unmask),
                uapi::VFIO_IRQ_SET_ACTION_TRIGGER => Some(IrqAction::Trigger),
                _ => None,
            },
            start: header.start,
            count: header.count,
            data,
        })
    }

    /// Whether the request is only to signal eventfds, as interrupts would.
    pub(crate) fn only_signals(&self) -> bool {
        let triggers = matches!(self.action, Some(IrqAction::Trigger)) && self.count != 0;
        triggers && !matches!(self.data, IrqData::EventFd(_))
    }
}

/// Reads `count` elements of `N` bytes, `offset` bytes into the struct.
fn read_elements<const N: usize, T>(
    arg: UserArg,
    offset: usize,
    count: usize,
    decode: impl Fn([u8; N]) -> T,
) -> Result<KVec<T>> {
    let mut elements = KVec::with_capacity(count, GFP_KERNEL)?;
    let mut reader = arg
        .slice(offset, count.checked_mul(N).ok_or(EINVAL)?)
        .reader();
    for _ in 0..count {
        let mut bytes = [0; N];
        reader.read_slice(&mut bytes)?;
        elements.push(decode(bytes), GFP_KERNEL)?;
    }
    Ok(elements)
}
