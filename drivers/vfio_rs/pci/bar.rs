// SPDX-License-Identifier: GPL-2.0

//! BARs as the kernel reaches them, and how users' maps of them are cached.
//!
//! A prefetchable BAR can be mapped write-combining. On x86 all maps of a physical range are cached
//! alike, so there is one way at a time: uncached, for users' normal maps and for accesses by the
//! kernel, or write-combining. It changes when nobody is left who needs the other one.
//!
//! Locks: `CachedBar::mode` and `UncachedBar::region`, leaves, also taken under `mmap_lock`.

use core::ops::Deref;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex,
        SetOnce, //
    },
};
use vfio_kernel::{
    count::Count,
    memtype::{
        self,
        WriteCombining, //
    },
    mmap::{
        Caching,
        MapKind, //
    },
    params,
    pci::{
        BarIo,
        BarRegion,
        BarWindow,
        BoundPci,
        IoMem,
        MappableBar, //
    },
};

/// One BAR that is reserved. The kernel maps it when it is accessed or mapped first, as many are
/// not.
pub(super) enum Bar {
    /// Always uncached.
    Uncached(Pin<KBox<UncachedBar>>),
    /// Uncached or write-combining.
    Either(Arc<CachedBar>),
}

/// A BAR that is always uncached.
#[pin_data]
pub(super) struct UncachedBar {
    io: SetOnce<BarIo>,
    /// Held while it is mapped.
    #[pin]
    region: Mutex<BarRegion>,
}

/// A BAR that may be write-combining.
#[pin_data]
pub(super) struct CachedBar {
    #[pin]
    mode: Mutex<CachingMode>,
    window: BarWindow,
    region: BarRegion,
}

enum CachingMode {
    Uncached {
        /// `None` if the kernel has not mapped it.
        io: Option<Arc<BarIo>>,
        /// Leases.
        leases: Count,
        /// Areas of users' maps.
        areas: Count,
    },
    WriteCombining {
        /// Areas of users' maps, at least one.
        areas: Count,
        _type: WriteCombining,
    },
}

impl Bar {
    /// Reserves a BAR. Nobody else's is the rest of what users may map, `mappable`.
    pub(super) fn new(pci: &BoundPci, bar: u32, mappable: Option<&MappableBar>) -> Result<Self> {
        let region = BarRegion::new(pci, bar)?;
        let window = mappable
            .map(MappableBar::window)
            .filter(|window| window.is_whole_pages() && pci.bar_is_prefetchable(bar));
        match window {
            Some(window) if params::wc_mmap() && memtype::write_combining_works() => {
                let bar = pin_init!(CachedBar {
                    mode <- new_mutex!(CachingMode::UNUSED, "CachedBar::mode"),
                    window,
                    region,
                });
                Ok(Self::Either(Arc::pin_init(bar, GFP_KERNEL)?))
            }
            _ => {
                let bar = pin_init!(UncachedBar {
                    io: SetOnce::new(),
                    region <- new_mutex!(region, "UncachedBar::region"),
                });
                Ok(Self::Uncached(KBox::pin_init(bar, GFP_KERNEL)?))
            }
        }
    }

    /// Whether it can be write-combining.
    pub(super) fn may_combine(&self) -> bool {
        matches!(self, Self::Either(_))
    }

    /// The BAR for accesses by the kernel.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it is write-combining now, `ENOMEM`.
    #[inline(always)]
    pub(super) fn io(&self) -> Result<BarUse<'_>> {
        match self {
            Self::Uncached(bar) => Ok(BarUse::Uncached(bar.io()?)),
            Self::Either(bar) => Ok(BarUse::Leased(bar.lease()?)),
        }
    }

    /// The BAR for accesses in any context, if it is uncached at all times and [`io`](Self::io) was
    /// called before.
    pub(super) fn always_uncached(&self) -> Option<&IoMem> {
        match self {
            Self::Uncached(bar) => bar.io.as_ref().map(Deref::deref),
            Self::Either(_) => None,
        }
    }

    /// Counts the first area of a user's new map.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it cannot be cached like that, `EBUSY` if it is cached in the other way now,
    /// `ENOMEM`.
    #[inline]
    pub(super) fn add_map(&self, caching: Caching) -> Result<MapKind> {
        match (self, caching) {
            (Self::Uncached(bar), Caching::Uncached) => {
                // From then on nobody else, as by sysfs, maps it write-combining.
                bar.io()?;
                Ok(MapKind::Plain)
            }
            (Self::Uncached(_), Caching::WriteCombining) => Err(EINVAL),
            (Self::Either(bar), _) => {
                bar.add_map(caching)?;
                Ok(MapKind::Counted(caching))
            }
        }
    }

    /// Counts one more area of a map.
    pub(super) fn add_area(&self) {
        if let Self::Either(bar) = self {
            match &mut *bar.mode.lock() {
                CachingMode::Uncached { areas, .. } | CachingMode::WriteCombining { areas, .. } => {
                    areas.inc();
                }
            }
        }
    }

    /// Counts one area less.
    pub(super) fn remove_area(&self) {
        if let Self::Either(bar) = self {
            bar.remove_area();
        }
    }
}

impl CachingMode {
    /// Nobody needs the BAR.
    const UNUSED: Self = Self::Uncached {
        io: None,
        leases: Count::NONE,
        areas: Count::NONE,
    };
}

impl UncachedBar {
    #[inline(always)]
    fn io(&self) -> Result<&BarIo> {
        match self.io.as_ref() {
            Some(io) => Ok(io),
            None => self.map(),
        }
    }

    #[cold]
    fn map(&self) -> Result<&BarIo> {
        let region = self.region.lock();
        if self.io.as_ref().is_none() {
            self.io.populate(region.map()?);
        }
        drop(region);
        self.io.as_ref().ok_or(ENOMEM)
    }
}

impl CachedBar {
    /// The kernel's map, made now if need be.
    fn map<'a>(&self, io: &'a mut Option<Arc<BarIo>>) -> Result<&'a Arc<BarIo>> {
        match io {
            Some(io) => Ok(io),
            None => Ok(io.insert(Arc::new(self.region.map()?, GFP_KERNEL)?)),
        }
    }

    #[inline(never)]
    fn lease(self: &Arc<Self>) -> Result<Lease> {
        let mut mode = self.mode.lock();
        let CachingMode::Uncached { io, leases, .. } = &mut *mode else {
            return Err(EBUSY);
        };
        let io = self.map(io)?.clone();
        leases.inc();
        Ok(Lease {
            io,
            _count: CountedLease(self.clone()),
        })
    }

    fn add_map(&self, caching: Caching) -> Result {
        let mut mode = self.mode.lock();
        match (&mut *mode, caching) {
            (CachingMode::Uncached { io, areas, .. }, Caching::Uncached) => {
                self.map(io)?;
                areas.inc();
                return Ok(());
            }
            (CachingMode::WriteCombining { areas, .. }, Caching::WriteCombining) => {
                areas.inc();
                return Ok(());
            }
            (
                CachingMode::Uncached {
                    io,
                    leases: Count::NONE,
                    areas: Count::NONE,
                },
                Caching::WriteCombining,
            ) => {
                // The kernel's own map would keep the range uncached.
                *io = None;
            }
            _ => return Err(EBUSY),
        }
        match WriteCombining::reserve(self.window) {
            Ok(reserved) => {
                *mode = CachingMode::WriteCombining {
                    areas: Count::ONE,
                    _type: reserved,
                };
                Ok(())
            }
            Err(err) => {
                *mode = CachingMode::UNUSED;
                Err(err)
            }
        }
    }

    fn remove_area(&self) {
        let mut mode = self.mode.lock();
        let (CachingMode::Uncached { areas, .. } | CachingMode::WriteCombining { areas, .. }) =
            &mut *mode;
        if areas.dec() && matches!(*mode, CachingMode::WriteCombining { .. }) {
            // The last page is gone; nothing write-combining is left when the type goes.
            *mode = CachingMode::UNUSED;
        }
    }
}

/// The right to access a BAR from the kernel, as long as it lives.
pub(super) struct Lease {
    /// Dropped before the next field: then the BAR's owner has the only reference.
    io: Arc<BarIo>,
    _count: CountedLease,
}

/// One of a BAR's leases.
struct CountedLease(Arc<CachedBar>);

impl Drop for CountedLease {
    fn drop(&mut self) {
        if let CachingMode::Uncached { leases, .. } = &mut *self.0.mode.lock() {
            leases.dec();
        }
    }
}

/// A BAR that the kernel may access.
pub(super) enum BarUse<'a> {
    Uncached(&'a BarIo),
    Leased(Lease),
}

impl Deref for BarUse<'_> {
    type Target = IoMem;

    fn deref(&self) -> &IoMem {
        match self {
            Self::Uncached(io) => io,
            Self::Leased(lease) => lease,
        }
    }
}

impl Deref for Lease {
    type Target = IoMem;

    fn deref(&self) -> &IoMem {
        &self.io
    }
}
