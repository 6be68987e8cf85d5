// SPDX-License-Identifier: GPL-2.0

//! Devices that are not given to users, as they are known to be dangerous to the host.
//!
//! Their errata let an untrusted user crash the machine or see what is not theirs: Intel's
//! QuickAssist and, in Sapphire Rapids, its data streaming and analytics accelerators. The
//! parameter `disable_denylist` lets them through.
//!
//! Stands for vfio_pci_is_denylisted() of drivers/vfio/pci/vfio_pci.c.

use kernel::prelude::*;
use vfio_kernel::{
    params,
    pci::PciDevice, //
};

/// `PCI_VENDOR_ID_INTEL`.
const INTEL: u16 = 0x8086;

/// Device ids of Intel, `include/linux/pci_ids.h`.
const DENIED: [u16; 8] = [
    0x0435, // QAT_DH895XCC
    0x0443, // QAT_DH895XCC_VF
    0x0b25, // DSA_SPR0
    0x0cfe, // IAX_SPR0
    0x19e2, // QAT_C3XXX
    0x19e3, // QAT_C3XXX_VF
    0x37c8, // QAT_C62X
    0x37c9, // QAT_C62X_VF
];

/// Lets a device pass that is to be bound.
///
/// # Errors
///
/// `EINVAL` if it is on the list.
pub(super) fn check(pci: &PciDevice) -> Result {
    let (vendor, device) = (pci.vendor(), pci.device_id());
    if !is_denied(vendor, device) {
        return Ok(());
    }
    if params::disable_denylist() {
        // LOG: when an administrator binds it.
        dev_warn!(
            pci.device(),
            "device denylist disabled - allowing device {vendor:04x}:{device:04x}.\n"
        );
        return Ok(());
    }
    // LOG: as above.
    dev_warn!(
        pci.device(),
        "{vendor:04x}:{device:04x} exists in vfio-pci device denylist, driver probing disallowed.\n"
    );
    Err(EINVAL)
}

fn is_denied(vendor: u16, device: u16) -> bool {
    vendor == INTEL && DENIED.contains(&device)
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_denylist))]
mod tests {
    use super::*;

    #[test]
    fn by_vendor_and_device() {
        assert!(is_denied(0x8086, 0x37c8));
        assert!(is_denied(0x8086, 0x0b25));
        assert!(!is_denied(0x8087, 0x37c8));
        assert!(!is_denied(0x8086, 0x10c9));
    }

    #[test]
    fn each_once() {
        for (at, id) in DENIED.iter().enumerate() {
            assert!(!DENIED
                .iter()
                .skip(at.wrapping_add(1))
                .any(|other| other == id));
        }
    }
}
