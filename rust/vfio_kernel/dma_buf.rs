// SPDX-License-Identifier: GPL-2.0

//! Parts of BARs as dma-bufs, `include/linux/dma-buf.h`: memory that drivers of other devices map
//! for their DMA, and give up again when told.
//!
//! Locks: `BarExport::buf`, then the dma-buf's own, which importers take before they call here,
//! then `BarExport::state`.

use core::ptr::NonNull;
use kernel::{
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    new_condvar, new_mutex,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow,
        CondVar,
        Mutex, //
    },
};
use vfio_bindings as bindings;

use crate::{
    count::Count,
    pci::BoundPci,
    user_sized, //
};

/// Whether the kernel has what is needed.
pub fn works() -> bool {
    // SAFETY: No preconditions.
    unsafe { bindings::vfio_rs_dma_buf_works() }
}

impl BoundPci {
    /// Gets ready for [`BarExport`], until the driver is unbound.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; none where there will be no exports.
    pub fn init_p2pdma(&self) -> Result {
        // SAFETY: The device is alive (type invariant of `PciDevice`), and being bound by the
        // caller.
        match to_result(unsafe { bindings::vfio_rs_p2pdma_init(self.as_ptr()) }) {
            Err(EOPNOTSUPP) => Ok(()),
            ret => ret,
        }
    }
}

/// Parts of a BAR as a dma-buf. Nobody can use it before [`restore`](Self::restore). Keeps the
/// device bound until its driver [`end`](Self::end)s it, whoever else has the dma-buf.
///
/// # Invariants
///
/// `buf` is there until `release` was called, for which that waits. `provider` is the PCI core's
/// for the BAR that `parts` are inside of, and there while the device is bound. It is, or this is
/// revoked; then importers have no maps but those that are counted in `state`.
#[pin_data]
pub struct BarExport {
    /// The dma-buf, until it is released. Its file may be gone before, as a path can keep it.
    #[pin]
    buf: Mutex<Option<Buf>>,
    #[pin]
    state: Mutex<ExportState>,
    /// The last map is gone.
    #[pin]
    unmapped: CondVar,
    provider: NonNull<c_void>,
    /// Inside of the BAR.
    parts: KVec<bindings::phys_vec>,
    size: usize,
}

/// Parts of one memory BAR.
///
/// # Invariants
///
/// `bar` is below [`BARS`] and memory, from `start` to before `end`. All `parts` are inside of it.
pub struct ExportRanges {
    dev: BoundPci,
    bar: u32,
    /// Physical address of the BAR, and where it ends.
    start: u64,
    end: u64,
    parts: KVec<bindings::phys_vec>,
}

/// How many BARs a device has, and providers the PCI core.
const BARS: u32 = 6;

// SAFETY: Numbers, and a device, which may be sent itself.
unsafe impl Send for ExportRanges {}
// SAFETY: Never written once they are exported.
unsafe impl Sync for ExportRanges {}

struct ExportState {
    /// May not be used. Changes with the dma-buf's lock held.
    revoked: bool,
    /// Maps that importers have.
    maps: Count,
    /// Whose the memory is. Without it this is revoked for good.
    dev: Option<BoundPci>,
}

/// A dma-buf that is not released yet.
///
/// # Invariants
///
/// The pointer is to a dma-buf of ours. Whoever has this keeps it from being freed: by a reference,
/// or by the lock of `BarExport::buf`, for which `release` waits.
#[derive(Clone, Copy)]
struct Buf(NonNull<bindings::dma_buf>);

// SAFETY: A dma-buf may be used by any thread, and is there (type invariant).
unsafe impl Send for Buf {}

// SAFETY: The provider belongs to the PCI core and is only passed on.
unsafe impl Send for BarExport {}
// SAFETY: As above; the rest locks itself.
unsafe impl Sync for BarExport {}

impl ExportRanges {
    /// None of `bar` yet, with room for `count`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the BAR is no memory, `EOVERFLOW` if it ends beyond all addresses, `ENOMEM`,
    /// also for more than the kernel allocates at once.
    pub fn new(dev: &BoundPci, bar: u32, count: usize) -> Result<Self> {
        if bar >= BARS || !dev.bar_is_memory(bar) {
            return Err(EINVAL);
        }
        let start = dev.bar_start(bar);
        let end = start.checked_add(dev.bar_len(bar)).ok_or(EOVERFLOW)?;
        // INVARIANT: Looked at above.
        Ok(Self {
            dev: dev.clone(),
            bar,
            start,
            end,
            parts: KVec::with_capacity(count, user_sized::gfp())?,
        })
    }

    /// Adds `len` bytes, `offset` bytes into the BAR.
    ///
    /// # Errors
    ///
    /// `EOVERFLOW` if they end beyond all addresses, `EINVAL` if beyond the BAR, `ENOMEM` if there
    /// is no room.
    pub fn push(&mut self, offset: u64, len: u64) -> Result {
        let paddr = self.start.checked_add(offset).ok_or(EOVERFLOW)?;
        if paddr.checked_add(len).ok_or(EOVERFLOW)? > self.end {
            return Err(EINVAL);
        }
        let len = len.try_into()?;
        let part = bindings::phys_vec { paddr, len };
        // INVARIANT: Inside, as was just looked at.
        self.parts.push_within_capacity(part).map_err(|_| ENOMEM)
    }

    fn size(&self) -> Result<usize> {
        self.parts
            .iter()
            .try_fold(0usize, |sum, range| sum.checked_add(range.len))
            .ok_or(EINVAL)
    }
}

/// An importer's device reaches BARs by the bus, or not at all: maps by the CPU are not offered.
static OPS: DmaBufOps = DmaBufOps(bindings::dma_buf_ops {
    attach: Some(attach),
    map_dma_buf: Some(map),
    unmap_dma_buf: Some(unmap),
    release: Some(release),
    ..pin_init::zeroed()
});

struct DmaBufOps(bindings::dma_buf_ops);

// SAFETY: Never written.
unsafe impl Sync for DmaBufOps {}

impl BarExport {
    /// Makes a dma-buf of `ranges`; `flags` are those of its file.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the BAR cannot be mapped by anyone, `ENOMEM`, what the dma-buf core says.
    pub fn new(ranges: ExportRanges, flags: u32) -> Result<(Arc<Self>, Fresh)> {
        let (dev, bar) = (ranges.dev.as_ptr(), ranges.bar as c_int);
        // SAFETY: The device is alive (type invariant of `PciDevice`), and has such a BAR (type
        // invariant of `ExportRanges`).
        let provider = unsafe { bindings::vfio_rs_p2pdma_provider(dev, bar) };
        let provider = NonNull::new(provider).ok_or(EINVAL)?;
        let size = ranges.size()?;
        let ExportRanges { dev, parts, .. } = ranges;
        let state = ExportState {
            revoked: true,
            maps: Count::NONE,
            dev: Some(dev),
        };
        let export = Arc::pin_init(
            pin_init!(Self {
                buf <- new_mutex!(None, "BarExport::buf"),
                state <- new_mutex!(state, "BarExport::state"),
                unmapped <- new_condvar!("BarExport::unmapped"),
                provider,
                parts,
                size,
            }),
            GFP_KERNEL,
        )?;
        let owned = export.clone().into_raw();
        // SAFETY: The operations live forever, and `release` takes the reference back.
        let buf = from_err_ptr(unsafe {
            bindings::vfio_rs_dma_buf_export(&OPS.0, size, flags as c_int, owned.cast_mut().cast())
        })
        .inspect_err(|_| {
            // SAFETY: From `into_raw` above; nobody took it over.
            drop(unsafe { Arc::from_raw(owned) });
        })?;
        // INVARIANT: Made above. The copy in `Fresh` has the reference, and `release` takes the one
        // in `export` away.
        let buf = Buf(NonNull::new(buf).ok_or(ENOMEM)?);
        *export.buf.lock() = Some(buf);
        Ok((export, Fresh { buf, flags }))
    }

    /// Whether the dma-buf is still there.
    pub fn is_open(&self) -> bool {
        self.buf.lock().is_some()
    }

    /// Has all importers give up their maps, and lets nobody map again. When it returns no device
    /// reaches the memory. May sleep.
    pub fn revoke(&self) {
        {
            let buf = self.buf.lock();
            let Some(buf) = buf.as_ref().map(Buf::lock) else {
                return;
            };
            if core::mem::replace(&mut self.state.lock().revoked, true) {
                return;
            }
            buf.invalidate();
        }
        let mut state = self.state.lock();
        while !state.maps.is_none() {
            self.unmapped.wait(&mut state);
        }
    }

    /// Lets importers map again, unless it has [ended](Self::end). May sleep.
    pub fn restore(&self) {
        let buf = self.buf.lock();
        let Some(buf) = buf.as_ref().map(Buf::lock) else {
            return;
        };
        let mut state = self.state.lock();
        // INVARIANT: The device is bound as long as it is there.
        let was_revoked = state.dev.is_some() && core::mem::replace(&mut state.revoked, false);
        drop(state);
        if was_revoked {
            buf.invalidate();
        }
    }

    /// As [`revoke`](Self::revoke), for good: the device may be unbound. May sleep.
    pub fn end(&self) {
        let dev = self.state.lock().dev.take();
        self.revoke();
        drop(dev);
    }

    /// `ENODEV` if it may not be used.
    fn check(&self) -> Result {
        match self.state.lock().revoked {
            true => Err(ENODEV),
            false => Ok(()),
        }
    }
}

/// A dma-buf without a descriptor; released when dropped.
///
/// # Invariants
///
/// The first reference to the dma-buf is this one's.
pub struct Fresh {
    buf: Buf,
    flags: u32,
}

impl Fresh {
    /// Gives it a descriptor of the current process, which owns it then.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENOMEM`.
    pub fn install(self) -> Result<i32> {
        // SAFETY: The reference is ours (type invariant); if the call is successful the descriptor
        // has it.
        let fd = unsafe { bindings::vfio_rs_dma_buf_fd(self.buf.0.as_ptr(), self.flags as c_int) };
        to_result(fd)?;
        core::mem::forget(self);
        Ok(fd)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // SAFETY: The reference is ours (type invariant).
        unsafe { bindings::vfio_rs_dma_buf_put(self.buf.0.as_ptr()) }
    }
}

impl Buf {
    fn lock(&self) -> Locked<'_> {
        // SAFETY: The dma-buf is there (type invariant).
        unsafe { bindings::vfio_rs_dma_buf_lock(self.0.as_ptr()) };
        // INVARIANT: Locked above.
        Locked(self)
    }
}

/// A dma-buf whose lock is held.
///
/// # Invariants
///
/// The lock is held by this.
struct Locked<'a>(&'a Buf);

impl Locked<'_> {
    /// Tells importers that their maps are not valid any more.
    fn invalidate(&self) {
        // SAFETY: The dma-buf is there (type invariant of `Buf`), and locked (type invariant).
        unsafe { bindings::vfio_rs_dma_buf_invalidate(self.0 .0.as_ptr()) }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: The dma-buf is there (type invariant of `Buf`), and locked by this (type
        // invariant).
        unsafe { bindings::vfio_rs_dma_buf_unlock(self.0 .0.as_ptr()) }
    }
}

/// The export behind a dma-buf.
///
/// # Safety
///
/// `buf` must be one that [`BarExport::new`] made and is not released while the borrow lives.
unsafe fn export<'a>(buf: *mut bindings::dma_buf) -> ArcBorrow<'a, BarExport> {
    // SAFETY: By the contract of this function, `priv` is a reference that `release` takes back.
    unsafe { ArcBorrow::from_raw((*buf).priv_.cast_const().cast()) }
}

/// `attach`.
///
/// # Safety
///
/// Called by the dma-buf core, with a dma-buf of ours.
unsafe extern "C" fn attach(
    buf: *mut bindings::dma_buf,
    attachment: *mut bindings::dma_buf_attachment,
) -> c_int {
    from_result(|| {
        // SAFETY: By the contract of this function.
        if !unsafe { (*attachment).peer2peer } {
            return Err(EOPNOTSUPP);
        }
        // SAFETY: As above.
        unsafe { export(buf) }.check()?;
        // SAFETY: As above. Revoking waits for importers, who must be known to give up.
        if !unsafe { bindings::vfio_rs_dma_buf_revocable(attachment) } {
            return Err(EOPNOTSUPP);
        }
        Ok(0)
    })
}

/// `map_dma_buf`.
///
/// # Safety
///
/// Called by the dma-buf core with its lock held, with an attachment to a dma-buf of ours.
unsafe extern "C" fn map(
    attachment: *mut bindings::dma_buf_attachment,
    dir: bindings::dma_data_direction,
) -> *mut bindings::sg_table {
    // SAFETY: By the contract of this function.
    let export = unsafe { export((*attachment).dmabuf) };
    if let Err(err) = export.check() {
        return err.to_ptr();
    }
    let ranges = export.parts.as_ptr().cast_mut();
    let (count, size) = (export.parts.len(), export.size);
    let provider = export.provider.as_ptr();
    // SAFETY: As above. The ranges are read only; the provider is there, as the memory is not
    // revoked and cannot be while the lock is held.
    let table =
        unsafe { bindings::vfio_rs_dma_buf_map(attachment, provider, ranges, count, size, dir) };
    match from_err_ptr(table) {
        Ok(table) => {
            export.state.lock().maps.inc();
            table
        }
        Err(err) => err.to_ptr(),
    }
}

/// `unmap_dma_buf`.
///
/// # Safety
///
/// Called by the dma-buf core with its lock held, with what [`map`] returned.
unsafe extern "C" fn unmap(
    attachment: *mut bindings::dma_buf_attachment,
    table: *mut bindings::sg_table,
    dir: bindings::dma_data_direction,
) {
    // SAFETY: By the contract of this function.
    let export = unsafe {
        bindings::vfio_rs_dma_buf_unmap(attachment, table, dir);
        export((*attachment).dmabuf)
    };
    let mut state = export.state.lock();
    if state.maps.dec() {
        export.unmapped.notify_all();
    }
}

/// `release`.
///
/// # Safety
///
/// Called by the dma-buf core, once, with a dma-buf of ours that nobody has any more.
unsafe extern "C" fn release(buf: *mut bindings::dma_buf) {
    // SAFETY: By the contract of this function; `BarExport::new` left the reference there.
    let export = unsafe { Arc::<BarExport>::from_raw((*buf).priv_.cast_const().cast()) };
    *export.buf.lock() = None;
}

/// Where the memory of an attachment is, for iommufd: see `rust/helpers/vfio_dma_buf.c`.
///
/// # Safety
///
/// `attachment` must be one to any dma-buf, with its lock held, `phys` valid for writes.
#[no_mangle]
unsafe extern "C" fn vfio_rs_dma_buf_phys(
    attachment: *mut bindings::dma_buf_attachment,
    phys: *mut bindings::phys_vec,
) -> c_int {
    from_result(|| {
        // SAFETY: By the contract of this function.
        let buf = unsafe { (*attachment).dmabuf };
        // SAFETY: As above.
        if !core::ptr::eq(unsafe { (*buf).ops }, &OPS.0) {
            return Err(EOPNOTSUPP);
        }
        // SAFETY: It is one of ours.
        let export = unsafe { export(buf) };
        export.check()?;
        let [range] = &export.parts[..] else {
            return Err(EOPNOTSUPP);
        };
        // SAFETY: As above.
        unsafe {
            phys.write(bindings::phys_vec {
                paddr: range.paddr,
                len: range.len,
            })
        };
        Ok(0)
    })
}
