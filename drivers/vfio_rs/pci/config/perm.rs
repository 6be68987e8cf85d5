// SPDX-License-Identifier: GPL-2.0

//! What a user may do to each bit of each capability, as data.
//!
//! Key type: [`Perm`], one table per kind of capability with one line ([`Bits`]) per dword. A
//! *virtual* bit is read from the private copy and written there; any other bit is the device's
//! own. A bit that is not *writable* keeps its value whatever is written.
//!
//! The reasons stand at each table. Bits are those of include/uapi/linux/pci_regs.h; section
//! numbers are those of the PCI Express Base Specification 5.0 unless another is named. Stands for
//! the `init_pci_*_perm()` functions of drivers/vfio/pci/vfio_pci_config.c.

use super::regs::{
    exp,
    header,
    msi,
    pm, //
};

/// Treatment of the bits of one dword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    /// Bits served from the private copy.
    pub(super) virt: u32,
    /// Bits the user may change.
    pub(super) write: u32,
}

/// Registers whose writes do more than store bits, by the code that takes care of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    /// Nothing special.
    None,
    /// Header: COMMAND and the BARs, `header.rs`.
    Header,
    /// Power Management, `virt.rs` as all below.
    Pm,
    /// Vital Product Data.
    Vpd,
    /// MSI.
    Msi,
    /// PCI Express.
    Exp,
    /// Advanced Features.
    Af,
}

/// Treatment of one kind of capability.
#[derive(Debug)]
pub(super) struct Perm {
    /// From the start of the capability.
    dwords: &'static [Bits],
    /// All dwords after those.
    rest: Bits,
    /// Consequences of writes.
    pub(super) special: Special,
}

impl Perm {
    /// Treatment of the dword at `offset` from the start of the capability.
    pub(super) fn dword(&self, offset: u16) -> Bits {
        self.dwords
            .get(usize::from(offset / 4))
            .copied()
            .unwrap_or(self.rest)
    }
}

const ALL: u32 = 0xffff_ffff;
const ALL16: u32 = 0xffff;

/// The device's own bits, read-only.
const RO: Bits = bits(0, 0);
/// The device's own bits, writable.
const RW: Bits = bits(0, ALL);
/// Private bits, read-only.
const VIRT_RO: Bits = bits(ALL, 0);
/// Private bits, writable.
const VIRT_RW: Bits = bits(ALL, ALL);

/// Pointer to the next capability in the first dword of each standard capability. Private, so that
/// capabilities can be taken out of the chain.
const NEXT: u32 = 0xff << 8;

const fn bits(virt: u32, write: u32) -> Bits {
    Bits { virt, write }
}

/// The upper half of a dword.
const fn high(word: u16) -> u32 {
    (word as u32) << 16
}

/// The lower half of a dword.
const fn low(word: u16) -> u32 {
    word as u32
}

const fn perm(dwords: &'static [Bits], special: Special) -> Perm {
    Perm {
        dwords,
        rest: RO,
        special,
    }
}

/// Bytes that no capability owns: the device's own. Some devices keep registers there without
/// which they do not work (be2net); as with MMIO, the device's isolation is what counts.
pub(super) static GAP: Perm = Perm {
    dwords: &[],
    rest: RW,
    special: Special::None,
};

/// Bytes that no capability is known to own, but the chain could not be walked to its end: there
/// may be capabilities in them, so they are not to be written. Stricter than C.
pub(super) static UNTRUSTED_GAP: Perm = perm(&[], Special::None);

/// Bytes of a hidden capability: the device's own, to be looked at only. The host owns them.
/// Stricter than C.
pub(super) static HIDDEN: Perm = perm(&[], Special::None);

/// A register that only the kernel may change: the user has a copy to write to.
pub(super) static PRIVATE: Perm = perm(&[VIRT_RW], Special::None);

/// Standard capabilities without a table of their own: to be looked at only. The host owns them.
pub(super) static READ_ONLY: Perm = perm(&[bits(NEXT, 0)], Special::None);

/// Extended capabilities without a table of their own: likewise. The whole first dword is private,
/// as the id goes too when the first capability of the chain has to be hidden.
pub(super) static EXT_READ_ONLY: Perm = perm(&[VIRT_RO], Special::None);

/// Type 0 header (7.5.1).
pub(super) static HEADER: Perm = perm(
    &[
        // 0x00 Vendor and device id: VFs read 0xffff, the copy has the real ones.
        VIRT_RO,
        // 0x04 Command: all writable; INTx Disable is private, since the host masks with the real
        //      one and emulates it for devices that have none. Status: read-only; the flag for the
        //      capability list is private, as the list may turn out empty.
        bits(
            low(header::COMMAND_INTX_DISABLE) | high(header::STATUS_CAP_LIST),
            ALL16,
        ),
        // 0x08 Revision and class.
        RO,
        // 0x0c Cache line size, latency timer and BIST: harmless. Header type: read-only.
        bits(0, 0xff00_ffff),
        // 0x10 BARs: the real ones are the host's, see `header.rs`.
        VIRT_RW,
        VIRT_RW,
        VIRT_RW,
        VIRT_RW,
        VIRT_RW,
        VIRT_RW,
        // 0x28 CardBus CIS; subsystem ids.
        RO,
        RO,
        // 0x30 Expansion ROM: as the BARs.
        VIRT_RW,
        // 0x34 Pointer to the first capability.
        bits(0xff, 0),
        // 0x38 Reserved.
        RO,
        // 0x3c Interrupt line: a note for software. Interrupt pin: private, to hide INTx.
        bits(0xffff, 0xff),
    ],
    Special::Header,
);

/// Power Management (7.5.2).
///
/// A user cannot handle PME, the host does: capability, enable and status of it are private and
/// zero. The state field is read-only here; the change goes through the PCI core.
pub(super) static PM: Perm = perm(
    &[
        bits(NEXT | high(pm::PMC_PME_MASK), 0),
        bits(
            low(pm::CTRL_PME_ENABLE | pm::CTRL_PME_STATUS),
            !low(pm::CTRL_PME_ENABLE | pm::CTRL_PME_STATUS | pm::CTRL_STATE_MASK),
        ),
    ],
    Special::Pm,
);

/// Vital Product Data (7.9): address and data are private; accesses go through the kernel, which
/// serialises them and knows which devices have it broken.
pub(super) static VPD: Perm = perm(
    &[bits(NEXT | high(0xffff), high(0xffff)), VIRT_RW],
    Special::Vpd,
);

/// PCI-X (PCI-X Protocol Addendum 2.0): command and ECC control are the user's. ECC control
/// exists only in the long form.
pub(super) static PCIX: Perm = perm(&[bits(NEXT, high(0xffff)), RO, RW], Special::None);

/// Vendor-specific (7.9.4): the kernel cannot know what it means. All but the header of it is the
/// user's.
pub(super) static VENDOR: Perm = Perm {
    dwords: &[bits(NEXT, high(0xffff))],
    rest: RW,
    special: Special::None,
};

/// Vendor-specific extended (7.9.5) and designated vendor-specific (7.9.6) capability: likewise.
pub(super) static EXT_VENDOR: Perm = Perm {
    dwords: &[VIRT_RO],
    rest: RW,
    special: Special::None,
};

/// PCI Express (7.5.3).
///
/// Device Control: the user's, except Phantom Functions (would confuse the IOMMU). Payload size is
/// private: the right value depends on the whole path. Read request size and function level reset
/// are private and handled in `virt.rs`. Device Control 2: the user's, except ARI, which is set
/// when the bus is scanned. Link and slot registers are the host's.
pub(super) static EXP: Perm = perm(
    &[
        bits(NEXT, 0),
        // 0x04 Device capabilities.
        RO,
        // 0x08 Device control and status.
        bits(
            low(exp::DEVCTL_FLR | exp::DEVCTL_PAYLOAD | exp::DEVCTL_READRQ),
            low(!exp::DEVCTL_PHANTOM),
        ),
        // 0x0c Link, slot, root; device capabilities 2.
        RO,
        RO,
        RO,
        RO,
        RO,
        RO,
        RO,
        // 0x28 Device control and status 2.
        bits(0, low(!exp::DEVCTL2_ARI)),
    ],
    Special::Exp,
);

/// Advanced Features (PCI ECN Advanced Capabilities for Conventional PCI): the reset bit is
/// private.
pub(super) static AF: Perm = perm(&[bits(NEXT, 0), bits(0x1, 0x1)], Special::Af);

/// Message Control of MSI: the lower byte is private, the upper is reserved.
const MSI_HEAD: Bits = bits(NEXT | high(0xff), high(0xff));

/// MSI (7.7.1) with a 32-bit address. Address and data are private: the host programs the real
/// ones. Mask and pending bits, where they exist, are the user's.
static MSI_32: Perm = perm(&[MSI_HEAD, VIRT_RW, bits(ALL16, ALL16)], Special::Msi);
/// MSI with a 32-bit address and masking.
static MSI_32_MASK: Perm = perm(
    &[MSI_HEAD, VIRT_RW, bits(ALL16, ALL16), RW, RW],
    Special::Msi,
);
/// MSI with a 64-bit address.
static MSI_64: Perm = perm(
    &[MSI_HEAD, VIRT_RW, VIRT_RW, bits(ALL16, ALL16)],
    Special::Msi,
);
/// MSI with a 64-bit address and masking.
static MSI_64_MASK: Perm = perm(
    &[MSI_HEAD, VIRT_RW, VIRT_RW, bits(ALL16, ALL16), RW, RW],
    Special::Msi,
);

/// Length and table of an MSI capability with this Message Control.
pub(super) fn msi(flags: u16) -> (u16, &'static Perm) {
    match (
        flags & msi::FLAGS_64BIT != 0,
        flags & msi::FLAGS_MASKBIT != 0,
    ) {
        (false, false) => (10, &MSI_32),
        (false, true) => (20, &MSI_32_MASK),
        (true, false) => (14, &MSI_64),
        (true, true) => (24, &MSI_64_MASK),
    }
}

/// Uncorrectable errors of the generations up to PCI Express 3.1 (7.8.4.2), and the bit that used
/// to be training error.
const UNCORRECTABLE: Bits = bits(0, 0x03ff_f031);
/// Correctable errors (7.8.4.5).
const CORRECTABLE: Bits = bits(0, 0x0000_f1c1);
/// ECRC generation and check enable (7.8.4.7).
const ECRC: Bits = bits(0, 0x140);

/// Advanced Error Reporting (7.8.4): the user may clear, mask and grade errors. The header log is
/// read-only, and the part for root ports is not shown to be there.
pub(super) static AER: Perm = perm(
    &[
        VIRT_RO,
        // 0x04 Uncorrectable errors: status, mask, severity.
        UNCORRECTABLE,
        UNCORRECTABLE,
        UNCORRECTABLE,
        // 0x10 Correctable errors: status, mask.
        CORRECTABLE,
        CORRECTABLE,
        // 0x18 Capabilities and control.
        ECRC,
    ],
    Special::None,
);

/// Power Budgeting (7.8.1): the data selector may be written, the data it selects is read-only. C
/// means that too, but opens the data register.
pub(super) static POWER_BUDGETING: Perm = perm(&[VIRT_RO, bits(0, 0xff)], Special::None);

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_config_perm))]
mod tests {
    use super::*;

    /// All tables for standard capabilities.
    const STANDARD: [&Perm; 11] = [
        &READ_ONLY,
        &PM,
        &VPD,
        &PCIX,
        &VENDOR,
        &EXP,
        &AF,
        &MSI_32,
        &MSI_32_MASK,
        &MSI_64,
        &MSI_64_MASK,
    ];

    /// All tables for extended capabilities.
    const EXTENDED: [&Perm; 4] = [&EXT_READ_ONLY, &EXT_VENDOR, &AER, &POWER_BUDGETING];

    #[test]
    fn chains_are_private_and_fixed() {
        for table in STANDARD {
            let head = table.dword(0);
            assert_eq!(head.virt & 0xffff, NEXT);
            assert_eq!(head.write & 0xffff, 0);
        }
        for table in EXTENDED {
            assert_eq!(table.dword(0), VIRT_RO);
        }
    }

    #[test]
    fn tables_are_by_dword() {
        assert_eq!(HEADER.dword(0x04).write, 0xffff);
        assert_eq!(HEADER.dword(0x30), VIRT_RW);
        assert_eq!(HEADER.dword(0x34).virt, 0xff);
        assert_eq!(HEADER.dword(0x3c).write, 0xff);
        assert_eq!(EXP.dword(0x08).write, 0xfdff);
        assert_eq!(EXP.dword(0x28).write, 0xffdf);
        assert_eq!(EXP.dword(0x2c), RO);
        assert_eq!(AER.dword(0x18).write, 0x140);
        assert_eq!(AER.dword(0x1c), RO);
        assert_eq!(GAP.dword(0x40), RW);
        assert_eq!(UNTRUSTED_GAP.dword(0x40), RO);
        assert_eq!(EXT_VENDOR.dword(0xffc), RW);
    }

    #[test]
    fn power_state_is_not_writable() {
        assert_eq!(PM.dword(4).write & 0x8103, 0);
        assert_eq!(PM.dword(4).virt, 0x8100);
    }

    #[test]
    fn msi_tables_fit_their_lengths() {
        for flags in [0, 0x80, 0x100, 0x180] {
            let (length, table) = msi(flags);
            let last = length.saturating_sub(2);
            assert!(table.dword(last).write != 0);
            assert_eq!(table.dword(length.next_multiple_of(4)), RO);
        }
    }
}
