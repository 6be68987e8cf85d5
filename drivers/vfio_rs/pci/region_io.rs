// SPDX-License-Identifier: GPL-2.0

//! Reads and writes of regions: user data is cut into accesses that the device sees one by one.
//!
//! Lock: `Open::memory`, for reading, around each access to memory, or a few, and not around user
//! memory.
//!
//! Stands for vfio_pci_rw() of drivers/vfio/pci/vfio_pci_core.c and most of vfio_pci_rdwr.c.

use core::ops::Range;
use kernel::{
    prelude::*,
    uaccess::{
        UserSlice,
        UserSliceReader,
        UserSliceWriter, //
    },
};
use vfio_kernel::{
    pci::{
        IoMem,
        IoWidth,
        RomKind, //
    },
    sched, //
};

use zerocopy::IntoBytes;

use super::{
    offsets::Region,
    power::AwakeAccess,
    Open, //
};

impl Open {
    /// `pread(2)`.
    ///
    /// # Errors
    ///
    /// None for no bytes, wherever they are. `EINVAL` where no region is, `EIO` from memory that is
    /// disabled or a device that does not wake up, `EBUSY` from a BAR that is mapped
    /// write-combining, `EFAULT`.
    pub(crate) fn read(&self, buf: UserSlice, pos: u64) -> Result<usize> {
        let mut writer = buf.writer();
        let len = writer.len();
        if len == 0 {
            return Ok(0);
        }
        match self.offsets.at(pos)? {
            (Region::Config, offset) => self.config_read(offset, writer),
            (Region::Bar(bar), offset) => {
                self.bar_access(bar, offset, len, |piece| piece.read_to(&mut writer))
            }
            (Region::Rom, offset) => self.rom_read(offset, &mut writer),
            (Region::Vga, offset) => self.vga_read(offset, &mut writer),
            (Region::Specific(number), offset) => self.specific_read(number, offset, &mut writer),
        }
    }

    /// `pwrite(2)`.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub(crate) fn write(&self, buf: UserSlice, pos: u64) -> Result<usize> {
        let mut reader = buf.reader();
        let len = reader.len();
        if len == 0 {
            return Ok(0);
        }
        match self.offsets.at(pos)? {
            (Region::Config, offset) => self.config_write(offset, reader),
            (Region::Bar(bar), offset) => {
                self.bar_access(bar, offset, len, |piece| piece.write_from(&mut reader))
            }
            (Region::Vga, offset) => self.vga_write(offset, &mut reader),
            (Region::Rom | Region::Specific(_), _) => Err(EINVAL),
        }
    }

    /// Runs `f` for each piece of an access to a BAR; returns the bytes done.
    #[inline(always)]
    fn bar_access(
        &self,
        bar: u32,
        offset: u64,
        len: usize,
        mut f: impl FnMut(RegionPiece<'_>) -> Result,
    ) -> Result<usize> {
        let (size, memory) = *self.bar_kinds.get(bar as usize).ok_or(EINVAL)?;
        let len = clamp(len, offset, size)?;
        let io = self.bar(bar)?.io()?;
        let window = Window {
            open: self,
            in_memory: memory,
            io: &io,
            hidden: self.msix.map_or(0..0, |table| table.bytes_in(bar)),
            widest: IoWidth::W8,
        };
        if let Some(kind) = window.is_one(offset, len) {
            let access = self.access()?;
            let (window, access) = (&window, &access);
            f(RegionPiece {
                window,
                access,
                at: offset,
                kind,
            })?;
            return Ok(len);
        }
        window.access_kept(offset, len, f)
    }

    #[cold]
    fn rom_read(&self, offset: u64, writer: &mut UserSliceWriter) -> Result<usize> {
        let access = self.awake().map(AwakeAccess::kept)?;
        let (kind, size) = self.pci().rom().ok_or(EINVAL)?;
        let len = clamp(writer.len(), offset, size)?;
        let in_bar = kind == RomKind::Bar;
        // ERRNO: ENOMEM, as pci_map_rom() finds no ROM where nothing answers.
        let answers = || -> Result<bool> {
            let memory = self.settled_killable(|| self.memory.read())?;
            Ok(self.answers(&memory))
        };
        if in_bar && !answers()? {
            return Err(ENOMEM);
        }
        let (rom, filled) = self.map_rom()?;
        let window = Window {
            open: self,
            in_memory: in_bar,
            io: &rom,
            hidden: filled..size,
            // Some devices raise errors when 8 bytes of their ROM are read at once.
            widest: IoWidth::W4,
        };
        window.access(&access, offset, len, |piece| piece.read_to(writer))
    }
}

/// How many of `len` bytes at `offset` lie in a region of `size` bytes.
pub(super) fn clamp(len: usize, offset: u64, size: u64) -> Result<usize> {
    match size.checked_sub(offset) {
        None | Some(0) => Err(EINVAL),
        Some(left) => Ok(len.min(usize::try_from(left).unwrap_or(usize::MAX))),
    }
}

/// The largest aligned access at `at`, of `left` bytes and no more than `widest`.
pub(super) fn width_at(at: u64, left: u64, widest: IoWidth) -> IoWidth {
    [IoWidth::W8, IoWidth::W4, IoWidth::W2]
        .into_iter()
        .filter(|width| *width as u64 <= widest as u64)
        .find(|width| left >= *width as u64 && at & (*width as u64).wrapping_sub(1) == 0)
        .unwrap_or(IoWidth::W1)
}

/// A part of the device that is accessed.
struct Window<'a> {
    open: &'a Open,
    /// It is the device's memory, which must answer; not I/O ports or a copy of a ROM.
    in_memory: bool,
    io: &'a IoMem,
    /// Bytes that are not accessed: they read as ones, and writes go nowhere. The table of MSI-X,
    /// which the kernel programs, or what a ROM does not fill.
    hidden: Range<u64>,
    widest: IoWidth,
}

/// Accesses between two looks at whether the user is being killed: about a millisecond.
const PAUSE: usize = 256;
/// Bytes that are accessed at most while the lock is held once, 8 at a time.
const RUN: usize = 64;
/// Hidden bytes that are one piece.
const HIDDEN: u64 = 4096;

impl Window<'_> {
    /// What to do for `len` bytes at `at` if they are one access to the device's memory.
    #[inline(always)]
    fn is_one(&self, at: u64, len: usize) -> Option<PieceKind> {
        let width = match len {
            1 => IoWidth::W1,
            2 => IoWidth::W2,
            4 => IoWidth::W4,
            8 => IoWidth::W8,
            _ => return None,
        };
        let end = at.wrapping_add(len as u64);
        let is_aligned = at & (len as u64).wrapping_sub(1) == 0;
        let is_hidden = at < self.hidden.end && end > self.hidden.start;
        (self.in_memory && is_aligned && !is_hidden).then_some(PieceKind::Io(width))
    }

    /// As [`access`](Self::access), the device being kept awake from the first piece to the last.
    #[cold]
    fn access_kept(
        &self,
        offset: u64,
        len: usize,
        f: impl FnMut(RegionPiece<'_>) -> Result,
    ) -> Result<usize> {
        let access = self.open.awake().map(AwakeAccess::kept)?;
        self.access(&access, offset, len, f)
    }

    /// Cuts `len` bytes at `offset` into pieces and runs `f` for each; returns the bytes done.
    ///
    /// # Errors
    ///
    /// What `f` says; `EINTR` if the task is being killed.
    fn access(
        &self,
        access: &AwakeAccess,
        offset: u64,
        len: usize,
        mut f: impl FnMut(RegionPiece<'_>) -> Result,
    ) -> Result<usize> {
        let mut done = 0usize;
        let mut left = PAUSE;
        while done < len {
            if left == 0 {
                sched::pause()?;
                left = PAUSE;
            }
            let at = offset.wrapping_add(done as u64);
            let (kind, size) = self.piece_at(at, len.wrapping_sub(done) as u64);
            left = left.saturating_sub(kind.accesses());
            f(RegionPiece {
                window: self,
                access,
                at,
                kind,
            })?;
            done = done.saturating_add(size);
        }
        Ok(done)
    }

    /// The largest piece at `at`, of `left` bytes at most, and its size.
    fn piece_at(&self, at: u64, left: u64) -> (PieceKind, usize) {
        let mut left = left;
        if at < self.hidden.start {
            left = left.min(self.hidden.start.wrapping_sub(at));
        } else if at < self.hidden.end {
            let len = left.min(self.hidden.end.wrapping_sub(at)).min(HIDDEN);
            return (PieceKind::Hidden(len as usize), len as usize);
        }
        let width = width_at(at, left, self.widest);
        if width == IoWidth::W8 && left >= 16 {
            let len = left.min(RUN as u64) as usize & !7;
            return (PieceKind::Run(len), len);
        }
        (PieceKind::Io(width), width as usize)
    }

    /// Runs `f` while the device answers; `EIO` if its memory is disabled. Waits for a reset.
    #[inline(always)]
    fn locked<T>(&self, access: &AwakeAccess, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let open = self.open;
        let mut _awake = None;
        let mut memory = open.settled_killable(|| open.memory.read())?;
        if self.in_memory {
            if !access.holds(&memory) {
                drop(memory);
                // Its user lets it sleep since this access began, which is therefore one that
                // wakes it up.
                _awake = Some(open.awake()?);
                memory = open.settled_killable(|| open.memory.read())?;
            }
            if !open.answers(&memory) {
                return Err(EIO);
            }
        }
        f()
    }
}

#[derive(Clone, Copy)]
enum PieceKind {
    /// One access to the device.
    Io(IoWidth),
    /// Accesses of 8 bytes each, which are so many bytes together, up to [`RUN`].
    Run(usize),
    /// So many bytes that are hidden.
    Hidden(usize),
}

impl PieceKind {
    /// How many accesses it counts as.
    fn accesses(self) -> usize {
        match self {
            Self::Run(len) => len / 8,
            Self::Io(_) | Self::Hidden(_) => 1,
        }
    }
}

/// One piece of an access. User memory is touched without the lock that page faults take.
struct RegionPiece<'a> {
    window: &'a Window<'a>,
    access: &'a AwakeAccess,
    at: u64,
    kind: PieceKind,
}

impl RegionPiece<'_> {
    #[inline(always)]
    fn read_to(&self, writer: &mut UserSliceWriter) -> Result {
        match self.kind {
            PieceKind::Io(width) => {
                let io = self.window.io;
                let value = self
                    .window
                    .locked(self.access, || io.read(self.at, width))?;
                let bytes = value.to_le_bytes();
                writer.write_slice(bytes.get(..width as usize).ok_or(EINVAL)?)
            }
            PieceKind::Run(len) => self.read_run(len, writer),
            PieceKind::Hidden(len) => write_ones(writer, len),
        }
    }

    #[inline(always)]
    fn write_from(&self, reader: &mut UserSliceReader) -> Result {
        match self.kind {
            PieceKind::Io(width) => {
                let mut bytes = [0; 8];
                reader.read_slice(bytes.get_mut(..width as usize).ok_or(EINVAL)?)?;
                let value = u64::from_le_bytes(bytes);
                let io = self.window.io;
                self.window
                    .locked(self.access, || io.write(self.at, width, value))
            }
            PieceKind::Run(len) => self.write_run(len, reader),
            PieceKind::Hidden(len) => reader.skip(len),
        }
    }

    /// Each place of a run.
    fn places(&self, len: usize) -> impl Iterator<Item = u64> {
        let at = self.at;
        (0..len as u64 / 8).map(move |index| at.wrapping_add(index.wrapping_mul(8)))
    }

    #[cold]
    fn read_run(&self, len: usize, writer: &mut UserSliceWriter) -> Result {
        let io = self.window.io;
        let mut words = [0u64; RUN / 8];
        self.window.locked(self.access, || {
            for (word, at) in words.iter_mut().zip(self.places(len)) {
                *word = io.read(at, IoWidth::W8)?.to_le();
            }
            Ok(())
        })?;
        writer.write_slice(words.as_bytes().get(..len).ok_or(EINVAL)?)
    }

    #[cold]
    fn write_run(&self, len: usize, reader: &mut UserSliceReader) -> Result {
        let io = self.window.io;
        let mut words = [0u64; RUN / 8];
        let bytes = words.as_mut_bytes().get_mut(..len).ok_or(EINVAL)?;
        if reader.read_slice(bytes).is_err() {
            // What comes before the place that is not there is written.
            for at in self.places(len) {
                let kind = PieceKind::Io(IoWidth::W8);
                RegionPiece { at, kind, ..*self }.write_from(reader)?;
            }
            return Ok(());
        }
        self.window.locked(self.access, || {
            for (word, at) in words.iter().zip(self.places(len)) {
                io.write(at, IoWidth::W8, u64::from_le(*word))?;
            }
            Ok(())
        })
    }
}

#[cold]
fn write_ones(writer: &mut UserSliceWriter, len: usize) -> Result {
    const ONES: [u8; 64] = [0xff; 64];

    let mut left = len;
    while left != 0 {
        let ones = ONES.get(..left).unwrap_or(&ONES);
        writer.write_slice(ones)?;
        left = left.saturating_sub(ones.len());
    }
    Ok(())
}
