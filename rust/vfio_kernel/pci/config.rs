// SPDX-License-Identifier: GPL-2.0

//! Configuration space accesses on behalf of users and of the driver, `drivers/pci/access.c`.

use kernel::{
    bindings,
    error::to_result,
    prelude::*, //
};

use super::{
    device::field,
    BoundPci,
    PciDevice, //
};

/// The last id of a standard capability that the kernel knows.
pub const CAP_ID_MAX: u32 = bindings::PCI_CAP_ID_MAX;

/// The last id of an extended capability that the kernel knows.
pub const EXT_CAP_ID_MAX: u32 = bindings::PCI_EXT_CAP_ID_MAX;

/// The size of one access.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ConfigWidth {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Word,
    /// 4 bytes.
    Dword,
}

/// Bytes of the largest configuration space. Not every host bridge's driver looks whether an access
/// goes beyond.
const SIZE: u16 = 4096;

/// `offset` as the calls below want it; `EINVAL` beyond the end.
fn place(offset: u16) -> Result<c_int> {
    match offset {
        0..SIZE => Ok(offset.into()),
        _ => Err(EINVAL),
    }
}

impl PciDevice {
    /// Reads for a user: waits while the device is being reset. May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not aligned or beyond the end, what the bus says.
    pub fn user_read_config(&self, offset: u16, width: ConfigWidth) -> Result<u32> {
        let (dev, at) = (self.as_ptr(), place(offset)?);
        // SAFETY: The device is alive (type invariant of `PciDevice`) and the out pointers are
        // valid; a misaligned offset is refused by the call.
        unsafe {
            match width {
                ConfigWidth::Byte => {
                    let mut value = 0u8;
                    to_result(bindings::pci_user_read_config_byte(dev, at, &mut value))?;
                    Ok(value.into())
                }
                ConfigWidth::Word => {
                    let mut value = 0u16;
                    to_result(bindings::pci_user_read_config_word(dev, at, &mut value))?;
                    Ok(value.into())
                }
                ConfigWidth::Dword => {
                    let mut value = 0u32;
                    to_result(bindings::pci_user_read_config_dword(dev, at, &mut value))?;
                    Ok(value)
                }
            }
        }
    }

    /// Waits while users' accesses are blocked, `pci_cfg_access_lock()`. They may be again by the
    /// time that this returns. May sleep: the caller holds nothing that who blocks them waits for.
    #[inline(always)]
    pub fn wait_config(&self) {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        if unsafe { vfio_bindings::vfio_rs_pci_config_blocked(self.as_ptr()) } {
            // The only call that waits and does nothing else of consequence.
            let _ = self.user_read_config(0, ConfigWidth::Word);
        }
    }

    /// Reads for a user as well, but does not wait; see [`wait_config`](Self::wait_config). All
    /// ones from a device that is gone. Any context.
    ///
    /// # Errors
    ///
    /// `EFAULT` for a misaligned offset, `EINVAL` for one beyond the end; what the bus says.
    pub fn read_config(&self, offset: u16, width: ConfigWidth) -> Result<u32> {
        let (bus, devfn, at) = self.config_place(offset)?;
        // SAFETY: The device is alive (type invariant of `PciDevice`), so its bus is, and the out
        // pointers are valid; a misaligned offset is refused by the call.
        unsafe {
            match width {
                ConfigWidth::Byte => {
                    let mut value = 0u8;
                    config_result(bindings::pci_bus_read_config_byte(
                        bus, devfn, at, &mut value,
                    ))?;
                    Ok(value.into())
                }
                ConfigWidth::Word => {
                    let mut value = 0u16;
                    config_result(bindings::pci_bus_read_config_word(
                        bus, devfn, at, &mut value,
                    ))?;
                    Ok(value.into())
                }
                ConfigWidth::Dword => {
                    let mut value = 0u32;
                    config_result(bindings::pci_bus_read_config_dword(
                        bus, devfn, at, &mut value,
                    ))?;
                    Ok(value)
                }
            }
        }
    }

    fn config_place(&self, offset: u16) -> Result<(*mut bindings::pci_bus, c_uint, c_int)> {
        Ok((field!(self, bus), field!(self, devfn), place(offset)?))
    }

    /// Reads a word for the driver itself; all ones if the device is gone, or beyond the end.
    pub fn read_config_word(&self, offset: u16) -> u16 {
        let mut value = u16::MAX;
        if let Ok(at) = place(offset) {
            // SAFETY: The device is alive (type invariant of `PciDevice`), `value` valid for
            // writes. A failure leaves all ones.
            unsafe { bindings::pci_read_config_word(self.as_ptr(), at, &mut value) };
        }
        value
    }

    /// Reads a dword for the driver itself; all ones if the device is gone, or beyond the end.
    pub fn read_config_dword(&self, offset: u16) -> u32 {
        let mut value = u32::MAX;
        if let Ok(at) = place(offset) {
            // SAFETY: The device is alive (type invariant of `PciDevice`), `value` valid for
            // writes. A failure leaves all ones.
            unsafe { bindings::pci_read_config_dword(self.as_ptr(), at, &mut value) };
        }
        value
    }
}

impl BoundPci {
    /// Writes for a user, as [`read_config`](Self::read_config) reads.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn write_config(&self, offset: u16, width: ConfigWidth, value: u32) -> Result {
        let (bus, devfn, at) = self.config_place(offset)?;
        // SAFETY: The device is alive (type invariant of `PciDevice`), so its bus is; a misaligned
        // offset is refused by the call.
        config_result(unsafe {
            match width {
                ConfigWidth::Byte => {
                    bindings::pci_bus_write_config_byte(bus, devfn, at, value as u8)
                }
                ConfigWidth::Word => {
                    bindings::pci_bus_write_config_word(bus, devfn, at, value as u16)
                }
                ConfigWidth::Dword => bindings::pci_bus_write_config_dword(bus, devfn, at, value),
            }
        })
    }

    /// Writes a word for the driver itself; nothing beyond the end.
    pub fn write_config_word(&self, offset: u16, value: u16) {
        if let Ok(at) = place(offset) {
            // SAFETY: The device is alive (type invariant of `PciDevice`). A write to a device that
            // is gone is lost.
            unsafe { bindings::pci_write_config_word(self.as_ptr(), at, value) };
        }
    }
}

/// The errno of a `PCIBIOS_*`.
#[inline(always)]
fn config_result(code: c_int) -> Result {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: No preconditions.
    to_result(unsafe { vfio_bindings::vfio_rs_pcibios_err_to_errno(code) })
}
