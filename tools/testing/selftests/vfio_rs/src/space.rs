// SPDX-License-Identifier: GPL-2.0
//! A container whose content is known: everything that can be seen of it from outside is compared
//! at once.

use anyhow::{Context, Result, ensure};
use vfio_client::dma::PageSize;
use vfio_client::pamu::VFIO_PAMU_IOMMU;
use vfio_client::sysfs::PciDevice;
use vfio_client::uapi::VFIO_TYPE1v2_IOMMU;
use vfio_client::{Container, DmaBuf, Group, counters};

use crate::setup::{EDU, PAGE, PATIENCE, slowness};
use crate::translation::{self, Pages, Target};
use crate::{Outcome, pamu, same};

/// Windows that a [`Space`] of type2 has.
const WINDOWS: u32 = 256;
/// Bytes of one of them.
pub const WINDOW: u64 = 1 << 30;

/// Bytes that are translated by one of the lowest tables of an IOMMU: a mapping from one into the
/// next has to wait for a table when a part of it is there.
pub const TABLE: u64 = 2 << 20;

/// Runs `test` for each backend that the stack has; it gets the number of its type.
///
/// # Errors
/// What the test said, and of which backend.
pub fn each(test: impl Fn(u32) -> Outcome) -> Outcome {
    for kind in [VFIO_TYPE1v2_IOMMU, VFIO_PAMU_IOMMU] {
        if Container::open()?.check_extension(kind)? != 0 {
            test(kind).with_context(|| format!("backend {kind:#x}"))?;
        }
    }
    Ok(())
}

/// Has a new container of `kind` take mappings at multiples of [`WINDOW`].
///
/// # Errors
/// The kernel's errno.
pub fn prepare(container: &Container, kind: u32) -> Outcome {
    match kind {
        VFIO_PAMU_IOMMU => pamu::cut(container, u64::from(WINDOWS) * WINDOW, WINDOWS),
        _ => Ok(()),
    }
}

/// What should be mapped at one place, for reading and writing.
#[derive(Debug, Clone)]
pub struct Mapped {
    /// First I/O address.
    pub iova: u64,
    /// Numbers of the physical pages.
    pub pfns: Vec<u64>,
    /// Whether they count as locked and are pinned: memory, not a BAR.
    pub locked: bool,
}

impl Mapped {
    /// All of `buf`, whose pages must be there.
    ///
    /// # Errors
    /// If one is not.
    pub fn memory(buf: &DmaBuf, iova: u64) -> Result<Self> {
        let pages = buf.len() as u64 / PAGE;
        Ok(Self {
            iova,
            pfns: translation::physical_pages(buf.addr(), pages)?,
            locked: true,
        })
    }

    /// The first `len` bytes of BAR `index`.
    ///
    /// # Errors
    /// If sysfs does not tell where it is.
    pub fn bar(device: &PciDevice, index: usize, len: u64, iova: u64) -> Result<Self> {
        let first = device.resource(index)?.0 / PAGE;
        Ok(Self {
            iova,
            pfns: (first..first + len / PAGE).collect(),
            locked: false,
        })
    }
}

/// A container with an edu, and what the counters were before anything was mapped.
#[derive(Debug)]
pub struct Space {
    /// The container.
    pub container: Container,
    /// The edu's group.
    pub group: Group,
    /// The edu.
    pub pci: PciDevice,
    avail: Option<u32>,
    pinned: i64,
    locked: u64,
}

impl Space {
    /// A new one, of `kind`, [prepared](prepare).
    ///
    /// # Errors
    /// Skip, or the step that failed.
    pub fn new(kind: u32) -> Result<Self> {
        let bound = EDU.bind()?;
        let (container, group) = bound.attach(kind)?;
        prepare(&container, kind)?;
        Ok(Self {
            avail: container.iommu_info()?.dma_avail,
            container,
            group,
            pci: bound.pci,
            pinned: counters::pinned_pages()?,
            locked: counters::locked_kib()?,
        })
    }

    /// Exactly `maps` must be mapped, locked, pinned, and translated.
    ///
    /// # Errors
    /// What differs.
    pub fn holds(&self, maps: &[Mapped]) -> Outcome {
        let locked = maps.iter().filter(|map| map.locked);
        let locked: u64 = locked.map(|map| map.pfns.len() as u64).sum();
        let now = counters::locked_kib()? - self.locked;
        same("locked pages", now * 1024 / PAGE, locked)?;
        let avail = self.avail.map(|avail| avail - maps.len() as u32);
        let left = self.container.iommu_info()?.dma_avail;
        same("mappings left", left, avail)?;
        translates(&self.pci, maps)?;
        let want = self.pinned + locked as i64;
        let pinned = counters::wait_pinned_pages(want, PATIENCE * slowness())?;
        same("pinned pages", pinned, want)
    }
}

/// The IOMMU must translate exactly `maps` for `device`, where it tells.
///
/// # Errors
/// What differs.
pub fn translates(device: &PciDevice, maps: &[Mapped]) -> Outcome {
    if !translation::is_shown(device) {
        return Ok(());
    }
    let mut want = Pages::new();
    for map in maps {
        let at = (map.iova / PAGE..).zip(&map.pfns);
        want.extend(at.map(|(at, pfn)| (at, Target::both(*pfn))));
    }
    let found = translation::pages(device)?;
    if let Some((at, target)) = want.iter().find(|(at, t)| found.get(at) != Some(t)) {
        let found = found.get(at);
        anyhow::bail!("page {at:#x}: expected {target:x?}, found {found:x?}");
    }
    let extra = found.keys().find(|at| !want.contains_key(at));
    ensure!(extra.is_none(), "page {extra:x?} should not be translated");
    Ok(())
}

/// Memory that is not there yet: mapping it faults in each page.
///
/// # Errors
/// errno of mmap(2) or madvise(2).
pub fn untouched(pages: u64) -> Result<DmaBuf> {
    let buf = DmaBuf::new((pages * PAGE) as usize)?;
    buf.advise(PageSize::Small)?;
    Ok(buf)
}

/// Memory that is there, in pages none of which are beside each other: as many runs as pages.
///
/// # Errors
/// As [`untouched`].
pub fn scattered(pages: u64) -> Result<(DmaBuf, DmaBuf)> {
    let (one, two) = (untouched(pages)?, untouched(pages)?);
    for page in 0..pages as usize {
        one.set(page * PAGE as usize, 1);
        two.set(page * PAGE as usize, 2);
    }
    Ok((one, two))
}
