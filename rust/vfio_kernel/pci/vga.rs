// SPDX-License-Identifier: GPL-2.0

//! Displays: who answers to the legacy VGA ranges, `include/linux/vgaarb.h`.
//!
//! These ranges are at the same addresses for all displays, so the kernel's arbiter routes them to
//! one at a time.

use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings as kernel_bindings,
    error::to_result,
    prelude::*, //
};
use vfio_bindings as bindings;

use super::{
    device::field,
    BoundPci,
    IoMem,
    PciDevice, //
};

/// All that a display may answer to.
const ALL: u32 = bindings::VFIO_RS_VGA_NORMAL
    | bindings::VFIO_RS_VGA_LEGACY_IO
    | bindings::VFIO_RS_VGA_LEGACY_MEM;

/// `PCI_CLASS_DISPLAY_VGA`, with room for the programming interface.
const CLASS_VGA: u32 = kernel_bindings::PCI_CLASS_DISPLAY_VGA << 8;

/// A legacy range of VGA.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum VgaRange {
    /// Memory at 0xa0000.
    Memory,
    /// Ports at 0x3b0.
    MonochromePorts,
    /// Ports at 0x3c0.
    ColorPorts,
}

impl VgaRange {
    /// First address and bytes.
    pub fn place(self) -> (u64, u64) {
        match self {
            Self::Memory => (0xa0000, 0x20000),
            Self::MonochromePorts => (0x3b0, 0xc),
            Self::ColorPorts => (0x3c0, 0x20),
        }
    }

    fn resource(self) -> u32 {
        match self {
            Self::Memory => bindings::VFIO_RS_VGA_LEGACY_MEM,
            Self::MonochromePorts | Self::ColorPorts => bindings::VFIO_RS_VGA_LEGACY_IO,
        }
    }
}

impl PciDevice {
    /// Whether it is a display with the legacy ranges, and these can be reached through it.
    pub fn has_vga(&self) -> bool {
        // SAFETY: No preconditions.
        self.is_vga() && unsafe { bindings::vfio_rs_vga_arbiter() }
    }

    fn is_vga(&self) -> bool {
        field!(self, class) >> 8 == kernel_bindings::PCI_CLASS_DISPLAY_VGA
    }

    /// Takes a display over from the console, and takes part in the arbitration for it. With
    /// `hidden` it answers to the legacy ranges only where that cannot be avoided. The driver must
    /// call [`leave_vga`](Self::leave_vga) before it is unbound. May sleep.
    ///
    /// # Errors
    ///
    /// What the arbiter and the console's owner say; none if this is no display.
    pub(super) fn join_vga(&self, hidden: bool) -> Result {
        if !self.is_vga() {
            return Ok(());
        }
        let decode: Decode = if hidden { decode_hidden } else { decode_all };
        // SAFETY: The device is alive (type invariant of `PciDevice`); the name lives forever; the
        // callback is there until `leave_vga`, which the driver calls before it goes.
        unsafe {
            to_result(bindings::vfio_rs_aperture_remove(
                self.as_ptr(),
                c"vfio-pci".as_char_ptr(),
            ))?;
            to_result(bindings::vfio_rs_vga_client_register(
                self.as_ptr(),
                Some(decode),
            ))?;
            bindings::vfio_rs_vga_set_legacy_decoding(self.as_ptr(), decode(self.as_ptr(), false));
        }
        Ok(())
    }

    /// Undoes [`join_vga`](Self::join_vga).
    pub(super) fn leave_vga(&self) {
        if !self.is_vga() {
            return;
        }
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe {
            bindings::vfio_rs_vga_client_register(self.as_ptr(), None);
            bindings::vfio_rs_vga_set_legacy_decoding(self.as_ptr(), ALL);
        }
    }

    /// Whether another display is on its bus or behind that, not next to the CPU.
    ///
    /// # Safety
    ///
    /// `pdev` must be alive.
    unsafe fn another_display_behind(pdev: *mut bindings::pci_dev) -> bool {
        let mut other = core::ptr::null_mut();
        loop {
            // SAFETY: By the contract of this function; `other` is a device that the last round
            // found, whose reference the call takes over, and what it returns has one until then.
            unsafe {
                let last = bindings::pci_bus_max_busnr((*pdev).bus);
                other = bindings::pci_get_class(CLASS_VGA, other);
                if other.is_null() {
                    return false;
                }
                let bus = (*other).bus;
                if other != pdev
                    && bindings::vfio_rs_pci_domain_nr(bus)
                        == bindings::vfio_rs_pci_domain_nr((*pdev).bus)
                    && !bindings::vfio_rs_pci_is_root_bus(bus)
                    && ((*(*pdev).bus).number..=last).contains(&(*bus).number)
                {
                    bindings::pci_dev_put(other);
                    return true;
                }
            }
        }
    }
}

type Decode = unsafe extern "C" fn(*mut bindings::pci_dev, bool) -> u32;

/// What a display answers to that its user may reach in full.
///
/// # Safety
///
/// None.
unsafe extern "C" fn decode_all(_pdev: *mut bindings::pci_dev, _single: bool) -> u32 {
    ALL
}

/// What a display answers to whose legacy ranges are withheld. If it is the only one behind a
/// bridge, nothing is routed there any more. Any context.
///
/// # Safety
///
/// Called by the arbiter, with a device that is alive.
unsafe extern "C" fn decode_hidden(pdev: *mut bindings::pci_dev, single: bool) -> u32 {
    // SAFETY: By the contract of this function.
    let must = single
        || unsafe { bindings::vfio_rs_pci_is_root_bus((*pdev).bus) }
        || unsafe { PciDevice::another_display_behind(pdev) };
    if must {
        ALL
    } else {
        bindings::VFIO_RS_VGA_NORMAL
    }
}

/// A legacy range that is mapped into the kernel. It is reached by [`owned`](Self::owned) only.
pub struct VgaMap {
    dev: BoundPci,
    range: VgaRange,
    io: IoMem,
}

impl VgaMap {
    /// Maps a range. May sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the device has none, `ENOMEM`.
    pub fn new(dev: &BoundPci, range: VgaRange) -> Result<Self> {
        if !dev.has_vga() {
            return Err(ENODEV);
        }
        let (start, len) = range.place();
        // SAFETY: The ranges are those of VGA on this machine and nobody's memory.
        let io = unsafe {
            match range {
                VgaRange::Memory => bindings::ioremap(start, len as usize),
                _ => bindings::ioport_map(start as usize, len as c_uint),
            }
        };
        let io = NonNull::new(io).ok_or(ENOMEM)?;
        Ok(Self {
            dev: dev.clone(),
            range,
            // SAFETY: Mapped above for `len` bytes, as long as `self` lives.
            io: unsafe { IoMem::new(io, len) },
        })
    }

    /// Has the range routed to the device until the guard is dropped, and all others wait for it
    /// that want it for another one. Waits itself until it is free.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` for a signal, `ENODEV` if the arbiter does not know the device.
    pub fn owned(&self) -> Result<OwnedVga<'_>> {
        let rsrc = self.range.resource();
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        to_result(unsafe { bindings::vfio_rs_vga_get_interruptible(self.dev.as_ptr(), rsrc) })?;
        Ok(OwnedVga(self))
    }
}

impl Drop for VgaMap {
    fn drop(&mut self) {
        // SAFETY: Mapped by `new` in the same way.
        unsafe {
            match self.range {
                VgaRange::Memory => bindings::iounmap(self.io.as_ptr()),
                _ => bindings::ioport_unmap(self.io.as_ptr()),
            }
        }
    }
}

/// A legacy range that is routed to its device.
pub struct OwnedVga<'a>(&'a VgaMap);

impl Deref for OwnedVga<'_> {
    type Target = IoMem;

    fn deref(&self) -> &IoMem {
        &self.0.io
    }
}

impl Drop for OwnedVga<'_> {
    fn drop(&mut self) {
        // SAFETY: Got by `VgaMap::owned`.
        unsafe {
            bindings::vfio_rs_vga_put(self.0.dev.as_ptr(), self.0.range.resource());
        }
    }
}
