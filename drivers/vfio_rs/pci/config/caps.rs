// SPDX-License-Identifier: GPL-2.0

//! Standard capabilities: which are shown, how long each is, and its table.
//!
//! Key function: [`find`]. Neighbours: `ext.rs` for extended capabilities, `perm.rs` for the
//! tables, `walk.rs` for the chain. Lengths are those of include/uapi/linux/pci_regs.h; stands for
//! `pci_cap_length[]` and `vfio_cap_len()`.

use super::{
    hidden::{
        extent,
        HiddenExtent,
        UNKNOWN, //
    },
    perm::{
        self,
        Perm, //
    },
    regs::{
        exp,
        msi,
        pcix, //
    },
    FaultKind,
    Hardware,
    Width, //
};
use kernel::prelude::*;

/// Why a chain walk stops.
pub(super) enum CapStop {
    /// The chain is malformed.
    Fault(FaultKind),
    /// The device cannot be read, or there is no memory.
    Failed(Error),
}

impl From<Error> for CapStop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Reads registers of the capability that is being looked at.
pub(super) struct Probe<'a, H> {
    /// The device.
    pub(super) hw: &'a H,
    /// Where the capability starts.
    pub(super) start: u16,
    /// End of the space that it must fit in.
    pub(super) limit: u16,
}

impl<H: Hardware> Probe<'_, H> {
    fn read(&self, offset: u16, width: Width) -> Result<u32, CapStop> {
        let at = self.start.saturating_add(offset);
        if at.saturating_add(width.bytes()) > self.limit {
            return Err(CapStop::Fault(FaultKind::OutOfRange));
        }
        Ok(self.hw.read(at, width)?)
    }

    /// Reads a byte; as all of these, at an offset from the capability's start.
    pub(super) fn byte(&self, offset: u16) -> Result<u16, CapStop> {
        Ok(self.read(offset, Width::Byte)? as u16)
    }

    /// Reads 16 bits.
    pub(super) fn word(&self, offset: u16) -> Result<u16, CapStop> {
        Ok(self.read(offset, Width::Word)? as u16)
    }

    /// Reads 32 bits.
    pub(super) fn dword(&self, offset: u16) -> Result<u32, CapStop> {
        self.read(offset, Width::Dword)
    }
}

/// Bytes a capability owns, and how they are treated.
pub(super) type Shown = (u16, &'static Perm);

/// What becomes of a capability.
pub(super) enum FoundCap {
    /// The user sees it.
    Shown(Shown),
    /// It is taken out of the user's chain, and these bytes of it are read-only.
    Hidden(HiddenExtent),
}

const PM: u16 = 0x01;
const AGP: u16 = 0x02;
const VPD: u16 = 0x03;
const MSI: u16 = 0x05;
const PCIX: u16 = 0x07;
const HYPERTRANSPORT: u16 = 0x08;
const VENDOR: u16 = 0x09;
const EXP: u16 = 0x10;
/// MSI-X.
pub(super) const MSIX: u16 = 0x11;
const SATA: u16 = 0x12;
const AF: u16 = 0x13;

/// The last id that include/uapi/linux/pci_regs.h has, `PCI_CAP_ID_MAX`.
#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
pub(super) const LAST: u16 = 0x14;

/// Those that are hidden. Lengths of the specifications that their names lead to.
static HIDDEN: [(u16, HiddenExtent); 10] = [
    // Null.
    (0x00, HiddenExtent::Bytes(4)),
    // Slot id.
    (0x04, HiddenExtent::Bytes(4)),
    // CompactPCI: hot swap, central resource control.
    (0x06, HiddenExtent::Bytes(4)),
    (0x0b, UNKNOWN),
    // Debug port.
    (0x0a, HiddenExtent::Bytes(4)),
    // Standard hot-plug.
    (0x0c, HiddenExtent::Bytes(8)),
    // Subsystem ids of a bridge.
    (0x0d, HiddenExtent::Bytes(8)),
    // AGP target.
    (0x0e, UNKNOWN),
    // Secure device.
    (0x0f, UNKNOWN),
    // Enhanced allocation: where BARs are. As many entries as it says, of any size.
    (0x14, UNKNOWN),
];

/// Length of PCI-X for devices with conventional configuration space.
const PCIX_SHORT: u16 = 8;

/// What becomes of the capability with this id. Hidden are those in [`HIDDEN`], and ids nobody
/// knows.
pub(super) fn find<H: Hardware>(id: u16, probe: &Probe<'_, H>) -> Result<FoundCap, CapStop> {
    let shown = match id {
        PM => (8, &perm::PM),
        AGP => (12, &perm::READ_ONLY),
        VPD => (8, &perm::VPD),
        MSI => perm::msi(probe.word(msi::FLAGS)?),
        PCIX => (pcix_length(probe)?, &perm::PCIX),
        HYPERTRANSPORT => (hypertransport_length(probe)?, &perm::READ_ONLY),
        VENDOR => (probe.byte(2)?, &perm::VENDOR),
        EXP => (exp_length(probe)?, &perm::EXP),
        MSIX => (12, &perm::READ_ONLY),
        SATA => (sata_length(probe)?, &perm::READ_ONLY),
        AF => (6, &perm::AF),
        _ => return Ok(FoundCap::Hidden(extent(&HIDDEN, id))),
    };
    Ok(match shown {
        // A vendor's capability that says it is empty. C hides it as well.
        (0, _) => FoundCap::Hidden(HiddenExtent::Bytes(4)),
        // Id and pointer must be treated even if it denies to have them.
        (length, perm) => FoundCap::Shown((length.max(2), perm)),
    })
}

/// Whether a device with this capability has extended configuration space.
pub(super) fn means_extended(id: u16, length: u16) -> bool {
    id == EXP || (id == PCIX && length != PCIX_SHORT)
}

fn pcix_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, CapStop> {
    Ok(if probe.word(pcix::CMD)? & pcix::CMD_VERSION == 0 {
        PCIX_SHORT
    } else {
        24
    })
}

/// By the 3-bit capability type: 0 is a slave or primary interface.
fn hypertransport_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, CapStop> {
    Ok(if probe.byte(3)? & 0xe0 == 0 { 28 } else { 24 })
}

/// By version, and by type: root complex integrated endpoints have no link. Ports are not assigned.
fn exp_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, CapStop> {
    let flags = probe.word(exp::FLAGS)?;
    let first_version = flags & exp::FLAGS_VERS == 1;
    let no_link = flags & exp::FLAGS_TYPE == exp::TYPE_RC_END;

    Ok(match (first_version, no_link) {
        (true, true) => 12,
        (true, false) => 20,
        (false, true) => 44,
        (false, false) => 52,
    })
}

/// By the location of the index and data registers: 15 is inside the capability.
fn sata_length<H: Hardware>(probe: &Probe<'_, H>) -> Result<u16, CapStop> {
    Ok(if probe.byte(4)? & 0xf == 0xf { 16 } else { 8 })
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_config_caps))]
mod tests {
    use super::super::mock::Mock;
    use super::*;

    /// Length of a capability whose first dwords, after the id, are these.
    fn length(id: u16, dwords: [u32; 2]) -> Result<Option<u16>> {
        let mock = Mock::new(256)?;
        mock.length_of(0x40, 0x40, dwords, |probe| find(id, probe))
    }

    #[test]
    fn fixed_lengths() -> Result {
        for (id, expected) in [(PM, 8), (AGP, 12), (VPD, 8), (MSIX, 12), (AF, 6)] {
            assert_eq!(length(id, [0xffff_ffff; 2])?, Some(expected));
        }
        Ok(())
    }

    #[test]
    fn lengths_by_content() -> Result {
        for (id, dwords, expected) in [
            (MSI, [0x0000_0005, 0], 10),
            (MSI, [0x0080_0005, 0], 14),
            (MSI, [0x0100_0005, 0], 20),
            (MSI, [0x0180_0005, 0], 24),
            (PCIX, [0x0fff_0007, 0], 8),
            (PCIX, [0x1000_0007, 0], 24),
            (PCIX, [0x2000_0007, 0], 24),
            (HYPERTRANSPORT, [0x1fff_0008, 0], 28),
            (HYPERTRANSPORT, [0x2000_0008, 0], 24),
            (HYPERTRANSPORT, [0xa800_0008, 0], 24),
            (VENDOR, [0x0014_0009, 0], 0x14),
            (VENDOR, [0x0001_0009, 0], 2),
            (EXP, [0x0001_0010, 0], 20),
            (EXP, [0x0091_0010, 0], 12),
            (EXP, [0x0002_0010, 0], 52),
            (EXP, [0x0092_0010, 0], 44),
            (SATA, [0, 0xf], 16),
            (SATA, [0, 0x4], 8),
        ] {
            assert_eq!(length(id, dwords)?, Some(expected));
        }
        Ok(())
    }

    #[test]
    fn each_id_is_decided() -> Result {
        let shown = [
            PM,
            AGP,
            VPD,
            MSI,
            PCIX,
            HYPERTRANSPORT,
            VENDOR,
            EXP,
            MSIX,
            SATA,
            AF,
        ];
        for id in 0..=0xff {
            let is_hidden = HIDDEN.iter().any(|entry| entry.0 == id);
            assert_eq!(is_hidden || shown.contains(&id), id <= LAST);
            let expected = shown.contains(&id);
            assert_eq!(length(id, [0xffff_ffff; 2])?.is_some(), expected);
        }
        assert_eq!(length(VENDOR, [0x0000_0009, 0])?, None);
        Ok(())
    }

    #[test]
    fn nothing_is_read_beyond_the_end() -> Result {
        let mock = Mock::new(256)?;
        let probe = Probe {
            hw: &mock,
            start: 0xfc,
            limit: 256,
        };

        assert!(probe.byte(3).is_ok());
        assert!(matches!(
            probe.byte(4),
            Err(CapStop::Fault(FaultKind::OutOfRange))
        ));
        assert!(probe.word(0xffff).is_err());
        Ok(())
    }
}
