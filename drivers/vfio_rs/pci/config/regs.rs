// SPDX-License-Identifier: GPL-2.0

//! Offsets and bits of the configuration registers that are treated specially.
//!
//! Names and values as in include/uapi/linux/pci_regs.h, without the `PCI_` prefix; offsets inside
//! a module of a capability count from the start of that capability.

/// Bytes of conventional configuration space; extended capabilities start here.
pub(super) const CFG_SPACE_SIZE: u16 = 256;
/// Bytes of PCI Express configuration space.
pub(super) const CFG_SPACE_EXP_SIZE: u16 = 4096;
/// Bytes of the header; standard capabilities start here.
pub(super) const STD_HEADER_SIZE: u16 = 64;

/// Second byte of a standard capability: offset of the next one.
pub(super) const CAP_LIST_NEXT: u16 = 1;
/// Offset bits of the next pointer in the header of an extended capability.
pub(super) const EXT_CAP_NEXT: u32 = 0xffc << 20;

/// Type 0 header.
pub(super) mod header {
    pub(crate) const VENDOR_ID: u16 = 0x00;
    pub(crate) const DEVICE_ID: u16 = 0x02;
    pub(crate) const COMMAND: u16 = 0x04;
    pub(crate) const STATUS: u16 = 0x06;
    pub(crate) const ROM_ADDRESS: u16 = 0x30;
    pub(crate) const CAPABILITY_LIST: u16 = 0x34;
    pub(crate) const INTERRUPT_PIN: u16 = 0x3d;

    pub(crate) const COMMAND_IO: u16 = 0x1;
    pub(crate) const COMMAND_MEMORY: u16 = 0x2;
    pub(crate) const COMMAND_INTX_DISABLE: u16 = 0x400;
    pub(crate) const STATUS_CAP_LIST: u16 = 0x10;

    pub(crate) const BAR_IO: u32 = 0x1;
    pub(crate) const BAR_MEM_64: u32 = 0x4;
    pub(crate) const BAR_PREFETCH: u32 = 0x8;
    pub(crate) const ROM_ENABLE: u32 = 0x1;
}

/// Power Management.
pub(super) mod pm {
    pub(crate) const PMC: u16 = 2;
    pub(crate) const PMC_PME_MASK: u16 = 0xf800;
    pub(crate) const CTRL: u16 = 4;
    pub(crate) const CTRL_STATE_MASK: u16 = 0x3;
    pub(crate) const CTRL_PME_ENABLE: u16 = 0x100;
    pub(crate) const CTRL_PME_STATUS: u16 = 0x8000;
}

/// Vital Product Data.
pub(super) mod vpd {
    pub(crate) const ADDR: u16 = 2;
    /// Written 0 to read and 1 to write; the device flips it when done.
    pub(crate) const ADDR_F: u16 = 0x8000;
    pub(crate) const DATA: u16 = 4;
}

/// Message Signalled Interrupts.
pub(super) mod msi {
    pub(crate) const FLAGS: u16 = 2;
    pub(crate) const FLAGS_ENABLE: u16 = 0x1;
    /// log2 of the number of vectors in use.
    pub(crate) const FLAGS_QSIZE: u16 = 0x70;
    pub(crate) const FLAGS_64BIT: u16 = 0x80;
    pub(crate) const FLAGS_MASKBIT: u16 = 0x100;
}

/// PCI-X.
pub(super) mod pcix {
    pub(crate) const CMD: u16 = 2;
    pub(crate) const CMD_VERSION: u16 = 0x3000;
}

/// PCI Express.
pub(super) mod exp {
    pub(crate) const FLAGS: u16 = 2;
    pub(crate) const FLAGS_VERS: u16 = 0xf;
    pub(crate) const FLAGS_TYPE: u16 = 0xf0;
    /// Root complex integrated endpoint, in the place of `FLAGS_TYPE`.
    pub(crate) const TYPE_RC_END: u16 = 0x90;
    pub(crate) const DEVCAP: u16 = 4;
    pub(crate) const DEVCAP_FLR: u32 = 1 << 28;
    pub(crate) const DEVCTL: u16 = 8;
    pub(crate) const DEVCTL_PAYLOAD: u16 = 0xe0;
    pub(crate) const DEVCTL_PHANTOM: u16 = 0x200;
    pub(crate) const DEVCTL_READRQ: u16 = 0x7000;
    pub(crate) const DEVCTL_FLR: u16 = 0x8000;
    pub(crate) const DEVCTL2_ARI: u16 = 0x20;
}

/// Advanced Features.
pub(super) mod af {
    pub(crate) const CAP: u16 = 3;
    pub(crate) const CAP_TP: u32 = 0x1;
    pub(crate) const CAP_FLR: u32 = 0x2;
    pub(crate) const CTRL: u16 = 4;
    pub(crate) const CTRL_FLR: u32 = 0x1;
}
