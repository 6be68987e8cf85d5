// SPDX-License-Identifier: GPL-2.0

//! Extended capabilities: which are shown, how long each is, and its table.
//!
//! Key function: [`find`]. Neighbours: `caps.rs` for standard capabilities, `walk.rs` for the
//! chain. Lengths are those of include/uapi/linux/pci_regs.h; stands for `pci_ext_cap_length[]` and
//! `vfio_ext_cap_len()`.

use super::{
    caps::{
        CapStop,
        FoundCap,
        Probe, //
    },
    hidden::{
        extent,
        HiddenExtent,
        UNKNOWN, //
    },
    perm::{
        self,
        Perm, //
    },
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

/// The last id that include/uapi/linux/pci_regs.h has, `PCI_EXT_CAP_ID_MAX`.
#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
pub(super) const LAST: u16 = 0x31;

/// Most lanes that a link can have.
const LANES: u16 = 32;

/// Those that are hidden. Lengths are those of the PCI Express Base Specification 6.0, chapter 7,
/// with as many lanes, BARs or optional registers as there can be.
static HIDDEN: [(u16, HiddenExtent); 32] = [
    // Null.
    (0x00, HiddenExtent::Bytes(4)),
    // Root complexes: link declaration, internal link, event collector, register block.
    (0x05, UNKNOWN),
    (0x06, HiddenExtent::Bytes(12)),
    (0x07, HiddenExtent::UpTo(12)),
    (0x0a, HiddenExtent::Bytes(20)),
    // Configuration access correlation.
    (0x0c, UNKNOWN),
    // Multi-root I/O virtualisation.
    (0x11, UNKNOWN),
    // AMD's.
    (0x14, UNKNOWN),
    // Secondary PCI Express: per lane a word of equalization.
    (0x19, HiddenExtent::UpTo(12 + 2 * LANES)),
    // Protocol multiplexing.
    (0x1a, UNKNOWN),
    // Process address spaces.
    (0x1b, HiddenExtent::Bytes(8)),
    // Lightweight notification.
    (0x1c, HiddenExtent::Bytes(8)),
    // Downstream port containment.
    (0x1d, UNKNOWN),
    // L1 substates.
    (0x1e, HiddenExtent::UpTo(20)),
    // Precision time measurement.
    (0x1f, HiddenExtent::Bytes(12)),
    // M-PCIe, function readiness, readiness time.
    (0x20, UNKNOWN),
    (0x21, UNKNOWN),
    (0x22, HiddenExtent::Bytes(12)),
    // Resizable BARs of virtual functions.
    (0x24, HiddenExtent::UpTo(4 + 8 * 6)),
    // Data link feature.
    (0x25, HiddenExtent::Bytes(12)),
    // Physical layer, 16 GT/s: per lane a byte of equalization.
    (0x26, HiddenExtent::UpTo(0x20 + LANES)),
    // Lane margining: per lane control and status.
    (0x27, HiddenExtent::UpTo(8 + 4 * LANES)),
    // Hierarchy id.
    (0x28, UNKNOWN),
    // Enclosure management.
    (0x29, HiddenExtent::Bytes(16)),
    // Physical layer, 32 GT/s.
    (0x2a, HiddenExtent::UpTo(0x20 + LANES)),
    // Alternate protocols, system firmware intermediary, shadow functions.
    (0x2b, UNKNOWN),
    (0x2c, UNKNOWN),
    (0x2d, UNKNOWN),
    // Data object exchange.
    (0x2e, HiddenExtent::Bytes(24)),
    // Device 3.
    (0x2f, HiddenExtent::Bytes(16)),
    // Integrity and data encryption: per stream what it says.
    (0x30, UNKNOWN),
    // Physical layer, 64 GT/s.
    (0x31, HiddenExtent::UpTo(0x20 + LANES)),
];

/// What becomes of the extended capability with this id. Hidden are those in [`HIDDEN`], and ids
/// nobody knows.
pub(super) fn find<H: Hardware>(id: u16, probe: &Probe<'_, H>) -> Result<FoundCap, CapStop> {
    let shown = match id {
        AER => (0x2c, &perm::AER),
        VC | VC9 | MFVC => (vc_length(probe)?, &perm::EXT_READ_ONLY),
        DSN => (12, &perm::EXT_READ_ONLY),
        POWER_BUDGETING => (16, &perm::POWER_BUDGETING),
        VENDOR => (vendor_length(probe)?, &perm::EXT_VENDOR),
        DVSEC => (vendor_length(probe)?, dvsec(probe)?),
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
        _ => return Ok(FoundCap::Hidden(extent(&HIDDEN, id))),
    };
    Ok(match shown {
        // A vendor's capability that says it is empty. C hides it as well.
        (0, _) => FoundCap::Hidden(HiddenExtent::Bytes(8)),
        // The header must be treated even if it denies to have it.
        (length, perm) => FoundCap::Shown((length.max(4), perm)),
    })
}

/// Designated vendor-specific: the user's, but for that of Compute Express Link. By that one the
/// host has memory and caches of its own in the device. Stricter than C.
fn dvsec<H: Hardware>(probe: &Probe<'_, H>) -> Result<&'static Perm, CapStop> {
    const CXL: u16 = 0x1e98;

    Ok(match probe.word(4)? {
        CXL => &perm::EXT_READ_ONLY,
        _ => &perm::EXT_VENDOR,
    })
}

/// Where, from the start of the capability, a virtual channel's resource has the arbitration table
/// of ports or functions; `None` if there is no such channel or table.
pub(super) fn vc_table<H: Hardware>(id: u16, channel: u16, probe: &Probe<'_, H>) -> Option<u16> {
    if !matches!(id, VC | VC9 | MFVC) {
        return None;
    }
    if channel > extra_channels(probe).ok()? {
        return None;
    }
    let resource = channel.checked_mul(12)?.checked_add(16)?;
    let units = (probe.dword(resource).ok()? >> 24) as u16;
    units.checked_mul(16).filter(|at| *at != 0)
}

/// Most bytes of such a table: 256 phases of a byte each.
pub(super) const VC_TABLE: HiddenExtent = HiddenExtent::UpTo(256);

/// Most virtual channels of a capability.
pub(super) const VC_CHANNELS: u16 = 8;

/// In the upper 12 bits of the second dword.
fn vendor_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, CapStop> {
    Ok((probe.dword(4)? >> 20) as u16)
}

/// By the number of extra channels and the size of the arbitration table. The tables for ports are
/// left out: see [`vc_table`].
fn vc_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, CapStop> {
    let extra_channels = extra_channels(probe)?;
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
fn acs_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, CapStop> {
    if probe.byte(4)? & 0x20 == 0 {
        return Ok(8);
    }
    let bits = match probe.byte(5)? {
        0 => 256,
        bits => bits.next_multiple_of(32),
    };
    Ok((bits / 8).saturating_add(8))
}

/// Virtual channels beyond the first.
fn extra_channels<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, CapStop> {
    Ok((probe.dword(4)? & 0x7) as u16)
}

/// Two dwords per BAR.
fn resizable_bar_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, CapStop> {
    let bars = probe.byte(8)? >> 5;

    Ok(bars.saturating_mul(8).saturating_add(4))
}

/// One byte per substate, whose number is given less one.
fn dpa_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, CapStop> {
    Ok((probe.byte(4)? & 0x1f).saturating_add(17))
}

/// With a steering tag table in the capability, two bytes per entry, whose number is given less
/// one.
fn tph_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, CapStop> {
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
    use super::super::{
        mock::Mock,
        Width, //
    };
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
    fn each_id_is_decided() -> Result {
        let shown = 0x8_01ed_eb1e_u64;
        for id in 0..0x100u16 {
            let is_hidden = HIDDEN.iter().any(|entry| entry.0 == id);
            let is_shown = id < 64 && shown >> id & 1 != 0;
            assert_eq!(is_hidden || is_shown, id <= LAST);
            assert_eq!(length(id, [0xffff_ffff; 2])?.is_some(), is_shown);
        }
        for id in [VENDOR, DVSEC] {
            assert_eq!(length(id, [0x000f_ffff, 0])?, None);
        }
        Ok(())
    }

    #[test]
    fn compute_express_link_is_the_hosts() -> Result {
        let mock = Mock::with_caps(4096, &[(0x10, 0x40)])?;
        mock.add_ext(&[(DVSEC, 0x100), (DVSEC, 0x140)]);
        mock.set(0x104, Width::Dword, 0x0381_1e98);
        mock.set(0x144, Width::Dword, 0x0381_8086);
        let mut user = mock.open()?;
        for (at, expected) in [(0x10c, 0), (0x134, 0), (0x14c, !0), (0x174, !0)] {
            user.write(at, Width::Dword, !0)?;
            assert_eq!(mock.get(at, Width::Dword), expected);
        }
        // They are found all the same.
        assert_eq!(user.read(0x100, Width::Dword)?, 0x1401_0023);
        Ok(())
    }
}
