// SPDX-License-Identifier: GPL-2.0

//! Devices that do not do what their configuration space says. Pure.

/// Whether the function can disable its interrupt pin but not tell that it asks for an interrupt.
/// Sharing a line or not, such a pin is of no use to a driver outside the kernel.
///
/// Stands for vfio_pci_nointx() of drivers/vfio/pci/vfio_pci_core.c.
pub(crate) fn has_broken_intx(vendor: u16, device: u16) -> bool {
    const INTEL: u16 = 0x8086;
    vendor == INTEL
        && matches!(
            device,
            // Network adapters XL710, X710 and XXV710, 10 to 40 GbE.
            0x1572 | 0x1574 | 0x1580 | 0x1581 | 0x1583..=0x158b | 0x37d0..=0x37d2
                // X550.
                | 0x1563
        )
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_config_quirks))]
mod tests {
    use super::*;

    #[test]
    fn broken_intx() {
        let broken: [u16; 17] = [
            0x1563, 0x1572, 0x1574, 0x1580, 0x1581, 0x1583, 0x1584, 0x1585, 0x1586, 0x1587, 0x1588,
            0x1589, 0x158a, 0x158b, 0x37d0, 0x37d1, 0x37d2,
        ];
        for device in 0..=u16::MAX {
            assert_eq!(has_broken_intx(0x8086, device), broken.contains(&device));
            assert!(!has_broken_intx(0x8087, device));
        }
    }
}
