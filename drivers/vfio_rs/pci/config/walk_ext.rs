// SPDX-License-Identifier: GPL-2.0

//! The walk of the chain of extended capabilities.
//!
//! The rules are those of `walk.rs`, except that the first capability has a fixed place and cannot
//! be passed by. Stands for `vfio_ecap_init()`.

use super::{
    caps::{
        CapStop,
        FoundCap,
        Probe, //
    },
    ext,
    layout::Cap,
    perm,
    regs::*,
    walk::Walker,
    ChainFault,
    Hardware,
    Width, //
};
use kernel::prelude::*;

impl<H: Hardware> Walker<'_, H> {
    /// Walks the extended capabilities.
    ///
    /// The first one has a fixed place. If it is to be hidden its header stays, without an id, to
    /// point to the others.
    pub(super) fn extended_chain(&mut self) -> Result<Option<ChainFault>> {
        let mut at = CFG_SPACE_SIZE;
        if self.hw.read(at, Width::Dword)? == 0 {
            return Ok(None);
        }
        // The capability of the user's chain that leads to `at`.
        let mut link = None;
        let mut found = false;
        let mut fault = None;

        while at != 0 {
            match (self.extended_cap(at), link) {
                (Ok((next, true)), _) => {
                    found = true;
                    link = Some(at);
                    at = next;
                }
                (Ok((next, false)), Some(link)) => {
                    self.set_extended_next(link, next);
                    at = next;
                }
                (Ok((next, false)), None) => {
                    self.anchor(next)?;
                    link = Some(at);
                    at = next;
                }
                (Err(CapStop::Fault(kind)), link) => {
                    match link {
                        Some(link) => self.set_extended_next(link, 0),
                        None => self.anchor(0)?,
                    }
                    fault = Some(ChainFault { kind, at });
                    break;
                }
                (Err(CapStop::Failed(error)), _) => return Err(error),
            }
        }
        if !found {
            // An empty chain is an all-zero header (PCIe 5.0, 7.6.3).
            self.shadow.set(CFG_SPACE_SIZE, Width::Dword, 0);
        }
        Ok(fault)
    }

    /// Looks at one extended capability. Returns the next one's offset and whether it is shown.
    fn extended_cap(&mut self, at: u16) -> Result<(u16, bool), CapStop> {
        self.follow(at, CFG_SPACE_SIZE).map_err(CapStop::Fault)?;
        let probe = Probe {
            hw: self.hw,
            start: at,
            limit: self.size,
        };
        let header = probe.dword(0)?;
        let next = ((header & EXT_CAP_NEXT) >> 20) as u16;
        let id = header as u16;
        let shown = match ext::find(id, &probe)? {
            FoundCap::Shown(shown) => shown,
            FoundCap::Hidden(extent) => {
                self.hide(at, extent)?;
                return Ok((next, false));
            }
        };

        for channel in 0..ext::VC_CHANNELS {
            if let Some(table) = ext::vc_table(id, channel, &probe) {
                self.hide(at.saturating_add(table), ext::VC_TABLE)?;
            }
        }
        self.claim(at, shown, self.size)?;
        Ok((next, true))
    }

    /// Points the header of an extended capability in the user's chain elsewhere.
    fn set_extended_next(&mut self, cap: u16, next: u16) {
        let next = u32::from(next) << 20;
        self.shadow.update(cap, Width::Dword, EXT_CAP_NEXT, next);
    }

    /// Puts a header without an id in the place of the first extended capability.
    fn anchor(&mut self, next: u16) -> Result {
        let (start, perm) = (CFG_SPACE_SIZE, &perm::EXT_READ_ONLY);
        let end = start.saturating_add(4);

        // Others cannot overlap it without the header being wrong, too.
        self.claimed.add(start);
        self.show(Cap { start, end, perm })?;
        self.shadow.set(start, Width::Dword, 0);
        self.set_extended_next(start, next);
        Ok(())
    }
}

#[cfg(any(test, CONFIG_VFIO_RS_KUNIT_TEST))]
#[cfg_attr(not(test), kernel::prelude::kunit_tests(vfio_rs_config_walk_ext))]
mod tests {
    use super::super::{
        mock::{
            Mock,
            User, //
        },
        Facts,
        FaultKind, //
    };
    use super::*;

    /// Ids of the extended capabilities a user finds, as bits.
    fn extended_ids(user: &User<'_>) -> Result<u64> {
        let mut ids = 0;
        let mut at = CFG_SPACE_SIZE;
        // A chain that does not end must not hang the test.
        for _ in 0..64 {
            if at == 0 {
                return Ok(ids);
            }
            let header = user.read(at, Width::Dword)?;
            ids |= 1 << (header & 0x3f);
            at = (header >> 20) as u16;
        }
        Err(ERANGE)
    }

    fn extended_fault(user: &User<'_>) -> Option<(FaultKind, u16)> {
        let fault = user.space.findings().extended;
        fault.map(|fault| (fault.kind, fault.at))
    }

    #[test]
    fn extended_capabilities_need_express() -> Result {
        for (id, flags, expected) in [
            (0x01, 0, 1 << 1),
            (0x07, 0, 1 << 1),
            (0x07, 0x1000, 1 << 3),
            (0x10, 2, 1 << 3),
        ] {
            let mock = Mock::with_caps(4096, &[(id, 0x40)])?;
            mock.set(0x42, Width::Word, flags);
            // If walked, hides PASID.
            mock.add_ext(&[(0x03, 0x100), (0x1b, 0x110)]);
            let mut user = mock.open()?;

            user.write(0x100, Width::Dword, 0x1_0001)?;
            assert_eq!(extended_ids(&user)?, expected);
        }
        Ok(())
    }

    #[test]
    fn hidden_extended_capabilities_are_passed_by() -> Result {
        let mock = Mock::with_caps(4096, &[(0x10, 0x40)])?;
        mock.add_ext(&[(0x01, 0x100), (0x1b, 0x140), (0x19, 0x150), (0x0e, 0x160)]);
        let user = mock.open()?;

        assert_eq!(extended_ids(&user)?, 1 << 0x01 | 1 << 0x0e);
        assert_eq!(user.read(0x100, Width::Dword)?, 0x1601_0001);
        Ok(())
    }

    #[test]
    fn a_hidden_first_one_stays_as_anchor() -> Result {
        let mock = Mock::with_caps(4096, &[(0x10, 0x40)])?;
        mock.add_ext(&[(0x1b, 0x100), (0x30, 0x110), (0x0e, 0x160)]);
        let mut user = mock.open()?;

        assert_eq!(user.read(0x100, Width::Dword)?, 0x1600_0000);
        assert_eq!(extended_ids(&user)?, 1 << 0 | 1 << 0x0e);
        user.write(0x100, Width::Dword, 0)?;
        assert_eq!(user.read(0x100, Width::Dword)?, 0x1600_0000);
        Ok(())
    }

    #[test]
    fn only_hidden_extended_ones_are_none() -> Result {
        let mock = Mock::with_caps(4096, &[(0x10, 0x40)])?;
        mock.add_ext(&[(0x1b, 0x100), (0x19, 0x110)]);
        let user = mock.open()?;

        assert_eq!(user.read(0x100, Width::Dword)?, 0);
        assert_eq!(extended_fault(&user), None);
        Ok(())
    }

    #[test]
    fn malformed_extended_chains_end() -> Result {
        for (next, kind) in [
            (0x100, FaultKind::Loop),
            (0x040, FaultKind::OutOfRange),
            (0x104, FaultKind::Overlap),
            (0xffc, FaultKind::OutOfRange),
        ] {
            let mock = Mock::with_caps(4096, &[(0x10, 0x40)])?;
            mock.add_ext(&[(0x01, 0x100)]);
            mock.set(0x100, Width::Dword, 0x1_0001 | next << 20);
            mock.set(0x104, Width::Word, 0x0e);
            mock.set(0xffc, Width::Word, 0x0b);
            let user = mock.open()?;

            assert_eq!(extended_fault(&user), Some((kind, next as u16)));
            assert_eq!(extended_ids(&user)?, 1 << 0x01);
        }
        Ok(())
    }

    #[test]
    fn an_extended_space_may_end_early() -> Result {
        // As that of Netronome's NFP-6000, which is not to be read beyond.
        let mock = Mock::with_caps(4096, &[(0x10, 0x40)])?;
        mock.add_ext(&[(0x03, 0x100), (0x0e, 0x5f8), (0x01, 0x600)]);
        mock.broken.set(Some(0x600));
        let facts = Facts {
            size: 0x600,
            ..mock.facts()
        };
        let user = mock.open_as(&facts)?;

        assert_eq!(extended_fault(&user), Some((FaultKind::OutOfRange, 0x600)));
        assert_eq!(extended_ids(&user)?, 1 << 0x03 | 1 << 0x0e);
        assert_eq!(user.read(0x5fe, Width::Dword), Err(EFAULT));
        Ok(())
    }

    #[test]
    fn a_first_extended_one_too_long() -> Result {
        let mock = Mock::with_caps(4096, &[(0x10, 0x40)])?;
        mock.add_ext(&[(0x0b, 0x100), (0x0e, 0x200)]);
        mock.set(0x104, Width::Dword, 0xfff0_0000);
        let user = mock.open()?;

        assert_eq!(extended_fault(&user), Some((FaultKind::OutOfRange, 0x100)));
        assert_eq!(user.read(0x100, Width::Dword)?, 0);
        Ok(())
    }
}
