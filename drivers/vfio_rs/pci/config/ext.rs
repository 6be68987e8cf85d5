// SPDX-License-Identifier: GPL-2.0

//! Extended capabilities: which are shown, how long each is, and its table.
//!
//! Key function: [`find`]. Neighbours: `caps.rs` for standard capabilities, `walk.rs` for the
//! chain. Lengths are those of include/uapi/linux/pci_regs.h; stands for `pci_ext_cap_length[]` and
//! `vfio_ext_cap_len()`.

use super::{
    caps::{
        Probe,
        Shown,
        Stop, //
    },
    perm, //
    Hardware,
};

const AER: u16 = 0x01;
const VC: u16 = 0x02;
const DSN: u16 = 0x03;
const POWER_BUDGETING: u16 = 0x04;
const MFVC: u16 = 0x08;
const VC9: u16 = 0x09;
const VENDOR: u16 = 0x0b;
const ACS: u16 = 0x0d;
const ARI: u16 = 0x0e;
const ATS: u16 = 0x0f;
const SRIOV: u16 = 0x10;
const MULTICAST: u16 = 0x12;
const PRI: u16 = 0x13;
const RESIZABLE_BAR: u16 = 0x15;
const DPA: u16 = 0x16;
const TPH: u16 = 0x17;
const LTR: u16 = 0x18;
const DVSEC: u16 = 0x23;

/// What the user gets to see of the extended capability with this id; `None` hides it.
///
/// Hidden are ids nobody knows, those for root complexes (link declaration, internal link, event
/// collector, register block), multi-root I/O, secondary PCI Express, protocol multiplexing, PASID,
/// and all that are newer than these and not vendor-specific.
pub(super) fn find<H: Hardware>(id: u16, probe: &Probe<'_, H>) -> Result<Option<Shown>, Stop> {
    let shown = match id {
        AER => (0x2c, &perm::AER),
        VC | VC9 | MFVC => (vc_length(probe)?, &perm::EXT_READ_ONLY),
        DSN => (12, &perm::EXT_READ_ONLY),
        POWER_BUDGETING => (16, &perm::POWER_BUDGETING),
        VENDOR | DVSEC => (vendor_length(probe)?, &perm::EXT_VENDOR),
        ACS => (acs_length(probe)?, &perm::EXT_READ_ONLY),
        ARI => (8, &perm::EXT_READ_ONLY),
        ATS => (8, &perm::EXT_READ_ONLY),
        SRIOV => (64, &perm::EXT_READ_ONLY),
        MULTICAST => (40, &perm::EXT_READ_ONLY),
        PRI => (16, &perm::EXT_READ_ONLY),
        RESIZABLE_BAR => (resizable_bar_length(probe)?, &perm::EXT_READ_ONLY),
        DPA => (dpa_length(probe)?, &perm::EXT_READ_ONLY),
        TPH => (tph_length(probe)?, &perm::EXT_READ_ONLY),
        LTR => (8, &perm::EXT_READ_ONLY),
        _ => return Ok(None),
    };
    Ok(match shown {
        // A vendor's capability that says it is empty. C hides it as well.
        (0, _) => None,
        // The header must be treated even if it denies to have it.
        (length, perm) => Some((length.max(4), perm)),
    })
}

/// In the upper 12 bits of the second dword.
fn vendor_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, Stop> {
    Ok((probe.dword(4)? >> 20) as u16)
}

/// By the number of extra channels and the size of the arbitration table. The tables for ports are
/// left out: nothing of this is writable anyway.
fn vc_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, Stop> {
    let extra_channels = (probe.dword(4)? & 0x7) as u16;
    let arbitration = probe.dword(8)?;
    // Four bits per phase.
    let table = match arbitration {
        value if value & 0x8 != 0 => 64,
        value if value & 0x4 != 0 => 32,
        value if value & 0x2 != 0 => 16,
        _ => 0,
    };
    let channels = 12u16.saturating_mul(extra_channels.saturating_add(1));
    let length = channels.saturating_add(16);

    Ok(if table == 0 {
        length
    } else {
        length.next_multiple_of(16).saturating_add(table)
    })
}

/// With egress control, one bit per port in whole dwords; 0 ports stands for 256.
fn acs_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, Stop> {
    if probe.byte(4)? & 0x20 == 0 {
        return Ok(8);
    }
    let bits = match probe.byte(5)? {
        0 => 256,
        bits => bits.next_multiple_of(32),
    };
    Ok((bits / 8).saturating_add(8))
}

/// Two dwords per BAR.
fn resizable_bar_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, Stop> {
    let bars = probe.byte(8)? >> 5;

    Ok(bars.saturating_mul(8).saturating_add(4))
}

/// One byte per substate, whose number is given less one.
fn dpa_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, Stop> {
    Ok((probe.byte(4)? & 0x1f).saturating_add(17))
}

/// With a steering tag table in the capability, two bytes per entry, whose number is given less
/// one.
fn tph_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, Stop> {
    let capability = probe.dword(4)?;
    if capability & 0x600 != 0x200 {
        return Ok(12);
    }
    let entries = (capability >> 16 & 0x7ff) as u16;
    Ok(entries.saturating_mul(2).saturating_add(14))
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_config_ext))]
mod tests {
    use super::super::mock::Mock;
    use super::*;
    use kernel::prelude::*;

    /// Length of a capability whose second and third dword are these.
    fn length(id: u16, dwords: [u32; 2]) -> Result<Option<u16>> {
        let mock = Mock::new(4096)?;
        mock.length_of(0x100, 0x104, dwords, |probe| find(id, probe))
    }

    #[test]
    fn fixed_lengths() -> Result {
        for (id, expected) in [
            (AER, 44),
            (DSN, 12),
            (POWER_BUDGETING, 16),
            (ARI, 8),
            (ATS, 8),
            (SRIOV, 64),
            (MULTICAST, 40),
            (PRI, 16),
            (LTR, 8),
        ] {
            assert_eq!(length(id, [0xffff_ffff; 2])?, Some(expected));
        }
        Ok(())
    }

    #[test]
    fn lengths_by_content() -> Result {
        for (id, dwords, expected) in [
            (VC, [0, 0], 28),
            (VC, [7, 1], 112),
            (VC9, [1, 0x2], 48 + 16),
            (MFVC, [0, 0x4], 32 + 32),
            (VC, [0, 0xe], 32 + 64),
            (VENDOR, [0x0180_0000, 0], 24),
            (DVSEC, [0x0010_1e98, 0], 4),
            (DVSEC, [0xfff0_1e98, 0], 4095),
            (ACS, [0x00df, 0], 8),
            (ACS, [0x0120, 0], 12),
            (ACS, [0x2020, 0], 12),
            (ACS, [0x2120, 0], 16),
            (ACS, [0x0020, 0], 40),
            (RESIZABLE_BAR, [0, 0x1f], 4),
            (RESIZABLE_BAR, [0, 0xc0], 52),
            (DPA, [0x1f, 0], 48),
            (DPA, [0xe0, 0], 17),
            (TPH, [0x07ff_0000, 0], 12),
            (TPH, [0x07ff_0400, 0], 12),
            (TPH, [0x0003_0200, 0], 20),
            (TPH, [0x07ff_0200, 0], 12 + 4096),
        ] {
            assert_eq!(length(id, dwords)?, Some(expected));
        }
        Ok(())
    }

    #[test]
    fn hidden() -> Result {
        let shown = 0x8_01ed_eb1e_u64;
        for id in (0..0x40).filter(|id| shown >> id & 1 == 0) {
            assert_eq!(length(id, [0xffff_ffff; 2])?, None);
        }
        for id in [VENDOR, DVSEC] {
            assert_eq!(length(id, [0x000f_ffff, 0])?, None);
        }
        Ok(())
    }
}
