// SPDX-License-Identifier: GPL-2.0

//! The configuration space a user sees: what is real, what is a copy, what may change.
//!
//! Virtualised by data: `perm.rs` has one table per capability that says, bit by bit, whether a
//! bit is served from a private copy (*virtual*) and whether the user may change it (*writable*).
//! Everything else passes to the device. The few registers whose writes mean more than storing
//! bits are in `header.rs` and `virt.rs`; they act on the copy and report what is left for the
//! caller to do as [`Effects`].
//!
//! Pure: no kernel call but through [`Hardware`]. Takes no lock. Stands for
//! drivers/vfio/pci/vfio_pci_config.c.
//!
//! | file        | has                                                              |
//! |-------------|------------------------------------------------------------------|
//! | `regs.rs`   | register offsets and bits                                        |
//! | `perm.rs`   | the permission tables                                            |
//! | `layout.rs` | which capability owns which bytes                                |
//! | `caps.rs`   | standard capabilities: length and table of each, which is hidden |
//! | `ext.rs`    | extended capabilities: the same                                  |
//! | `hidden.rs` | what those own that are hidden                                   |
//! | `walk*.rs`  | both chain walks, done once at open                              |
//! | `shadow.rs` | the private copy                                                 |
//! | `access.rs` | how an access is cut into pieces, and what each piece may do     |
//! | `bars.rs`   | what BAR registers can hold                                      |
//! | `header.rs` | COMMAND, recovery from a reset nobody told us of                 |
//! | `quirks.rs` | devices that are not as they say                                 |
//! | `virt.rs`   | PM, VPD, MSI, PCI Express and AF registers with consequences     |
//!
//! # Use
//!
//! Reads are one call. Writes go piece by piece, because what one piece asks for (a power state, a
//! reset) must be done before the next piece reaches the device:
//!
//! ```text
//! let mut done = 0;
//! while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
//!     let cut = config.cut(offset + done, rest)?;
//!     perform(config.put(&hw, &cut)?)?;
//!     done += cut.len();
//! }
//! ```
//!
//! The caller serialises all calls. It also keeps BAR accesses and faults on BAR mappings out
//! (C's `memory_lock`, held for writing) while it writes and performs the effects, but for writes
//! that only store bits, [`Cut::only_stores`].

mod access;
mod bars;
mod caps;
mod ext;
mod header;
mod hidden;
mod layout;
mod perm;
pub(crate) mod quirks;
mod regs;
mod shadow;
mod virt;
mod walk;
mod walk_ext;

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
pub(crate) mod mock;

use kernel::prelude::*;

use self::{
    access::ConfigPiece,
    bars::BarRegister,
    layout::Layout,
    shadow::VirtConfig, //
};

pub(crate) use self::virt::{
    PowerState,
    Vpd, //
};

// What a user may do with each capability that the kernel knows is decided. Asked of the kernel
// that is tested only: others build all the same, and hide what is newer.
#[cfg(all(not(test), CONFIG_VFIO_RS_KUNIT_TEST))]
const _: () = {
    use vfio_kernel::pci::{
        CAP_ID_MAX,
        EXT_CAP_ID_MAX, //
    };
    assert!(caps::LAST as u32 == CAP_ID_MAX && ext::LAST as u32 == EXT_CAP_ID_MAX);
};

/// Size of one access to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits, at an even offset.
    Word,
    /// 32 bits, at a multiple of 4.
    Dword,
}

/// The device's real configuration space.
///
/// Accesses are aligned to their width and inside the configuration space. Values are in CPU byte
/// order. Implemented over `pci_user_{read,write}_config_*`, whose errors are passed on.
pub(crate) trait Hardware {
    /// Reads a register.
    fn read(&self, offset: u16, width: Width) -> Result<u32>;

    /// Writes a register.
    fn write(&self, offset: u16, width: Width, value: u32) -> Result;

    /// The write in progress is about to stop the function from answering memory accesses: take
    /// away all user mappings of its BARs before returning.
    ///
    /// Called for each write to COMMAND that leaves memory decoding off, before it reaches the
    /// device. C: `vfio_pci_zap_bars()`.
    fn revoke(&self);
}

/// The address space of a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarSpace {
    /// I/O ports.
    Io,
    /// Memory, 32-bit address.
    Memory32,
    /// Memory, 64-bit address; the next BAR register is the upper half.
    Memory64,
}

/// A BAR that has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BarFacts {
    /// Bytes, a power of two.
    pub(crate) size: u64,
    /// What it decodes.
    pub(crate) space: BarSpace,
    /// Whether memory is prefetchable.
    pub(crate) prefetch: bool,
}

/// The state of the function's INTx line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IntxLine {
    /// Wired to an interrupt.
    Usable,
    /// No interrupt behind it: `pdev->irq` is 0 or `IRQ_NOTCONNECTED`, or INTx support is off.
    Unusable,
    /// Never to be used, as its masking is broken (C's `nointx`); must stay disabled in COMMAND.
    Broken,
}

/// What the kernel knows about the function and the configuration space does not tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Bytes of configuration space (`pdev->cfg_size`): 256 or 4096, or less where a device is
    /// known to answer less.
    pub(crate) size: u16,
    /// SR-IOV virtual function.
    pub(crate) is_virtfn: bool,
    /// COMMAND has no working memory enable bit (`pdev->no_command_memory`): VFs.
    pub(crate) no_command_memory: bool,
    /// Vendor and device id, used for VFs, whose registers read as `0xffff`.
    pub(crate) vendor: u16,
    /// See `vendor`.
    pub(crate) device: u16,
    /// INTx.
    pub(crate) intx: IntxLine,
    /// BARs 0-5; `None` where `pci_resource_start()` is 0 and for upper halves.
    pub(crate) bars: [Option<BarFacts>; 6],
    /// Bytes of the expansion ROM or of its shadow copy; 0 for none.
    pub(crate) rom_size: u64,
    /// MSI-X is not to be used, so the user does not see that the device has it.
    pub(crate) no_msix: bool,
    /// A dword behind the header, the only one of its kind, that means something to the kernel and
    /// is no capability's: the user gets a copy.
    pub(crate) private: Option<u16>,
}

/// What is wrong with a capability chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// A pointer to a capability that was walked already.
    Loop,
    /// A capability inside another, or running into another.
    Overlap,
    /// A pointer into the header or to the other kind of space, or a capability that runs past
    /// the end.
    OutOfRange,
    /// A pointer that is not a multiple of 4.
    Misaligned,
}

impl FaultKind {
    /// For the log: "capability at ... " and this.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Loop => "was seen already",
            Self::Overlap => "overlaps another",
            Self::OutOfRange => "is out of range",
            Self::Misaligned => "is misaligned",
        }
    }
}

/// Where and why a walk of a capability chain ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChainFault {
    /// What is wrong.
    pub(crate) kind: FaultKind,
    /// Offset of the capability that is wrong. It and all behind it stay hidden.
    pub(crate) at: u16,
}

/// Oddities met at construction, for one line each in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// The chain of standard capabilities is malformed.
    pub(crate) standard: Option<ChainFault>,
    /// The chain of extended capabilities is malformed.
    pub(crate) extended: Option<ChainFault>,
    /// A VF reports this INTx pin, which VFs do not have (SR-IOV 1.1, 3.4.1.18).
    pub(crate) vf_pin: Option<u8>,
}

/// What the caller has to do after a piece was written, in the order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// The BARs had lost their addresses (a reset through the device's own registers) and were
    /// written back. For the log.
    pub(crate) bars_restored: bool,
    /// The user changed INTx Disable: mask (`true`) or unmask (`false`) INTx.
    pub(crate) intx_disable: Option<bool>,
    /// Power state asked for. For [`PowerState::D3hot`] revoke user mappings first.
    pub(crate) power: Option<PowerState>,
    /// Function level reset asked for, by PCI Express or AF, of a function that says it can.
    /// Revoke user mappings, then `pci_try_reset_function()`.
    pub(crate) reset: bool,
    /// Maximum read request size asked for, in bytes. Raise it to `pcie_get_mps()`, then
    /// `pcie_set_readrq()`.
    pub(crate) read_request: Option<u16>,
    /// Access to the VPD asked for, which may take long. If it works, tell
    /// [`ConfigSpace::vpd_done`]; if not, do nothing and the user's driver times out, as with
    /// hardware.
    pub(crate) vpd: Option<Vpd>,
}

/// The first piece of a write: 1, 2 or 4 aligned bytes of one capability, or of none.
pub(crate) struct Cut {
    piece: ConfigPiece,
    value: u32,
}

/// A function's configuration space as its user sees it.
pub(crate) struct ConfigSpace {
    facts: Facts,
    /// Private copy; meaningful in virtual bits, and for memory and I/O enable in COMMAND.
    shadow: VirtConfig,
    /// Which capability owns which bytes.
    layout: Layout,
    /// BAR 0-5 and ROM registers.
    bars: [BarRegister; 7],
    /// See [`ConfigSpace::private`].
    private: Option<u32>,
    /// INTx Disable as last reported to the caller.
    intx_disabled: bool,
    msi: MsiSetup,
    findings: Findings,
}

/// MSI as set up by ioctl, which limits what the user's MSI registers can do.
#[derive(Clone, Copy, Debug, Default)]
struct MsiSetup {
    /// MSI is the active interrupt type.
    active: bool,
    /// log2 of the number of vectors in use now or last.
    order: u16,
}

impl ConfigSpace {
    /// Reads header and capabilities of a function and builds the user's view of it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` for an impossible `facts.size`; what [`Hardware::read`] returns. A
    /// malformed capability chain is no error, see [`Self::findings`].
    pub(crate) fn new(hw: &impl Hardware, facts: &Facts) -> Result<Self> {
        walk::build(hw, facts)
    }

    /// Oddities to be logged once.
    pub(crate) fn findings(&self) -> Findings {
        self.findings
    }

    /// What the device had at open in the dword `facts.private`; `None` if a capability has that.
    pub(crate) fn private(&self) -> Option<u32> {
        self.private
    }

    /// Reads `buf.len()` bytes at `offset`. All or nothing.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the range is not inside the configuration space, as
    /// `vfio_pci_config_rw_single()`; what [`Hardware::read`] returns.
    pub(crate) fn read(&self, hw: &impl Hardware, offset: u64, buf: &mut [u8]) -> Result {
        access::read(self, hw, offset, buf)
    }

    /// Cuts the first piece off `data`, which is to be written at `offset`: at most 4 bytes of one
    /// capability. See the module's text for the loop around it.
    ///
    /// # Errors
    ///
    /// `EFAULT` if `data` does not fit at `offset`, or there is none.
    #[inline(always)]
    pub(crate) fn cut(&self, offset: u64, data: &[u8]) -> Result<Cut> {
        access::cut(self, offset, data)
    }

    /// Writes a piece. Bits that are not writable are dropped silently.
    ///
    /// # Errors
    ///
    /// What [`Hardware`]'s functions return.
    #[inline(always)]
    pub(crate) fn put(&mut self, hw: &impl Hardware, cut: &Cut) -> Result<Effects> {
        access::put(self, hw, cut)
    }

    /// Whether COMMAND, as the user sees it, has memory decoding on. BAR accesses and faults are
    /// refused if not. The caller also refuses them in D3.
    pub(crate) fn memory_enabled(&self) -> bool {
        self.command_memory()
    }

    /// Whether the user sees an INTx pin, that is, whether INTx has one interrupt or none.
    pub(crate) fn has_intx(&self) -> bool {
        self.interrupt_pin() != 0
    }

    /// MSI was enabled by ioctl with this many vectors.
    pub(crate) fn msi_enabled(&mut self, vectors: u16) {
        self.msi = MsiSetup {
            active: true,
            order: vectors
                .checked_next_power_of_two()
                .map_or(0, |vectors| vectors.trailing_zeros() as u16),
        };
    }

    /// MSI was disabled by ioctl.
    pub(crate) fn msi_disabled(&mut self) {
        self.msi.active = false;
    }

    /// A VPD access asked for by [`Effects::vpd`] worked: hands the user the dword that was read
    /// (ignored for [`Vpd::Write`]) and flips the completion flag.
    pub(crate) fn vpd_done(&mut self, vpd: Vpd, data: u32) {
        virt::vpd_done(self, vpd, data)
    }
}
