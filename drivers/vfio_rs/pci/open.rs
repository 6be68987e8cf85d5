// SPDX-License-Identifier: GPL-2.0

//! A device from its first open to its last close.

use core::array::from_fn;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::Atomic,
        Arc,
        Mutex, //
    },
};
use vfio_kernel::{
    gate::Gate,
    log,
    new_rwsem,
    pci::{
        BarWindow,
        BoundPci,
        IntxMask,
        IntxPin,
        MappableBar,
        PciDevice,
        SavedState, //
    },
    rwsem::RwSem,
    uapi,
    worker::Worker, //
};

use super::{
    bar::Bar,
    config::{
        quirks,
        BarFacts,
        BarSpace,
        ConfigSpace,
        Facts,
        IntxLine, //
    },
    config_io::RealConfig,
    igd,
    ioeventfd::IoEventFd,
    msix::MsixTable,
    offsets::Offsets,
    power::MemoryState,
    specific::SpecificRegions,
    Device, //
};
use crate::{
    core::Access,
    iommu_group::Group,
    pci::irq::Irqs, //
};

/// Offset of the command register and some of its bits, `include/uapi/linux/pci_regs.h`.
pub(super) const COMMAND: u16 = 0x04;
pub(super) const COMMAND_MEMORY: u16 = 0x2;
pub(super) const COMMAND_MASTER: u16 = 0x4;
pub(super) const COMMAND_INTX_DISABLE: u16 = 0x400;

/// The state of a device that is open.
#[pin_data]
pub(crate) struct Open {
    pub(super) device: Arc<Device>,
    /// By what it does DMA.
    pub(super) access: Access,
    /// Whether the function can be reset by itself.
    pub(super) reset_works: bool,
    saved: Option<SavedState>,
    /// BARs that are there and could be reserved, or why not.
    bars: [Result<Bar>; 6],
    /// BARs that users may map.
    mappable: [Option<MappableBar>; 6],
    /// The table of MSI-X, if the device has one where it can be.
    pub(super) msix: Option<MsixTable>,
    /// Regions that only this device has, or why they cannot be had.
    specific: Result<SpecificRegions>,
    #[pin]
    pub(super) config: Mutex<ConfigSpace>,
    /// Whether memory accesses are answered. Held for reading while the device's memory is
    /// accessed or mapped, for writing while that changes.
    #[pin]
    pub(super) memory: RwSem<MemoryState>,
    /// Shut while the device is being reset and `memory` is not locked.
    pub(super) gate: Arc<Gate>,
    /// Whether `memory` has `low_power`, for those who do not have it locked.
    pub(super) may_sleep: Atomic<bool>,
    /// Bytes of each BAR, and whether it is memory.
    pub(super) bar_kinds: [(u64, bool); 6],
    /// Whether the last access to the vital product data failed.
    pub(super) vpd_fails: Atomic<bool>,
    /// Where regions are in the device's file.
    pub(super) offsets: Offsets,
    /// Vectors of the MSI capability.
    pub(super) msi_count: u32,
    pub(super) pin: Arc<IntxPin>,
    #[pin]
    pub(super) irqs: Mutex<Irqs>,
    /// Does what signals of eventfds ask for and cannot do themselves.
    pub(super) worker: Arc<Worker>,
    /// Eventfds that write to BARs.
    #[pin]
    pub(super) ioeventfds: Mutex<KVec<IoEventFd>>,
}

impl Open {
    /// The device's group.
    pub(crate) fn group(&self) -> &Group {
        self.device.group()
    }

    /// Switches the device on, reset and unable to do DMA, and remembers how to leave it.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if the device is locked by someone else, `ENOMEM`, or what the PCI core says.
    pub(super) fn enable(device: &Arc<Device>, access: &Access) -> Result<Arc<Self>> {
        let pci = device.pci();
        pci.clear_master();
        pci.enable()?;
        let open = Self::enable_inner(device, access).inspect_err(|_| pci.disable())?;
        // Lets BARs be mapped for other devices' DMA, if their memory is enabled already.
        drop(open.write_memory());
        Ok(open)
    }

    fn enable_inner(device: &Arc<Device>, access: &Access) -> Result<Arc<Self>> {
        let pci = device.pci();
        let own = device.resets().by_ourselves();
        let reset_works = match pci.try_reset_function() {
            Err(EAGAIN) => return Err(EAGAIN),
            ret => ret.is_ok(),
        };
        drop(own);
        pci.save_state();
        let saved = pci.store_saved_state();

        let intx = match (
            device.params.nointxmask,
            quirks::has_broken_intx(pci.vendor(), pci.device_id()),
        ) {
            (false, true) => {
                if log::may_log(log::Subject::Opens) {
                    dev_info!(pci.device(), "Masking broken INTx support\n");
                }
                pci.intx(false);
                IntxMask::Always
            }
            (false, false) if pci.intx_mask_supported() => IntxMask::InDevice,
            _ => IntxMask::AtController,
        };
        if intx == IntxMask::InDevice {
            // The user is to see a pin that is not disabled, as after a reset.
            let command = pci.read_config_word(COMMAND);
            if command & COMMAND_INTX_DISABLE != 0 {
                pci.write_config_word(COMMAND, command & !COMMAND_INTX_DISABLE);
            }
        }

        let msix = msix_table(pci);
        if msix.is_err() && log::may_log(log::Subject::Opens) {
            dev_warn!(
                pci.device(),
                "MSI-X table is not inside a memory BAR, not offered\n"
            );
        }
        let mut facts = facts(pci, intx)?;
        facts.no_msix = msix.is_err();
        let msix = msix.unwrap_or(None);
        let hw = RealConfig {
            device,
            pin: None,
            no_dma: false,
        };
        let config = ConfigSpace::new(&hw, &facts)?;
        let interrupt_pin = IntxPin::new(pci, intx)?;
        let findings = config.findings();
        for (chain, fault) in [("", findings.standard), ("extended ", findings.extended)] {
            if let Some(fault) = fault.filter(|_| log::may_log(log::Subject::Opens)) {
                dev_warn!(
                    pci.device(),
                    "Chain of {chain}capabilities: {:#x} {}\n",
                    fault.at,
                    fault.kind.describe()
                );
            }
        }
        let pin = findings.vf_pin;
        if let Some(pin) = pin.filter(|_| log::may_log(log::Subject::Opens)) {
            dev_warn!(
                pci.device(),
                "Hardware bug: VF reports bogus INTx pin {pin}\n"
            );
        }
        let memory = config.memory_enabled();
        let specific = match config.private() {
            Some(asls) if igd::is_in_place(pci) => igd::regions(asls),
            _ => Ok(SpecificRegions::new()),
        };
        let worker = device.new_worker()?;
        let mappable: [_; 6] = from_fn(|bar| MappableBar::new(pci, bar as u32).ok());
        let bars = from_fn(|bar| {
            // What the kernel programs is in nobody's write-combining map.
            let whole = mappable
                .get(bar)
                .and_then(Option::as_ref)
                .filter(|_| msix.is_none_or(|msix| !msix.needs(bar as u32)));
            Bar::new(pci, bar as u32, whole)
        });
        Arc::pin_init(
            pin_init!(Self {
                device: device.clone(),
                access: access.clone(),
                reset_works,
                saved,
                bars,
                mappable,
                msix,
                specific,
                config <- new_mutex!(config, "Open::config"),
                memory <- new_rwsem!(MemoryState::new(memory), "Open::memory"),
                gate: device.resets().gate().clone(),
                may_sleep: Atomic::new(false),
                bar_kinds: from_fn(|bar| (pci.bar_len(bar as u32), pci.bar_is_memory(bar as u32))),
                vpd_fails: Atomic::new(false),
                offsets: Offsets::new(from_fn(|bar| pci.bar_len(bar as u32))),
                msi_count: msi_count(pci),
                pin: interrupt_pin,
                irqs <- new_mutex!(Irqs::Off, "Open::irqs"),
                worker,
                ioeventfds <- new_mutex!(KVec::new(), "Open::ioeventfds"),
            }),
            GFP_KERNEL,
        )
    }

    /// Switches the device off: no DMA, no interrupts, as it was found. Cannot fail; returns
    /// whether the function was reset.
    pub(super) fn disable(&self) -> bool {
        let pci = self.pci();
        self.clear_ioeventfds();
        let mut memory = self.memory.write();
        self.device.bar_dma().close();
        // Who still has a reference maps nothing any more.
        memory.enabled = false;
        memory.stay_awake(self);
        drop(memory);
        pci.wake_up();
        let mut memory = self.memory.write();
        // A sleeping device takes no part in a reset, and its configuration is to be restored.
        let _ = self.set_power_state(&mut memory, 0);
        drop(memory);
        pci.clear_master();
        self.disable_irqs(&mut self.irqs.lock());

        let restored = match &self.saved {
            Some(saved) => pci.load_saved_state(saved).is_ok(),
            None => false,
        };
        if !restored && log::may_log(log::Subject::Opens) {
            dev_info!(pci.device(), "Couldn't reload saved state\n");
        }
        let mut was_reset = false;
        if restored || self.reset_works {
            if !restored {
                pci.save_state();
            }
            // No interrupt out of the reset.
            pci.write_config_word(COMMAND, COMMAND_INTX_DISABLE);
            was_reset = self.reset_works && pci.reset_if_unlocked();
            pci.restore_state();
        }
        pci.disable();
        was_reset
    }

    /// A BAR that is reserved.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is none, `EBUSY` if it is somebody else's, `ENOMEM`.
    pub(super) fn bar(&self, bar: u32) -> Result<&Bar> {
        match self.bars.get(bar as usize) {
            Some(Ok(bar)) => Ok(bar),
            Some(Err(err)) => Err(*err),
            None => Err(ENODEV),
        }
    }

    /// Regions that only this device has.
    ///
    /// # Errors
    ///
    /// What kept them from being had; no user has such a device.
    pub(super) fn specific(&self) -> Result<&SpecificRegions> {
        self.specific.as_ref().map_err(|err| *err)
    }

    /// Where a BAR is, if users may map it.
    pub(super) fn window(&self, bar: u32) -> Option<BarWindow> {
        Some(self.mappable.get(bar as usize)?.as_ref()?.window())
    }

    /// The atomic operations that the device completes, `VFIO_PCI_ATOMIC_COMP*`. A virtual function
    /// leaves them to its physical one.
    pub(crate) fn atomic_completions(&self) -> u32 {
        const SIZES: [(u32, u32); 3] = [
            (4, uapi::VFIO_PCI_ATOMIC_COMP32),
            (8, uapi::VFIO_PCI_ATOMIC_COMP64),
            (16, uapi::VFIO_PCI_ATOMIC_COMP128),
        ];
        let physfn = self.pci().physfn();
        let pci = physfn.as_ref().unwrap_or(self.pci());
        let completed = pci.completed_atomics();
        SIZES
            .into_iter()
            .filter(|(bytes, _)| completed & bytes != 0)
            .fold(0, |flags, (_, flag)| flags | flag)
    }

    /// By what it does DMA.
    pub(crate) fn dma_access(&self) -> &Access {
        &self.access
    }

    /// The PCI device.
    pub(super) fn pci(&self) -> &BoundPci {
        self.device.pci()
    }
}

/// What the configuration space does not tell about a function.
fn facts(pci: &PciDevice, intx: IntxMask) -> Result<Facts> {
    let mut bars = [None; 6];
    for (i, slot) in (0u32..).zip(bars.iter_mut()) {
        if pci.bar_start(i) == 0 {
            continue;
        }
        let flags = pci.bar_flags(i);
        *slot = Some(BarFacts {
            size: pci.bar_len(i),
            space: match (pci.bar_is_memory(i), flags & BAR_MEM_64 != 0) {
                (false, _) => BarSpace::Io,
                (true, false) => BarSpace::Memory32,
                (true, true) => BarSpace::Memory64,
            },
            prefetch: flags & BAR_PREFETCH != 0,
        });
    }
    Ok(Facts {
        size: pci.cfg_size().try_into()?,
        is_virtfn: pci.is_virtfn(),
        no_command_memory: pci.no_command_memory(),
        vendor: pci.vendor(),
        device: pci.device_id(),
        intx: match intx {
            IntxMask::Always => IntxLine::Broken,
            _ if pci.has_irq() => IntxLine::Usable,
            _ => IntxLine::Unusable,
        },
        bars,
        rom_size: pci.rom().map_or(0, |(_, size)| size),
        no_msix: false,
        private: igd::is_intel_display(pci).then_some(igd::ASLS),
    })
}

/// Bits of a memory BAR, PCI Local Bus Specification 3.0, 6.2.5.1.
const BAR_MEM_64: u32 = 0x4;
const BAR_PREFETCH: u32 = 0x8;

/// Vectors of the MSI capability, PCI Local Bus Specification 3.0, 6.8.1.3.
fn msi_count(pci: &PciDevice) -> u32 {
    match u16::from(pci.msi_cap()).checked_add(2) {
        Some(flags) if flags > 2 => {
            let order = (pci.read_config_word(flags) >> 1) & 0x7;
            1u32.checked_shl(order.into()).unwrap_or(0)
        }
        _ => 0,
    }
}

/// The table of MSI-X; `None` if the device has no MSI-X.
///
/// # Errors
///
/// `EINVAL` if the table is where it cannot be.
pub(super) fn msix_table(pci: &PciDevice) -> Result<Option<MsixTable>> {
    let cap = u16::from(pci.msix_cap());
    if cap == 0 {
        return Ok(None);
    }
    let at = |offset| cap.checked_add(offset).ok_or(EINVAL);
    let control = pci.read_config_word(at(2)?);
    let table = pci.read_config_dword(at(4)?);
    let pending = pci.read_config_dword(at(8)?);
    MsixTable::new(control, table, pending, |bar| {
        pci.bar_is_memory(bar).then(|| pci.bar_len(bar))
    })
    .map(Some)
}
