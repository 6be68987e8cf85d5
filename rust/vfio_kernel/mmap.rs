// SPDX-License-Identifier: GPL-2.0

//! User maps of device memory: `struct vm_operations_struct` of `include/linux/mm.h`.
//!
//! A map starts empty and is filled by faults, so that it can be revoked by
//! [`Mapping::zap`](crate::mapping::Mapping::zap) and refilled later.

use core::marker::PhantomData;
use kernel::{
    error::from_result,
    mm::virt::{
        flags,
        VmaNew, //
    },
    page::{
        PAGE_MASK,
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::Arc, //
};
use vfio_bindings as bindings;

use crate::{
    chardev::{
        node_of,
        opened, //
    },
    fops::{
        self,
        AnonWay,
        FileOps,
        FileOpsTable,
        NodeWay, //
    },
    gate::Gate,
    huge_area,
    mapping::Mapping,
    memtype,
    pci::BarWindow,
};

/// A map that a user asks for.
#[derive(Clone, Copy)]
pub struct MapRequest {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Bytes, a multiple of the page size.
    pub len: u64,
    /// Whether it is a `MAP_SHARED` map.
    pub shared: bool,
}

/// How a map is cached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Each access goes to the device by itself, in order.
    Uncached,
    /// Writes may be gathered and leave in any order.
    WriteCombining,
}

/// A map that may be made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MapKind {
    /// An uncached one.
    Plain,
    /// One whose areas are counted: this is the first, [`Mmap::opened`] and [`Mmap::closed`] tell
    /// of the others.
    Counted(Caching),
}

/// A file that can be mapped.
pub trait Mmap: Send + Sync + 'static {
    /// Decides whether the map may be made, and of which kind. If it is counted, it is made in any
    /// case. Called with `mmap_lock` held for writing.
    fn mmap(&self, request: MapRequest) -> Result<MapKind>;

    /// A part of a counted map, or a copy of it in a child, became an area of its own. It begins at
    /// `offset` of the file. Called with `mmap_lock` held for writing.
    fn opened(&self, offset: u64);

    /// An area of a counted map is gone, and its pages before it; it began at `offset` of the file.
    /// Called with `mmap_lock` held, for reading maybe.
    fn closed(&self, offset: u64);

    /// The physical address at `offset` of the file, if a map there could have huge pages.
    fn placement(&self, offset: u64) -> Option<u64>;

    /// Fills in the page that was touched, by [`PageFault::insert`]. Called with `mmap_lock` or the
    /// area's lock held for reading, so what takes long is waited for by
    /// [`FaultResult::after`]. The default answer to a failure is `SIGBUS`.
    fn fault(&self, fault: PageFault<'_>) -> FaultResult;
}

/// A page was put in.
const VM_FAULT_NOPAGE: bindings::vm_fault_t = bindings::vm_fault_reason_VM_FAULT_NOPAGE;

/// What became of a fault.
pub struct FaultResult(Result<bindings::vm_fault_t, Arc<Gate>>);

impl FaultResult {
    /// The access is refused.
    pub const SIGBUS: Self = Self(Ok(bindings::vm_fault_reason_VM_FAULT_SIGBUS));

    /// Try with a smaller page.
    const FALLBACK: Self = Self(Ok(bindings::vm_fault_reason_VM_FAULT_FALLBACK));

    /// The access is made again when `gate` is open, for which the task waits without any lock of
    /// the MM, or until it is killed. Where that is impossible, as whoever touches the page needs
    /// the lock, it is refused.
    pub fn after(gate: Arc<Gate>) -> Self {
        Self(Err(gate))
    }
}

/// A touched page that is not there.
pub struct PageFault<'a> {
    vmf: *mut bindings::vm_fault,
    order: u32,
    _vmf: PhantomData<&'a mut bindings::vm_fault>,
}

impl PageFault<'_> {
    #[inline]
    fn new(vmf: *mut bindings::vm_fault, order: u32) -> Self {
        Self {
            vmf,
            order,
            _vmf: PhantomData,
        }
    }

    /// The area, and the address that was touched.
    #[inline]
    fn place(&self) -> (*mut bindings::vm_area_struct, c_ulong) {
        // SAFETY: `vmf` is valid while the fault is handled.
        unsafe {
            let fault = &raw const (*self.vmf).__bindgen_anon_1;
            ((*fault).vma, (*fault).address)
        }
    }

    /// Where the page is in the file, in bytes; aligned to the size of the fault.
    #[inline]
    pub fn offset(&self) -> u64 {
        let (vma, address) = self.place();
        // SAFETY: The area is valid while the fault is handled.
        let (start, pgoff) = unsafe {
            (
                (*vma).__bindgen_anon_1.__bindgen_anon_1.vm_start,
                (*vma).vm_pgoff,
            )
        };
        let aligned = address & !((PAGE_SIZE << self.order) - 1);
        ((pgoff as u64) << PAGE_SHIFT).wrapping_add((aligned as u64).wrapping_sub(start as u64))
    }

    /// Puts the page, or the huge page, `offset` bytes into `window` where the user touched it.
    ///
    /// The window must stay accessible until the map is zapped: the caller holds the lock that
    /// whoever zaps takes.
    #[inline]
    pub fn insert(self, window: BarWindow, offset: u64, caching: Caching) -> FaultResult {
        let size = (PAGE_SIZE as u64) << self.order;
        let phys = window.phys().wrapping_add(offset);
        let inside = offset
            .checked_add(size)
            .is_some_and(|end| end <= window.page_aligned_len());
        if !inside || phys & (size - 1) != 0 {
            return match self.order {
                0 => FaultResult::SIGBUS,
                _ => FaultResult::FALLBACK,
            };
        }
        let pfn = (phys >> PAGE_SHIFT) as usize;
        let result = match self.order {
            0 => {
                let (vma, address) = self.place();
                // SAFETY: The area is that of the fault; the frame belongs to a device's BAR, not
                // to memory that the kernel manages.
                unsafe { bindings::vmf_insert_pfn(vma, address, pfn) }
            }
            // SAFETY: `vmf` is valid; the frame as above.
            order => unsafe { bindings::vfio_rs_insert_pfn(self.vmf, pfn, order) },
        };
        if caching == Caching::WriteCombining && result == VM_FAULT_NOPAGE {
            self.check_combines();
        }
        FaultResult(Ok(result))
    }

    /// Looks whether what was put in is write-combining.
    #[cold]
    fn check_combines(&self) {
        const PMD_ORDER: u32 = bindings::PMD_SHIFT - PAGE_SHIFT as u32;
        const PUD_ORDER: u32 = bindings::PUD_SHIFT - PAGE_SHIFT as u32;

        // SAFETY: `vmf` is valid, with the locks that the MM took for the fault. A page can be
        // looked for only if that is the lock of the whole address space.
        let combines = unsafe {
            match self.order {
                PMD_ORDER => bindings::vfio_rs_pmd_combines(self.vmf),
                PUD_ORDER => bindings::vfio_rs_pud_combines(self.vmf),
                _ => {
                    let flags = bindings::vfio_rs_fault_flags(self.vmf);
                    flags & bindings::fault_flag_FAULT_FLAG_VMA_LOCK != 0
                        || bindings::vfio_rs_pte_combines(self.vmf)
                }
            }
        };
        if !combines {
            memtype::count_downgraded();
        }
    }

    /// Whether a naturally aligned page around the address lies in the area.
    #[inline]
    fn fits(&self) -> bool {
        let size = (PAGE_SIZE as u64) << self.order;
        let (vma, address) = self.place();
        let address = address as u64;
        // SAFETY: The area is valid while the fault is handled.
        let (start, end) = unsafe {
            let range = &raw const (*vma).__bindgen_anon_1.__bindgen_anon_1;
            ((*range).vm_start as u64, (*range).vm_end as u64)
        };
        let first = address & !(size - 1);
        first >= start && first.checked_add(size).is_some_and(|last| last <= end)
    }
}

/// A file that can be mapped, and whose maps belong to an address space that it keeps alive.
pub trait MappedFile: FileOps + Mmap {
    /// The address space.
    fn mapping(&self) -> &Mapping;
}

/// The way of files of a device: those that [`anon_file::create`](crate::anon_file::create) opens,
/// and those of a [`CharNode`](crate::chardev::CharNode).
pub struct Mapped(());

// SAFETY: Its files hold an `Arc<T>`.
unsafe impl AnonWay for Mapped {}
// SAFETY: `mapped()` has `open_mapped`.
unsafe impl NodeWay for Mapped {}

impl<T: MappedFile> FileOpsTable<T, Mapped> {
    /// For files that can be read, written and mapped.
    pub const fn mapped() -> Self {
        let ops = bindings::file_operations {
            open: Some(open_mapped::<T>),
            read: Some(fops::read::<T>),
            write: Some(fops::write::<T>),
            mmap: Some(mmap::<T>),
            get_unmapped_area: Some(get_unmapped_area::<T>),
            show_fdinfo: Some(fops::show_fdinfo::<T>),
            ..Self::base()
        };
        // SAFETY: All of these are for files with an `Arc<T>`, which `open_mapped` leaves in files
        // of nodes, and whoever creates another gives.
        unsafe { Self::new(ops) }
    }
}

/// `open` of a character node whose files can be mapped.
///
/// # Safety
///
/// Called by the VFS, with a file that is being opened through a `CharNode` of `T::Node`.
unsafe extern "C" fn open_mapped<T: MappedFile>(
    inode: *mut kernel::bindings::inode,
    file: *mut kernel::bindings::file,
) -> c_int {
    // SAFETY: By the contract of this function.
    let data = T::open(unsafe { node_of::<T::Node>(inode) });
    if let Ok(data) = &data {
        // SAFETY: A file being opened belongs to its open function; the data, and so the address
        // space, lives until the file is released.
        unsafe { (*file).f_mapping = data.mapping().as_ptr() };
    }
    // SAFETY: By the contract of this function.
    unsafe { opened(file, data) }
}

/// `mmap`.
///
/// # Safety
///
/// Called by the MM, with a file that a table of `T` serves and an area that is being set up.
unsafe extern "C" fn mmap<T: FileOps + Mmap>(
    file: *mut bindings::file,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    // SAFETY: The file is served by a table of `T`.
    let this = unsafe { fops::data::<T>(file) };
    // SAFETY: The area is being set up by `mmap(2)` on this file.
    let area = unsafe { VmaNew::from_raw(vma) };
    from_result(|| {
        set_up::<T>(&this, area)?;
        Ok(0)
    })
}

/// Makes `vma` a map of `data`, if `data` agrees.
#[inline]
fn set_up<T: Mmap>(data: &T, vma: &VmaNew) -> Result {
    let raw = vma.as_ptr();
    // SAFETY: The area is valid and not in use by others while it is set up.
    let pgoff = unsafe { (*raw).vm_pgoff };
    let len = vma.end().checked_sub(vma.start()).ok_or(EINVAL)?;
    let kind = data.mmap(MapRequest {
        offset: (pgoff as u64).checked_mul(PAGE_SIZE as u64).ok_or(EINVAL)?,
        len: len as u64,
        shared: vma.flags() & flags::SHARED != 0,
    })?;
    let (ops, caching) = match kind {
        MapKind::Plain => (&AreaOps::<T>::PLAIN, Caching::Uncached),
        MapKind::Counted(caching) => (&AreaOps::<T>::COUNTED, caching),
    };
    // SAFETY: As above; the file that the area refers to keeps `data` alive.
    unsafe {
        bindings::vfio_rs_vma_set_mmio(raw, caching == Caching::WriteCombining);
        (*raw).vm_ops = ops;
    }
    Ok(())
}

struct AreaOps<T>(PhantomData<T>);

impl<T: Mmap> AreaOps<T> {
    const PLAIN: bindings::vm_operations_struct = bindings::vm_operations_struct {
        fault: Some(fault::<T>),
        #[cfg(CONFIG_ARCH_SUPPORTS_HUGE_PFNMAP)]
        huge_fault: Some(huge_fault::<T>),
        ..pin_init::zeroed()
    };

    const COUNTED: bindings::vm_operations_struct = bindings::vm_operations_struct {
        open: Some(open::<T>),
        close: Some(close::<T>),
        ..Self::PLAIN
    };
}

/// The data of the file that an area maps, and where in the file the area begins.
///
/// # Safety
///
/// `vma` must be an area that a `set_up` made for `T`, and not go away.
pub(crate) unsafe fn of_area<'a, T>(vma: *mut bindings::vm_area_struct) -> (&'a T, u64) {
    // SAFETY: Only a `set_up::<T>` installs our handlers, on areas of files whose private data is
    // an `Arc<T>`; the area holds the file open.
    let data = unsafe { &*(*(*vma).vm_file).private_data.cast::<T>() };
    // SAFETY: As above.
    (data, (unsafe { (*vma).vm_pgoff } as u64) << PAGE_SHIFT)
}

/// `open` of an area: it was split off, moved or inherited.
///
/// # Safety
///
/// Called by the MM, with an area that [`set_up`] made for `T`.
unsafe extern "C" fn open<T: Mmap>(vma: *mut bindings::vm_area_struct) {
    // SAFETY: The same contract.
    let (data, offset) = unsafe { of_area::<T>(vma) };
    data.opened(offset);
}

/// `close` of an area.
///
/// # Safety
///
/// Called by the MM, with an area that [`set_up`] made for `T`.
unsafe extern "C" fn close<T: Mmap>(vma: *mut bindings::vm_area_struct) {
    // SAFETY: The same contract.
    let (data, offset) = unsafe { of_area::<T>(vma) };
    data.closed(offset);
}

/// Where to put a map of `len` bytes, if the user does not say where: so that huge pages fit.
///
/// # Safety
///
/// Called by the MM, in `mmap(2)` of a file whose private data is an `Arc<T>`.
unsafe extern "C" fn get_unmapped_area<T: Mmap>(
    file: *mut bindings::file,
    addr: c_ulong,
    len: c_ulong,
    pgoff: c_ulong,
    flags: c_ulong,
) -> c_ulong {
    // No machine has smaller huge pages for device memory.
    const HUGE: c_ulong = 2 << 20;
    if addr == 0 && len >= HUGE {
        // SAFETY: By the contract of this function.
        let data = unsafe { &*(*file).private_data.cast::<T>() };
        let offset = (pgoff as u64).checked_mul(PAGE_SIZE as u64);
        if let Some(phys) = offset.and_then(|offset| data.placement(offset)) {
            // SAFETY: The same contract.
            return unsafe { huge_area::find(file, len, pgoff, flags, phys) };
        }
    }
    // SAFETY: The same contract.
    unsafe { bindings::vfio_rs_get_unmapped_area(file, addr, len, pgoff, flags) }
}

/// `fault` of an area.
///
/// # Safety
///
/// Called by the MM, with a fault in an area that [`set_up`] made for `T`.
unsafe extern "C" fn fault<T: Mmap>(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: The same contract.
    unsafe { handle::<T>(vmf, 0) }
}

/// `huge_fault` of an area. It is asked first, and mostly for pages that the area is too small for.
///
/// # Safety
///
/// Called by the MM, with a fault in an area that [`set_up`] made for `T`.
unsafe extern "C" fn huge_fault<T: Mmap>(
    vmf: *mut bindings::vm_fault,
    order: c_uint,
) -> bindings::vm_fault_t {
    if !PageFault::new(vmf, order).fits() {
        return bindings::vm_fault_reason_VM_FAULT_FALLBACK;
    }
    // SAFETY: The same contract.
    unsafe { handle_huge::<T>(vmf, order) }
}

/// What is left of [`huge_fault`], apart so that the above needs no stack.
///
/// # Safety
///
/// As for that.
#[inline(never)]
unsafe fn handle_huge<T: Mmap>(
    vmf: *mut bindings::vm_fault,
    order: c_uint,
) -> bindings::vm_fault_t {
    // SAFETY: The same contract.
    unsafe { handle::<T>(vmf, order) }
}

/// Handles a fault of any size.
///
/// # Safety
///
/// As for [`fault`].
#[inline(always)]
unsafe fn handle<T: Mmap>(vmf: *mut bindings::vm_fault, order: c_uint) -> bindings::vm_fault_t {
    // SAFETY: The fault is in an area of `set_up::<T>`, which stays while it is handled.
    let (data, _) = unsafe { of_area::<T>((*vmf).__bindgen_anon_1.vma) };
    match data.fault(PageFault::new(vmf, order)).0 {
        Ok(result) => result,
        // SAFETY: The same contract.
        Err(gate) => unsafe { wait(vmf, &gate) },
    }
}

/// Waits until `gate` is open, and has the MM try again.
///
/// # Safety
///
/// `vmf` must be a fault that is being handled, with the lock that the MM took for it. Nothing of
/// it or of its area may be used after this.
#[cold]
unsafe fn wait(vmf: *mut bindings::vm_fault, gate: &Gate) -> bindings::vm_fault_t {
    // SAFETY: The fault is valid.
    let flags = unsafe { bindings::vfio_rs_fault_flags(vmf) };
    if flags & bindings::fault_flag_FAULT_FLAG_ALLOW_RETRY == 0 {
        return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
    }
    if flags & bindings::fault_flag_FAULT_FLAG_RETRY_NOWAIT == 0 {
        // SAFETY: A fault that allows it is answered with VM_FAULT_RETRY and without the lock; the
        // area is not touched any more.
        unsafe { bindings::vfio_rs_release_fault_lock(vmf) };
        // The MM looks for a signal before it tries again.
        let _ = gate.wait_killable();
    }
    bindings::vm_fault_reason_VM_FAULT_RETRY
}

/// `len` rounded up to whole pages.
pub(crate) fn page_align(len: u64) -> u64 {
    len.saturating_add(PAGE_SIZE as u64 - 1) & PAGE_MASK as u64
}
