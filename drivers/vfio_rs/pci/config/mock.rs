// SPDX-License-Identifier: GPL-2.0

//! A device for tests: configuration space in memory, all of it writable, and a user of it.

use super::{
    caps::{
        CapStop,
        FoundCap,
        Probe, //
    },
    shadow::{
        extract,
        shift, //
    },
    BarFacts,
    BarSpace,
    ConfigSpace,
    Effects,
    Facts,
    Hardware,
    IntxLine,
    Width, //
};
use core::cell::Cell;
use kernel::prelude::*;

/// A device.
pub(crate) struct Mock {
    dwords: KVec<Cell<u32>>,
    /// Accesses to this offset fail with `EIO`.
    pub(crate) broken: Cell<Option<u16>>,
    /// Calls of [`Hardware::revoke`].
    pub(crate) revoked: Cell<u32>,
    /// Calls of [`Hardware::read`].
    pub(crate) reads: Cell<u32>,
    /// The last write.
    pub(crate) last_write: Cell<Option<(u16, Width, u32)>>,
}

impl Mock {
    /// A device whose registers are all zero, but for an id.
    pub(crate) fn new(size: u16) -> Result<Self> {
        let mock = Self {
            dwords: KVec::from_elem(Cell::new(0), usize::from(size / 4), GFP_KERNEL)?,
            broken: Cell::new(None),
            revoked: Cell::new(0),
            reads: Cell::new(0),
            last_write: Cell::new(None),
        };
        mock.set(0, Width::Dword, 0x10c9_8086);
        Ok(mock)
    }

    /// A device with a chain of standard capabilities: `id` and `offset` of each.
    pub(crate) fn with_caps(size: u16, caps: &[(u8, u8)]) -> Result<Self> {
        let mock = Self::new(size)?;
        let mut link = 0x34;
        mock.set(0x06, Width::Word, 0x10);
        for &(id, offset) in caps {
            mock.set(link, Width::Byte, offset.into());
            mock.set(offset.into(), Width::Byte, id.into());
            link = u16::from(offset) | 1;
        }
        Ok(mock)
    }

    /// Adds a chain of extended capabilities: `id` and `offset` of each, the first at 0x100.
    pub(crate) fn add_ext(&self, caps: &[(u16, u16)]) {
        let mut previous = None;
        for &(id, offset) in caps {
            self.set(offset, Width::Dword, 0x1_0000 | u32::from(id));
            if let Some(previous) = previous {
                let header = self.get(previous, Width::Dword);
                self.set(previous, Width::Dword, header | u32::from(offset) << 20);
            }
            previous = Some(offset);
        }
    }

    /// A register.
    pub(crate) fn get(&self, offset: u16, width: Width) -> u32 {
        let dword = self.dwords.get(usize::from(offset / 4));
        extract(dword.map_or(0, Cell::get), offset, width)
    }

    /// Sets a register.
    pub(crate) fn set(&self, offset: u16, width: Width, value: u32) {
        if let Some(dword) = self.dwords.get(usize::from(offset / 4)) {
            let mask = width.mask() << shift(offset);
            dword.set((dword.get() & !mask) | ((value << shift(offset)) & mask));
        }
    }

    /// The length that `find` gives a capability at `start` whose content from `at` on is `dwords`;
    /// `None` if it is hidden.
    pub(super) fn length_of(
        &self,
        start: u16,
        at: u16,
        dwords: [u32; 2],
        find: impl FnOnce(&Probe<'_, Self>) -> Result<FoundCap, CapStop>,
    ) -> Result<Option<u16>> {
        for (offset, dword) in (at..).step_by(4).zip(dwords) {
            self.set(offset, Width::Dword, dword);
        }
        let probe = Probe {
            hw: self,
            start,
            limit: self.size(),
        };
        match find(&probe) {
            Ok(FoundCap::Shown((length, _))) => Ok(Some(length)),
            Ok(FoundCap::Hidden(_)) => Ok(None),
            Err(CapStop::Failed(error)) => Err(error),
            Err(CapStop::Fault(_)) => Err(ERANGE),
        }
    }

    fn size(&self) -> u16 {
        self.dwords.len().saturating_mul(4) as u16
    }

    /// What is known of a physical function: three BARs, a ROM, and INTx.
    pub(crate) fn facts(&self) -> Facts {
        let bar = |size, space, prefetch| {
            Some(BarFacts {
                size,
                space,
                prefetch,
            })
        };
        Facts {
            size: self.size(),
            is_virtfn: false,
            no_command_memory: false,
            vendor: 0x8086,
            device: 0x10c9,
            intx: IntxLine::Usable,
            bars: [
                bar(0x2_0000, BarSpace::Memory32, false),
                bar(0x20, BarSpace::Io, false),
                bar(0x2_0000_0000, BarSpace::Memory64, true),
                None,
                None,
                None,
            ],
            rom_size: 0x1_0000,
            no_msix: false,
            private: None,
        }
    }

    /// Opens the device.
    pub(crate) fn open(&self) -> Result<User<'_>> {
        self.open_as(&self.facts())
    }

    /// Opens the device as one of which other things are known.
    pub(crate) fn open_as(&self, facts: &Facts) -> Result<User<'_>> {
        Ok(User {
            space: ConfigSpace::new(self, facts)?,
            hw: self,
        })
    }

    fn check(&self, offset: u16) -> Result {
        if self.broken.get() == Some(offset) {
            return Err(EIO);
        }
        Ok(())
    }
}

impl Hardware for Mock {
    fn read(&self, offset: u16, width: Width) -> Result<u32> {
        self.reads.set(self.reads.get().saturating_add(1));
        self.check(offset)?;
        Ok(self.get(offset, width))
    }

    fn write(&self, offset: u16, width: Width, value: u32) -> Result {
        self.check(offset)?;
        self.last_write.set(Some((offset, width, value)));
        self.set(offset, width, value);
        Ok(())
    }

    fn revoke(&self) {
        self.revoked.set(self.revoked.get().saturating_add(1));
    }
}

/// A user of a device.
pub(crate) struct User<'a> {
    /// What it sees.
    pub(crate) space: ConfigSpace,
    /// What there is.
    pub(crate) hw: &'a Mock,
}

impl User<'_> {
    /// Reads a register.
    pub(crate) fn read(&self, offset: u16, width: Width) -> Result<u32> {
        let mut bytes = [0; 4];
        if let Some(bytes) = bytes.get_mut(..usize::from(width.bytes())) {
            self.space.read(self.hw, offset.into(), bytes)?;
        }
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes a register that is one piece.
    pub(crate) fn write(&mut self, offset: u16, width: Width, value: u32) -> Result<Effects> {
        let len = usize::from(width.bytes());
        let bytes = value.to_le_bytes();
        let data = bytes.get(..len).ok_or(EINVAL)?;
        let cut = self.space.cut(offset.into(), data)?;
        if cut.len() != len {
            return Err(EINVAL);
        }
        self.space.put(self.hw, &cut)
    }
}
