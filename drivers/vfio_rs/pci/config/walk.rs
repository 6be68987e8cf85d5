// SPDX-License-Identifier: GPL-2.0

//! The walk of the capability chains, once, when a device is opened.
//!
//! Each capability that is shown claims its bytes and gets its virtual bits copied; each that is
//! hidden is taken out of the user's chain by pointing past it. A malformed chain ends at the last
//! good capability, for us and for the user, and is reported as a [`ChainFault`]. Gaps become
//! read-only then, as they may hold capabilities that were never seen.
//!
//! This file has the standard chain and what both share, `walk_ext.rs` the extended chain. Stands
//! for `vfio_config_init()` and `vfio_cap_init()`. C goes on after a conflict, and trusts lengths
//! to be inside configuration space.

use super::{
    caps::{
        self,
        CapStop,
        FoundCap,
        Probe,
        Shown, //
    },
    header,
    hidden::HiddenExtent,
    layout::{
        widest,
        Cap,
        Layout, //
    },
    perm,
    regs::{
        header::*,
        pm,
        *, //
    },
    shadow::VirtConfig,
    ChainFault,
    ConfigSpace,
    Facts,
    FaultKind,
    Findings,
    Hardware,
    MsiSetup,
    Width, //
};
use kernel::prelude::*;

/// See [`ConfigSpace::new`].
pub(super) fn build(hw: &impl Hardware, facts: &Facts) -> Result<ConfigSpace> {
    if !(STD_HEADER_SIZE..=CFG_SPACE_EXP_SIZE).contains(&facts.size) || facts.size % 4 != 0 {
        return Err(EINVAL);
    }
    let mut walker = Walker {
        hw,
        size: facts.size,
        no_msix: facts.no_msix,
        shadow: VirtConfig::new(facts.size)?,
        // As many as most functions have.
        caps: KVec::with_capacity(8, GFP_KERNEL)?,
        hidden: KVec::new(),
        seen: Marks::default(),
        claimed: Marks::default(),
        extended: false,
    };
    let mut findings = Findings::default();

    walker.show(Cap::HEADER)?;
    let bars = header::init(&mut walker.shadow, facts, &mut findings);
    findings.standard = walker.standard_chain()?;
    if walker.extended && facts.size > CFG_SPACE_SIZE {
        findings.extended = walker.extended_chain()?;
    }
    let private = match facts.private {
        Some(at) => walker.private(at)?,
        None => None,
    };
    walker.seal()?;
    let gap = match findings {
        Findings {
            standard: None,
            extended: None,
            ..
        } => &perm::GAP,
        _ => &perm::UNTRUSTED_GAP,
    };
    Ok(ConfigSpace {
        facts: *facts,
        shadow: walker.shadow,
        layout: Layout::new(walker.caps, gap),
        bars,
        private,
        intx_disabled: false,
        msi: MsiSetup::default(),
        findings,
    })
}

/// A set of dwords of configuration space.
#[derive(Default)]
pub(super) struct Marks([u32; 32]);

impl Marks {
    /// Adds the dword at `offset`. Returns whether it was not there.
    pub(super) fn add(&mut self, offset: u16) -> bool {
        let bit = 1u32 << (offset / 4 % 32);
        match self.0.get_mut(usize::from(offset / 128)) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// Whether the dword at `offset` is there.
    pub(super) fn has(&self, offset: u16) -> bool {
        let bit = 1u32 << (offset / 4 % 32);
        let word = self.0.get(usize::from(offset / 128));
        word.is_some_and(|word| word & bit != 0)
    }
}

/// What the walk knows so far.
pub(super) struct Walker<'a, H> {
    /// The device.
    pub(super) hw: &'a H,
    /// Bytes of its configuration space.
    pub(super) size: u16,
    /// MSI-X is hidden.
    no_msix: bool,
    /// The copy that is being made.
    pub(super) shadow: VirtConfig,
    caps: KVec<Cap>,
    /// What hidden ones own: from where on, and how much.
    pub(super) hidden: KVec<(u16, HiddenExtent)>,
    /// Where capabilities started, shown or hidden.
    pub(super) seen: Marks,
    /// Bytes that are owned.
    pub(super) claimed: Marks,
    /// The device is of a kind that has extended capabilities.
    extended: bool,
}

impl<H: Hardware> Walker<'_, H> {
    /// Gives a capability its bytes and copies its virtual bits from the device.
    pub(super) fn show(&mut self, cap: Cap) -> Result {
        let mut at = cap.start;
        while at < cap.end {
            let width = widest(at, cap.end);
            if cap.perm.dword(at.saturating_sub(cap.start)).virt != 0 {
                let value = self.hw.read(at, width)?;
                self.shadow.set(at, width, value);
            }
            at = at.saturating_add(width.bytes());
        }
        Ok(self.caps.push(cap, GFP_KERNEL)?)
    }

    /// As [`Self::show`], if the bytes are there and nobody's.
    pub(super) fn claim(
        &mut self,
        start: u16,
        (length, perm): Shown,
        limit: u16,
    ) -> Result<(), CapStop> {
        let end = start.saturating_add(length);
        if end > limit {
            return Err(CapStop::Fault(FaultKind::OutOfRange));
        }
        let mut free = true;
        for at in (start..end).step_by(4) {
            free &= self.claimed.add(at);
        }
        if !free {
            return Err(CapStop::Fault(FaultKind::Overlap));
        }
        Ok(self.show(Cap { start, end, perm })?)
    }

    /// Gives the user a copy of the dword at `at`, if it is nobody's. Returns what the device has
    /// there.
    fn private(&mut self, at: u16) -> Result<Option<u32>> {
        match self.claim(at, (4, &perm::PRIVATE), self.size) {
            Ok(()) => Ok(Some(self.shadow.get(at, Width::Dword))),
            Err(CapStop::Fault(_)) => Ok(None),
            Err(CapStop::Failed(error)) => Err(error),
        }
    }

    /// Checks a pointer before it is followed. Capabilities start at `first` or later.
    pub(super) fn follow(&mut self, at: u16, first: u16) -> Result<(), FaultKind> {
        if at & 3 != 0 {
            return Err(FaultKind::Misaligned);
        }
        if at < first {
            return Err(FaultKind::OutOfRange);
        }
        if !self.seen.add(at) {
            return Err(FaultKind::Loop);
        }
        Ok(())
    }

    /// Walks the standard capabilities.
    fn standard_chain(&mut self) -> Result<Option<ChainFault>> {
        if self.shadow.word(STATUS) & STATUS_CAP_LIST == 0 {
            return Ok(None);
        }
        // Where the user's chain has the pointer that leads to `at`.
        let mut link = CAPABILITY_LIST;
        let mut at = self.shadow.get(link, Width::Byte) as u16;
        let mut fault = None;

        while at != 0 {
            match self.standard_cap(at) {
                Ok((next, true)) => {
                    link = at.saturating_add(CAP_LIST_NEXT);
                    at = next;
                }
                Ok((next, false)) => {
                    self.shadow.set(link, Width::Byte, next.into());
                    at = next;
                }
                Err(CapStop::Fault(kind)) => {
                    self.shadow.set(link, Width::Byte, 0);
                    fault = Some(ChainFault { kind, at });
                    break;
                }
                Err(CapStop::Failed(error)) => return Err(error),
            }
        }
        if link == CAPABILITY_LIST {
            let flag = STATUS_CAP_LIST.into();
            self.shadow.update(STATUS, Width::Word, flag, 0);
        }
        Ok(fault)
    }

    /// Looks at one standard capability. Returns the next one's offset and whether it is shown.
    fn standard_cap(&mut self, at: u16) -> Result<(u16, bool), CapStop> {
        self.follow(at, STD_HEADER_SIZE).map_err(CapStop::Fault)?;
        let limit = self.size.min(CFG_SPACE_SIZE);
        let probe = Probe {
            hw: self.hw,
            start: at,
            limit,
        };
        let header = probe.word(0)?;
        let (id, next) = (header & 0xff, header >> 8);
        let shown = match caps::find(id, &probe)? {
            FoundCap::Shown((length, _)) if self.no_msix && id == caps::MSIX => {
                self.hide(at, HiddenExtent::Bytes(length))?;
                return Ok((next, false));
            }
            FoundCap::Shown(shown) => shown,
            FoundCap::Hidden(extent) => {
                self.hide(at, extent)?;
                return Ok((next, false));
            }
        };

        self.claim(at, shown, limit)?;
        self.extended |= caps::means_extended(id, shown.0);
        if core::ptr::eq(shown.1, &perm::PM) {
            self.hide_pme(at);
        }
        Ok((next, true))
    }

    /// A user cannot handle PME: not supported, not enabled, not pending.
    fn hide_pme(&mut self, at: u16) {
        let pmc = at.saturating_add(pm::PMC);
        let ctrl = at.saturating_add(pm::CTRL);
        let pme = pm::CTRL_PME_ENABLE | pm::CTRL_PME_STATUS;

        self.shadow
            .update(pmc, Width::Word, pm::PMC_PME_MASK.into(), 0);
        self.shadow.update(ctrl, Width::Word, pme.into(), 0);
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_config_walk))]
mod tests {
    use super::super::mock::{
        Mock,
        User, //
    };
    use super::*;

    /// Ids of the standard capabilities a user finds, as bits.
    fn standard_ids(user: &User<'_>) -> Result<u32> {
        let mut ids = 0;
        let mut at = user.read(CAPABILITY_LIST, Width::Byte)? as u16;
        // A chain that does not end must not hang the test.
        for _ in 0..64 {
            if at == 0 {
                return Ok(ids);
            }
            let header = user.read(at, Width::Word)?;
            ids |= 1 << (header & 0x1f);
            at = (header >> 8) as u16;
        }
        Err(ERANGE)
    }

    fn standard_fault(user: &User<'_>) -> Option<(FaultKind, u16)> {
        let fault = user.space.findings().standard;
        fault.map(|fault| (fault.kind, fault.at))
    }

    #[test]
    fn impossible_sizes_are_refused() -> Result {
        let mock = Mock::new(4096)?;
        for size in [0, 60, 255, 257, 4095, 4100] {
            let facts = Facts {
                size,
                ..mock.facts()
            };
            assert_eq!(mock.open_as(&facts).err(), Some(EINVAL));
        }
        Ok(())
    }

    #[test]
    fn a_space_may_end_early() -> Result {
        // As that of IBM's Citrine.
        let mock = Mock::with_caps(256, &[(0x01, 0x40), (0x11, 0x90), (0x13, 0x9c)])?;
        let facts = Facts {
            size: 0xa0,
            ..mock.facts()
        };
        let user = mock.open_as(&facts)?;

        assert_eq!(standard_ids(&user)?, 1 << 0x01 | 1 << 0x11);
        assert_eq!(standard_fault(&user), Some((FaultKind::OutOfRange, 0x9c)));
        mock.set(0x91, Width::Byte, 0xa0);
        let user = mock.open_as(&facts)?;
        assert_eq!(standard_fault(&user), Some((FaultKind::OutOfRange, 0xa0)));
        assert_eq!(user.read(0xa0, Width::Byte), Err(EFAULT));
        assert_eq!(user.read(0x9c, Width::Dword)?, 0x13);
        Ok(())
    }

    #[test]
    fn a_private_dword_is_a_copy() -> Result {
        let mock = Mock::with_caps(256, &[(0x01, 0x40)])?;
        mock.set(0xfc, Width::Dword, 0x7fff_0000);
        let facts = Facts {
            private: Some(0xfc),
            ..mock.facts()
        };
        let mut user = mock.open_as(&facts)?;

        assert_eq!(user.space.private(), Some(0x7fff_0000));
        user.write(0xfd, Width::Byte, 0x12)?;
        assert_eq!(user.read(0xfc, Width::Dword)?, 0x7fff_1200);
        assert_eq!(mock.get(0xfc, Width::Dword), 0x7fff_0000);
        user.write(0xf8, Width::Dword, 1)?;
        assert_eq!(mock.get(0xf8, Width::Dword), 1);
        Ok(())
    }

    #[test]
    fn a_capability_keeps_a_private_dword() -> Result {
        // Vendor-specific, 16 bytes.
        let mock = Mock::with_caps(256, &[(0x09, 0xf0)])?;
        mock.set(0xf2, Width::Byte, 16);
        let facts = Facts {
            private: Some(0xfc),
            ..mock.facts()
        };
        let mut user = mock.open_as(&facts)?;

        assert_eq!(user.space.private(), None);
        assert_eq!(standard_fault(&user), None);
        user.write(0xfc, Width::Dword, 7)?;
        assert_eq!(mock.get(0xfc, Width::Dword), 7);
        Ok(())
    }

    #[test]
    fn no_chain_without_the_flag() -> Result {
        let mock = Mock::with_caps(256, &[(0x01, 0x40)])?;
        mock.set(STATUS, Width::Word, 0);
        let mut user = mock.open()?;

        user.write(0x44, Width::Byte, 3)?;
        assert_eq!(mock.get(0x44, Width::Byte), 3);
        Ok(())
    }

    #[test]
    fn hidden_capabilities_are_passed_by() -> Result {
        // Slot id, PM, debug port, AF, one of an unknown id.
        let caps = [
            (0x04, 0x40),
            (0x01, 0x48),
            (0x0a, 0x50),
            (0x13, 0x58),
            (0x1f, 0x60),
        ];
        let mock = Mock::with_caps(256, &caps)?;
        let user = mock.open()?;

        assert_eq!(standard_ids(&user)?, 1 << 0x01 | 1 << 0x13);
        assert_eq!(standard_fault(&user), None);
        assert_eq!(user.read(STATUS, Width::Word)?, 0x10);
        Ok(())
    }

    #[test]
    fn a_list_of_hidden_ones_is_no_list() -> Result {
        let mock = Mock::with_caps(256, &[(0x04, 0x40), (0x0c, 0x48)])?;
        let user = mock.open()?;

        assert_eq!(user.read(STATUS, Width::Word)?, 0);
        assert_eq!(user.read(CAPABILITY_LIST, Width::Byte)?, 0);
        Ok(())
    }

    #[test]
    fn a_loop_ends_the_walk() -> Result {
        let mock = Mock::with_caps(256, &[(0x01, 0x40), (0x13, 0x48)])?;
        mock.set(0x49, Width::Byte, 0x40);
        let user = mock.open()?;

        assert_eq!(standard_fault(&user), Some((FaultKind::Loop, 0x40)));
        assert_eq!(standard_ids(&user)?, 1 << 0x01 | 1 << 0x13);

        // Over a hidden one.
        mock.set(0x49, Width::Byte, 0x80);
        mock.set(0x81, Width::Byte, 0x80);
        let user = mock.open()?;
        assert_eq!(standard_fault(&user), Some((FaultKind::Loop, 0x80)));
        assert_eq!(standard_ids(&user)?, 1 << 0x01 | 1 << 0x13);
        Ok(())
    }

    #[test]
    fn overlaps_end_the_walk() -> Result {
        // Into, and over, the one before.
        for at in [0x44, 0x3c + 0x10] {
            let mock = Mock::with_caps(256, &[(0x01, 0x40), (0x09, 0x50), (0x11, at)])?;
            mock.set(0x52, Width::Byte, 0x10);
            let user = mock.open()?;

            assert_eq!(standard_ids(&user)?, 1 << 0x01 | 1 << 0x09);
            let fault = (FaultKind::Overlap, u16::from(at));
            assert_eq!(standard_fault(&user), Some(fault));
        }
        Ok(())
    }

    #[test]
    fn pointers_must_be_good() -> Result {
        for (pointer, kind) in [
            (0x3c, FaultKind::OutOfRange),
            (0x04, FaultKind::OutOfRange),
            (0x4a, FaultKind::Misaligned),
            (0xff, FaultKind::Misaligned),
            // A capability longer than what is left.
            (0xfc, FaultKind::OutOfRange),
        ] {
            let mock = Mock::with_caps(256, &[(0x01, 0x40)])?;
            mock.set(0xfc, Width::Byte, 0x05);
            mock.set(0x41, Width::Byte, pointer);
            let user = mock.open()?;

            assert_eq!(standard_fault(&user), Some((kind, pointer as u16)));
            assert!(kind.describe().starts_with("is "));
            assert_eq!(standard_ids(&user)?, 1 << 0x01);
        }
        Ok(())
    }

    #[test]
    fn gaps_of_a_malformed_chain_are_not_written() -> Result {
        let mock = Mock::with_caps(256, &[(0x01, 0x40)])?;
        mock.set(0x41, Width::Byte, 0x42);
        let mut user = mock.open()?;

        user.write(0x80, Width::Dword, 1)?;
        assert_eq!(mock.get(0x80, Width::Dword), 0);
        Ok(())
    }

    #[test]
    fn an_unreadable_device_is_not_opened() -> Result {
        let mock = Mock::with_caps(256, &[(0x01, 0x40)])?;
        for offset in [0x00, 0x40] {
            mock.broken.set(Some(offset));
            assert_eq!(mock.open().err(), Some(EIO));
        }
        Ok(())
    }
}
