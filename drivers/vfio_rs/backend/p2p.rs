// SPDX-License-Identifier: GPL-2.0

//! BARs in I/O address spaces, so that other devices reach them (peer-to-peer DMA).
//!
//! Such a map goes where users' own maps of the BAR go: whoever revokes those
//! (`zap_bars` in `pci/regions.rs`) cuts the devices off too, before the memory stops answering;
//! and when it answers again, the map is back. Users' maps come back by page faults, which devices
//! do not have, so here it is done at once. When the device is closed its maps are cut off for
//! good: they keep their place in the address space, where DMA then fails, until the user unmaps
//! them.
//!
//! Who maps a BAR has looked up before what an area of theirs shows ([`BarPart`]), and may take
//! long to come here. That keeps nothing of the open device: it says in which *session*, from a
//! first open to the last close, it was found, and is of no use after that. They wait while the
//! device is being reset, or something else is done to it of which it is not known yet whether its
//! memory will answer: from [`BarDma::revoke`] until whoever has `Open::memory` lets go of it.
//!
//! How many pieces there are is limited, as all are switched with `Open::memory` held.
//!
//! Parts of BARs that are exported as dma-bufs (`pci/export.rs`) go and come back with them.
//!
//! Locks: `BarDma::maps`, inside `Open::memory`, outside of `DeviceMapping::power`;
//! `BarDma::exports`, inside `Open::memory`, outside of the dma-bufs' own.

use core::mem::replace;
use kernel::{
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        MutexGuard, //
    },
};
use vfio_kernel::{
    dma_buf::BarExport,
    gate::Gate,
    iommu::{
        DeviceMapping,
        DeviceMemory,
        Pieces,
        RangePart, //
    },
    log,
    sched::Stop,
    user_area::UserArea,
    user_sized, //
};

use super::slots::Slots;

/// All maps of a device's BARs in I/O address spaces, and all dma-bufs of them.
#[pin_data]
pub(crate) struct BarDma {
    /// The device's, for the log.
    name: CString,
    /// Which session it is. Changes with `maps` held.
    session: Atomic<u64>,
    /// Shut while it is open whether the device's memory will answer. Changes with `maps` held.
    decided: Arc<Gate>,
    /// Whether all is mapped, as the device's memory answers. Changes with `maps` held, and
    /// `Open::memory` for writing.
    restored: Atomic<bool>,
    #[pin]
    maps: Mutex<BarMaps>,
    /// What drivers of other devices may map.
    #[pin]
    exports: Mutex<Exports>,
}

struct BarMaps {
    /// Whether the device's memory answers.
    answers: bool,
    all: Slots<Arc<DeviceMapping>>,
    /// How many pieces all have.
    pieces: usize,
    /// The log says already that there are as many as there may be.
    said_full: bool,
}

impl BarMaps {
    /// Says, once in a session, that there are as many pieces as there may be.
    #[cold]
    fn warn_full(&mut self, name: &CStr) {
        if !self.said_full && log::may_log(log::Subject::Limits) {
            self.said_full = true;
            pr_warn!(
                "{name}: BARs are mapped for other devices in {} parts, which is the limit\n",
                Pieces::MOST
            );
        }
    }
}

struct Exports {
    all: KVVec<Arc<BarExport>>,
    /// So many there may be before those are left out that nobody has any more.
    sweep_at: usize,
}

impl Exports {
    /// How many there may be.
    const MOST: usize = 1 << 16;
    /// How many there may be without a look at them.
    const FEW: usize = 16;

    fn new() -> Self {
        Self {
            all: KVVec::new(),
            sweep_at: Self::FEW,
        }
    }
}

impl BarDma {
    /// For the device `name`.
    pub(crate) fn new(name: &CStr) -> Result<Arc<Self>> {
        let name = CString::try_from(name)?;
        let maps = BarMaps {
            answers: false,
            all: Slots::new(),
            pieces: 0,
            said_full: false,
        };
        let decided = Gate::new()?;
        Arc::pin_init(
            pin_init!(Self {
                name,
                session: Atomic::new(0),
                decided,
                restored: Atomic::new(false),
                maps <- new_mutex!(maps, "BarDma::maps"),
                exports <- new_mutex!(Exports::new(), "BarDma::exports"),
            }),
            GFP_KERNEL,
        )
    }

    /// `memory`, a part of a BAR of the device, as it can be mapped in this session. The device is
    /// open.
    pub(crate) fn part(self: &Arc<Self>, memory: DeviceMemory) -> BarPart {
        let session = Session {
            dma: self.clone(),
            number: self.session.load(Relaxed),
        };
        BarPart { session, memory }
    }

    /// Cuts all devices off. [`decide`](Self::decide) or [`close`](Self::close) must follow. May
    /// sleep.
    pub(crate) fn revoke(&self) {
        let mut maps = self.maps.lock();
        maps.answers = false;
        self.restored.store(false, Relaxed);
        self.decided.shut();
        for map in maps.all.iter() {
            map.switch_off();
        }
        drop(maps);
        for export in self.exports.lock().all.iter() {
            export.revoke();
        }
    }

    /// Whoever may have changed whether the device's memory answers is done, and it does or not:
    /// lets devices in, or leaves them as they are, cut off if it was revoked. Costs nothing if
    /// nothing has changed. `Open::memory` is held for writing, as where it is revoked. May sleep.
    #[inline]
    pub(crate) fn decide(&self, answers: bool) {
        match (self.decided.is_shut(), answers) {
            (false, false) => {}
            (false, true) if self.restored.load(Relaxed) => {}
            (_, true) => self.restore(),
            (true, false) => self.stay(),
        }
    }

    fn restore(&self) {
        let name = &*self.name;
        let mut maps = self.maps.lock();
        maps.answers = true;
        self.decided.open();
        let mut all = true;
        for map in maps.all.iter() {
            if map.switch_on(Stop::Never).is_err() {
                all = false;
                if log::may_log(log::Subject::Devices) {
                    pr_warn!("{name}: BAR is not mapped for other devices again\n");
                }
            }
        }
        // If not all, the next one tries again.
        self.restored.store(all, Relaxed);
        drop(maps);
        for export in self.exports.lock().all.iter() {
            export.restore();
        }
    }

    fn stay(&self) {
        let _maps = self.maps.lock();
        self.decided.open();
    }

    /// Cuts all devices off for good: the session is over. May sleep.
    pub(crate) fn close(&self) {
        self.revoke();
        let mut maps = self.maps.lock();
        self.session
            .store(self.session.load(Relaxed).wrapping_add(1), Relaxed);
        maps.pieces = 0;
        maps.said_full = false;
        self.decided.open();
        let maps = replace(&mut maps.all, Slots::new());
        let exports = replace(&mut *self.exports.lock(), Exports::new());
        for export in &exports.all {
            export.end();
        }
        drop((maps, exports));
    }

    /// Adds what is to be revoked with the rest. Those that nobody has any more are left out from
    /// then on.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there are too many, `ENOMEM`.
    pub(crate) fn add_export(&self, export: &Arc<BarExport>) -> Result {
        let mut exports = self.exports.lock();
        if exports.all.len() >= exports.sweep_at {
            exports.all.retain(|export| export.is_open());
            // Not each time, or each would cost as much as there are.
            exports.sweep_at = exports.all.len().saturating_mul(2).max(Exports::FEW);
        }
        if exports.all.len() >= Exports::MOST {
            return Err(ENOSPC);
        }
        exports.all.push(export.clone(), user_sized::gfp())?;
        Ok(())
    }
}

/// What the current process has at an address, of some bytes at most, which may be for writing: see
/// [`user_area::at`](vfio_kernel::user_area::at). For a map of a device's file, what memory of the
/// device that is; which does not keep the device open.
pub(crate) type AreaAt = fn(usize, usize, bool) -> Result<UserArea<BarPart>>;

/// A part of a BAR that a user's map shows.
#[derive(Clone)]
pub(crate) struct BarPart {
    session: Session,
    memory: DeviceMemory,
}

/// One session of a device.
#[derive(Clone)]
struct Session {
    dma: Arc<BarDma>,
    number: u64,
}

impl Session {
    /// All maps of it; `None` if it is over.
    #[inline]
    fn lock(&self) -> Option<MutexGuard<'_, BarMaps>> {
        let maps = self.dma.maps.lock();
        (self.dma.session.load(Relaxed) == self.number).then_some(maps)
    }

    /// Whether the other is the same.
    #[inline]
    fn is(&self, other: &Self) -> bool {
        self.number == other.number && Arc::ptr_eq(&self.dma, &other.dma)
    }
}

impl BarPart {
    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether the other is the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.memory == other.memory && self.session.is(&other.session)
    }
}

/// Parts of one device's BARs and where they belong in an I/O address space.
pub(crate) struct BarPieces {
    session: Session,
    pieces: Pieces,
}

impl BarPieces {
    /// `part` at the addresses of `place`; more of the same session of the same device may follow.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is of another size.
    pub(crate) fn new(place: RangePart, part: BarPart) -> Result<Self> {
        let BarPart { session, memory } = part;
        let mut pieces = Pieces::none();
        pieces.push(place, memory)?;
        Ok(Self { session, pieces })
    }

    /// Whether `part` belongs to the same session of the same device.
    pub(crate) fn is_like(&self, part: &BarPart) -> bool {
        self.session.is(&part.session)
    }

    /// Adds `part` at the addresses of `place`; as [`Pieces::push`].
    pub(crate) fn push(&mut self, place: RangePart, part: &BarPart) -> Result<bool> {
        self.pieces.push(place, part.memory)
    }

    /// Has `add` add all to what the places are from, and switches it on. Waits while the device is
    /// being reset.
    ///
    /// # Errors
    ///
    /// `EFAULT` if the device's memory does not answer now, as a page fault in it would fail;
    /// `ENOSPC` if there are too many pieces; `ENOMEM`; what the IOMMU driver says; `EINTR` if the
    /// task is being killed.
    pub(crate) fn map(
        self,
        add: impl FnOnce(Pieces) -> Result<Arc<DeviceMapping>>,
    ) -> Result<BarMapping> {
        let Self { session, pieces } = self;
        let count = pieces.count();
        let mapping = add(pieces)?;
        let mut maps = loop {
            let maps = session.lock().ok_or(EFAULT)?;
            if !session.dma.decided.is_shut() {
                break maps;
            }
            drop(maps);
            session.dma.decided.wait_killable()?;
        };
        if !maps.answers {
            return Err(EFAULT);
        }
        let pieces = maps.pieces.saturating_add(count);
        if pieces > Pieces::MOST {
            maps.warn_full(&session.dma.name);
            return Err(ENOSPC);
        }
        let number = maps.all.add(mapping.clone(), user_sized::gfp())?;
        if let Err(err) = mapping.switch_on(Stop::WhenKilled) {
            let _ = maps.all.remove(number);
            return Err(err);
        }
        maps.pieces = pieces;
        drop(maps);
        Ok(BarMapping {
            session,
            number,
            mapping,
        })
    }
}

/// Parts of BARs in an I/O address space, until dropped, or until what they were added to is.
pub(crate) struct BarMapping {
    session: Session,
    /// Among all maps of the session.
    number: usize,
    mapping: Arc<DeviceMapping>,
}

impl BarMapping {
    /// The map itself.
    pub(crate) fn mapping(&self) -> &DeviceMapping {
        &self.mapping
    }
}

impl Drop for BarMapping {
    fn drop(&mut self) {
        if let Some(mut maps) = self.session.lock() {
            let _ = maps.all.remove(self.number);
            maps.pieces = maps.pieces.saturating_sub(self.mapping.count());
        }
        self.mapping.switch_off();
    }
}
