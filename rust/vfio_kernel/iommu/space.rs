// SPDX-License-Identifier: GPL-2.0

//! An I/O address space: what all groups of one container reach.
//!
//! One [`IoSpace`] has a domain for each kind of IOMMU among its groups, all with the same content.
//! Memory gets in as an [`IoMapping`], which owns the pinned pages: they cannot be unpinned while a
//! device sees them. Who may put something where is told by the [`Ranges`] of the space. The lock
//! `domains` is held for reading to change mappings, for writing to change the set of domains.

use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

use super::{
    device_memory::DevicePiece,
    domain::{
        Domain,
        DomainId,
        Geometry,
        Prot, //
    },
    group::DmaOwner,
    pagealloc,
    IoMapping,
    Ranges,
    ShadowExtent, //
};
use crate::{
    few::Few,
    new_rwsem,
    ranges::SpaceId,
    runs::Cursor,
    rwsem::RwSem,
    sched::{
        self,
        Stop, //
    },
};

/// Which domain a group may get.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One that other groups have, or one of its own.
    Optional,
    /// One that other groups have, if there are others.
    Required,
}

/// Domains of a space, for some memory of a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Domains {
    /// All; none of it is mapped in any.
    All,
    /// Those in which none of it is mapped.
    New,
}

struct SharedDomain {
    domain: Domain,
    groups: usize,
}

/// How many spaces there were.
static SPACES: Atomic<u64> = Atomic::new(0);

/// See the module's documentation.
///
/// # Invariants
///
/// `id` is that of no other space, and there is one [`Ranges`] for it. Page tables of `domains` are
/// changed at addresses that belong to what a claim of these was given to, and by that only.
#[pin_data]
pub struct IoSpace {
    id: SpaceId,
    #[pin]
    domains: RwSem<KVec<SharedDomain>>,
}

impl IoSpace {
    /// An empty space that no group sees, with what says who may map where in it.
    pub fn new<M>() -> Result<(Arc<Self>, Ranges<M>)> {
        let space = Self::create()?;
        let id = space.id;
        // INVARIANT: The only one, as the number is new.
        Ok((space, Ranges::new(id)))
    }

    /// Apart from `new`, as each instance of a generic function has a copy of the lock's name but
    /// not of its class, and lockdep looks at the addresses of both.
    #[inline(never)]
    fn create() -> Result<Arc<Self>> {
        // Not in a thousand years are there more than the number has room for.
        let id = SpaceId(SPACES.fetch_add(1, Relaxed));
        Arc::pin_init(
            pin_init!(Self { id, domains <- new_rwsem!(KVec::new(), "IoSpace::domains") }),
            GFP_KERNEL,
        )
    }

    /// Which space it is.
    #[inline]
    pub(crate) fn id(&self) -> SpaceId {
        self.id
    }

    /// Makes `npages` of `frames` reachable from `iova` on, for all groups. These addresses belong
    /// to the caller. May sleep.
    ///
    /// The list of domains may change while it runs: `iova` must be kept from being replayed.
    ///
    /// # Errors
    ///
    /// `EEXIST` or `EADDRINUSE` if something is mapped there, `ENOMEM`, `EINTR` if the task is
    /// being killed. `done` has the bytes that are mapped all the same.
    #[inline]
    pub(super) fn map(
        &self,
        iova: u64,
        mut frames: Cursor<'_>,
        npages: usize,
        prot: Prot,
        done: &mut usize,
    ) -> Result {
        for_each_window(iova, npages << PAGE_SHIFT, |at, len| {
            self.map_window(at, &mut frames, len, prot)?;
            *done += len;
            Ok(())
        })
    }

    /// Unmaps ranges, which belong to the caller, in all domains, as [`Domain::unmap_each`]. May
    /// sleep.
    #[inline]
    pub(super) fn unmap_each(
        &self,
        ranges: impl Iterator<Item = (u64, usize)> + Clone,
        mut short: impl FnMut(usize),
    ) {
        for shared in self.domains.read().iter() {
            shared.domain.unmap_each(ranges.clone(), &mut short);
        }
    }

    /// Maps the next `len` bytes of `frames` at `iova` in all domains, or in none.
    #[inline]
    fn map_window(&self, iova: u64, frames: &mut Cursor<'_>, len: usize, prot: Prot) -> Result {
        let Some(pfn) = frames.take_adjacent(len >> PAGE_SHIFT) else {
            return self.map_runs(iova, frames, len, prot);
        };
        let domains = self.domains.read();
        for (i, shared) in domains.iter().enumerate() {
            let phys = (pfn as u64) << PAGE_SHIFT;
            if let Err(err) = shared.domain.map_adjacent(iova, phys, len, prot) {
                for done in domains.iter().take(i) {
                    done.domain.unmap(iova, len);
                }
                return Err(err);
            }
        }
        Ok(())
    }

    /// As [`map_window`](Self::map_window), for frames here and there.
    #[inline(never)]
    fn map_runs(&self, iova: u64, frames: &mut Cursor<'_>, len: usize, prot: Prot) -> Result {
        let domains = self.domains.read();
        let start = *frames;
        for (i, shared) in domains.iter().enumerate() {
            *frames = start;
            if let Err(err) = shared.domain.map(iova, frames, len >> PAGE_SHIFT, prot) {
                for done in domains.iter().take(i) {
                    done.domain.unmap(iova, len);
                }
                return Err(err);
            }
        }
        Ok(())
    }

    /// As [`map`](Self::map), with no entry of a page table larger than `largest`, a power of two
    /// up to [`WINDOW`]. [`sync_map`](Self::sync_map) must follow, and no domain come or go before.
    pub(super) fn map_limited(
        &self,
        iova: u64,
        mut frames: Cursor<'_>,
        npages: usize,
        prot: Prot,
        largest: usize,
        done: &mut usize,
    ) -> Result {
        for_each_window(iova, npages << PAGE_SHIFT, |at, len| {
            let domains = self.domains.read();
            let start = frames;
            frames.skip(len >> PAGE_SHIFT);
            for (i, shared) in domains.iter().enumerate() {
                let mut part = start;
                let mapped =
                    shared
                        .domain
                        .map_limited(at, &mut part, len >> PAGE_SHIFT, prot, largest);
                if let Err(err) = mapped {
                    for done in domains.iter().take(i) {
                        done.domain.unmap(at, len);
                    }
                    return Err(err);
                }
            }
            *done += len;
            Ok(())
        })
    }

    /// Tells the IOMMUs of what was mapped in `size` bytes from `iova` on by
    /// [`map_limited`](Self::map_limited).
    pub(super) fn sync_map(&self, iova: u64, size: u64) -> Result {
        let domains = self.domains.read();
        let mut all = domains.iter();
        all.try_for_each(|shared| shared.domain.sync_map(iova, size as usize))
    }

    /// Maps device memory in all `which` domains; on failure in none of these. The addresses belong
    /// to the caller, who keeps the memory where it is if it is `of_kernel`. May sleep.
    pub(super) fn map_device(
        &self,
        which: Domains,
        pieces: &[DevicePiece],
        prot: Prot,
        of_kernel: bool,
        stop: Stop,
    ) -> Result {
        let Some(first) = pieces.first() else {
            return Ok(());
        };
        let domains = self.domains.read();
        let mut done = Few::None;
        for SharedDomain { domain, .. } in domains.iter() {
            if which == Domains::New && domain.translates(first.iova) {
                continue;
            }
            let mapped = domain.map_pieces(pieces, prot, of_kernel, stop);
            let noted = mapped.and_then(|()| {
                done.push(domain, GFP_KERNEL)
                    .inspect_err(|_| domain.unmap_pieces(pieces))
            });
            if let Err(err) = noted {
                for domain in done.as_slice() {
                    domain.unmap_pieces(pieces);
                }
                return Err(err);
            }
        }
        Ok(())
    }

    /// Undoes [`map_device`](Self::map_device) in all domains, where the addresses belong to the
    /// caller.
    pub(super) fn unmap_device(&self, pieces: &[DevicePiece]) {
        for shared in self.domains.read().iter() {
            shared.domain.unmap_pieces(pieces);
        }
    }

    /// Lets the devices of the owned group see the space. May sleep.
    ///
    /// The group shares a domain where it can. Otherwise a new one is filled: `replay` must pass
    /// every mapping of the space to [`Replay::add`], and keep others from being made meanwhile.
    /// `check` can refuse the addresses that the group's IOMMU translates. Doorbells of interrupts
    /// that need mapping go to `sw_msi`.
    ///
    /// # Errors
    ///
    /// `EXDEV` if the group cannot share a domain and `sharing` requires it; what the IOMMU driver,
    /// `check` or `replay` say; the space is as before.
    pub fn attach(
        self: &Arc<Self>,
        owner: Arc<DmaOwner>,
        sharing: Sharing,
        sw_msi: Option<u64>,
        check: impl FnOnce(Geometry) -> Result,
        replay: impl FnOnce(Replay<'_>) -> Result,
    ) -> Result<Attachment> {
        let group = owner.group();
        let mut domains = self.domains.write();
        domains.reserve(1, GFP_KERNEL)?;
        let mut domain = Domain::alloc(group)?;
        domain.attach(group)?;
        let geometry = domain.geometry();
        if let Err(err) = check(geometry) {
            domain.detach(group);
            return Err(err);
        }
        domain.enforce_cache_coherency();

        for shared in domains.iter_mut() {
            if !shared.domain.compatible(&domain) {
                continue;
            }
            domain.detach(group);
            if shared.domain.attach(group).is_ok() {
                shared.groups += 1;
                let id = shared.domain.id();
                return Ok(self.attachment(owner.clone(), id, geometry));
            }
            domain.attach(group)?;
        }
        if sharing == Sharing::Required && !domains.is_empty() {
            domain.detach(group);
            return Err(EXDEV);
        }

        let filled = replay(Replay {
            space: self,
            domain: &domain,
        })
        .and_then(|()| sw_msi.map_or(Ok(()), |base| domain.get_msi_cookie(base)));
        if let Err(err) = filled {
            // What was replayed goes with the page table.
            domain.detach(group);
            return Err(err);
        }
        let id = domain.id();
        domains.push(SharedDomain { domain, groups: 1 }, GFP_KERNEL)?;
        Ok(self.attachment(owner.clone(), id, geometry))
    }

    fn attachment(
        self: &Arc<Self>,
        owner: Arc<DmaOwner>,
        domain: DomainId,
        geometry: Geometry,
    ) -> Attachment {
        Attachment {
            space: self.clone(),
            owner,
            domain,
            geometry,
        }
    }

    /// The page sizes that all domains can map, one bit each; all ones without a domain.
    pub fn pgsize_bitmap(&self) -> usize {
        self.domains.read().iter().fold(usize::MAX, |all, shared| {
            all & shared.domain.pgsize_bitmap()
        })
    }

    /// Whether every access of every group is coherent, also those that ask not to be.
    pub fn enforced_coherency(&self) -> bool {
        self.domains
            .read()
            .iter()
            .all(|shared| shared.domain.coherent)
    }
}

/// Bytes that are mapped or unmapped before others get the CPU and the list of domains. No page of
/// an I/O page table is larger, so none is split.
pub(super) const WINDOW: u64 = 1 << 30;

/// How many of `size` bytes from `iova` on lie before the next multiple of [`WINDOW`].
#[inline]
pub(super) fn window(iova: u64, size: usize) -> usize {
    size.min((WINDOW - iova % WINDOW) as usize)
}

/// Calls `f` with start and bytes of each part of a range, cut at multiples of [`WINDOW`].
///
/// # Errors
///
/// What `f` says, and `EINTR` if the task is being killed.
#[inline]
fn for_each_window(iova: u64, size: usize, mut f: impl FnMut(u64, usize) -> Result) -> Result {
    let (mut at, mut left) = (iova, size);
    loop {
        let len = window(at, left);
        f(at, len)?;
        left -= len;
        if left == 0 {
            return Ok(());
        }
        at = at.wrapping_add(len as u64);
        sched::cond_resched();
        sched::check_killed()?;
    }
}

/// A new domain that wants the mappings of its space.
pub struct Replay<'a> {
    space: &'a Arc<IoSpace>,
    domain: &'a Domain,
}

impl Replay<'_> {
    /// Maps in the new domain what `mapping` is in the others.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a mapping of another space, `EINTR` if the task is being killed, or what the
    /// IOMMU driver says.
    pub fn add(&self, mapping: &IoMapping) -> Result {
        if !Arc::ptr_eq(self.space, mapping.space()) {
            return Err(EINVAL);
        }
        let mut frames = mapping.frames();
        for_each_window(mapping.iova(), mapping.size(), |at, len| {
            self.domain
                .map(at, &mut frames, len >> PAGE_SHIFT, mapping.prot())
        })
    }

    /// The same for an extent; the IOMMU is not told of each, as nobody uses the domain yet.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub fn add_extent(&self, extent: &ShadowExtent) -> Result {
        if !Arc::ptr_eq(self.space, extent.space()) {
            return Err(EINVAL);
        }
        let mut frames = extent.frames();
        let (iova, size) = (extent.iova(), extent.npages() << PAGE_SHIFT);
        let largest = extent.largest().bytes();
        for_each_window(iova, size, |at, len| {
            let npages = len >> PAGE_SHIFT;
            self.domain
                .map_limited(at, &mut frames, npages, extent.prot(), largest)
        })?;
        self.domain.sync_map(iova, size)
    }
}

/// A group that sees an [`IoSpace`]; dropping it cuts the group off. May sleep.
pub struct Attachment {
    space: Arc<IoSpace>,
    owner: Arc<DmaOwner>,
    domain: DomainId,
    geometry: Geometry,
}

impl Attachment {
    /// Whose group it is.
    pub fn owner(&self) -> &Arc<DmaOwner> {
        &self.owner
    }

    /// The addresses that the group's IOMMU translates.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut domains = self.space.domains.write();
        let Some(at) = domains.iter().position(|s| s.domain.is(self.domain)) else {
            return;
        };
        let Some(shared) = domains.get_mut(at) else {
            return;
        };
        shared.domain.detach(self.owner.group());
        shared.groups -= 1;
        // A kernel that counts mapped pages counts those in it until they are unmapped, so there it
        // stays, without a group, as long as the space. (One that could not be filled goes all the
        // same: on such a kernel the pages that got into it are reported when they are freed.)
        if shared.groups == 0 && !pagealloc::counts() {
            // Frees the page table: no device sees it, so nothing needs to be unmapped.
            let _ = domains.remove(at);
        }
    }
}
