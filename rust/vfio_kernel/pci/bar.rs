// SPDX-License-Identifier: GPL-2.0

//! Base address registers: the device's own memory and I/O ports.

use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    types::Opaque, //
};
use vfio_bindings as bindings;

use super::{
    BoundPci,
    IoMem,
    PciDevice, //
};
use crate::{
    iommu::DeviceMemory,
    log,
    mmap::page_align, //
};

/// Where a memory BAR is, to be mapped into a user's address space.
#[derive(Clone, Copy)]
pub struct BarWindow {
    start: u64,
    len: u64,
}

impl BarWindow {
    /// Bytes, rounded up to whole pages.
    pub fn page_aligned_len(&self) -> u64 {
        page_align(self.len)
    }

    /// Whether it fills its pages.
    pub fn is_whole_pages(&self) -> bool {
        self.len != 0 && self.len % PAGE_SIZE as u64 == 0
    }

    /// The physical address `offset` bytes into it.
    pub fn phys_at(&self, offset: u64) -> u64 {
        self.start.wrapping_add(offset)
    }

    /// `len` bytes of the window, `offset` bytes into it; `None` if it does not go so far.
    pub fn part(&self, offset: u64, len: usize) -> Option<DeviceMemory> {
        let end = offset.checked_add(len as u64)?;
        // The window is a device's, so it is not memory that the kernel manages.
        (end <= self.page_aligned_len())
            .then(|| DeviceMemory::new(self.start.wrapping_add(offset), len))
    }

    pub(crate) fn phys(&self) -> u64 {
        self.start
    }
}

impl PciDevice {
    /// Size of a BAR (0 to 5) or of the ROM (6) in bytes; 0 if there is none.
    pub fn bar_len(&self, bar: u32) -> u64 {
        self.resource(bar).map_or(0, |(_, len, _)| len)
    }

    /// Where a BAR is, by the CPU's addresses; 0 if there is none.
    pub fn bar_start(&self, bar: u32) -> u64 {
        self.resource(bar).map_or(0, |(start, ..)| start)
    }

    /// Whether a BAR is memory, not I/O ports.
    pub fn bar_is_memory(&self, bar: u32) -> bool {
        self.resource(bar)
            .is_some_and(|(_, _, flags)| flags & bindings::IORESOURCE_MEM as usize != 0)
    }

    /// Whether reads of a BAR have no side effects and writes to it may be merged.
    pub fn bar_is_prefetchable(&self, bar: u32) -> bool {
        self.resource(bar)
            .is_some_and(|(_, _, flags)| flags & bindings::IORESOURCE_PREFETCH as usize != 0)
    }

    /// The lower bits of the BAR register: space, type and prefetchable.
    pub fn bar_flags(&self, bar: u32) -> u32 {
        self.resource(bar).map_or(0, |(_, _, flags)| {
            (flags & (bindings::IORESOURCE_BITS as usize)) as u32
                | if flags & bindings::IORESOURCE_MEM_64 as usize != 0 {
                    bindings::PCI_BASE_ADDRESS_MEM_TYPE_64
                } else {
                    0
                }
        })
    }

    /// Whether no BAR may be mapped, by anyone.
    fn bars_unmappable(&self) -> bool {
        // SAFETY: The device is alive (type invariant of `PciDevice`).
        unsafe { bindings::vfio_rs_pci_non_mappable_bars(self.as_ptr()) }
    }

    /// Start, bytes and flags of a resource that has a size.
    pub(super) fn resource(&self, bar: u32) -> Option<(u64, u64, usize)> {
        if bar > 6 {
            return None;
        }
        // SAFETY: `self` holds a reference and there is such a resource. It does not move while a
        // driver is bound. But the flags of a ROM change, and so does what links it to others, so
        // no reference to it is made.
        let (start, end, flags) = unsafe {
            let res = bindings::vfio_rs_pci_resource(self.as_ptr(), bar);
            let flags = (&raw const (*res).flags).read_volatile();
            ((*res).start, (*res).end, flags)
        };
        if end == 0 && start == 0 {
            return None;
        }
        let len = end.checked_sub(start)?.checked_add(1)?;
        Some((start, len, flags))
    }

    /// What a resource is a part of in the tree of resources.
    pub(super) fn resource_parent(&self, bar: u32) -> Option<NonNull<bindings::resource>> {
        if bar > 6 {
            return None;
        }
        // SAFETY: As above.
        let parent = unsafe {
            let res = bindings::vfio_rs_pci_resource(self.as_ptr(), bar);
            (&raw const (*res).parent).read_volatile()
        };
        NonNull::new(parent)
    }
}

/// A memory BAR that users may map: whole pages that nothing else shares.
pub struct MappableBar {
    window: BarWindow,
    _rest: Option<PageRest>,
}

impl MappableBar {
    /// A BAR as users may map it. If it is smaller than a page, the rest of the page is reserved,
    /// so that no other device gets it. May sleep.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is no such BAR or it cannot be mapped; `EBUSY` if someone else has a part
    /// of its page; `ENOMEM`.
    pub fn new(dev: &BoundPci, bar: u32) -> Result<Self> {
        let page = PAGE_SIZE as u64;
        let (start, len, flags) = dev.resource(bar).filter(|_| bar < 6).ok_or(ENODEV)?;
        if flags & bindings::IORESOURCE_MEM as usize == 0
            || dev.bars_unmappable()
            || start % page != 0
        {
            return Err(ENODEV);
        }
        let rest = if len < page {
            Some(PageRest::reserve(dev, bar)?)
        } else {
            None
        };
        Ok(Self {
            window: BarWindow { start, len },
            _rest: rest,
        })
    }

    /// Where it is.
    pub fn window(&self) -> BarWindow {
        self.window
    }
}

/// The rest of a page behind a BAR that does not fill it, reserved in the tree of resources.
///
/// # Invariants
///
/// `res` is in the tree, as a child of the parent of a BAR of the device, which stays while this is
/// bound.
struct PageRest {
    _dev: BoundPci,
    res: KBox<Opaque<bindings::resource>>,
}

// SAFETY: The resource belongs to this alone; the tree has a lock of its own.
unsafe impl Send for PageRest {}
// SAFETY: `&PageRest` gives access to nothing.
unsafe impl Sync for PageRest {}

impl PageRest {
    fn reserve(dev: &BoundPci, bar: u32) -> Result<Self> {
        let (start, len, flags) = dev.resource(bar).ok_or(ENODEV)?;
        let parent = dev.resource_parent(bar).ok_or(ENODEV)?;
        let res = bindings::resource {
            name: c"vfio sub-page reserved".as_char_ptr(),
            start: start.wrapping_add(len),
            end: start.wrapping_add(PAGE_SIZE as u64 - 1),
            flags,
            ..pin_init::zeroed()
        };
        let res = KBox::new(Opaque::new(res), GFP_KERNEL)?;
        // SAFETY: A BAR's parent stays while a driver is bound, as `BoundPci` proves. The new
        // resource does not move, and is released before it is freed.
        to_result(unsafe { bindings::request_resource(parent.as_ptr(), res.get()) })?;
        // INVARIANT: Put there above.
        Ok(Self {
            _dev: dev.clone(),
            res,
        })
    }
}

impl Drop for PageRest {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; it is freed after that.
        unsafe { bindings::release_resource(self.res.get()) };
    }
}

/// A BAR that is reserved for the driver.
///
/// # Invariants
///
/// The `len` bytes from `start` on, of memory or of I/O ports as `is_memory` says, are reserved in
/// the tree of resources, for this alone.
pub struct BarRegion {
    dev: BoundPci,
    bar: u32,
    start: u64,
    len: u64,
    is_memory: bool,
}

impl BarRegion {
    /// Reserves a BAR. May sleep.
    ///
    /// `pci_request_region()` is not used, as it has a line in the log for each failure.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is no such BAR or it cannot be mapped, `EBUSY` if someone else has it.
    pub fn new(dev: &BoundPci, bar: u32) -> Result<Self> {
        let (start, len, flags) = dev.resource(bar).filter(|_| bar < 6).ok_or(ENODEV)?;
        if len == 0 || dev.bars_unmappable() {
            return Err(ENODEV);
        }
        let is_memory = flags & bindings::IORESOURCE_MEM as usize != 0;
        // SAFETY: The name lives forever; the call only takes notes.
        let is_ours = unsafe {
            bindings::vfio_rs_request_region(is_memory, start, len, c"vfio".as_char_ptr())
        };
        if !is_ours {
            if log::may_log(log::Subject::Failures) {
                let last = start.wrapping_add(len - 1);
                let file = if is_memory { "iomem" } else { "ioports" };
                dev_warn!(
                    dev.device(),
                    "BAR {bar}: can't reserve [{start:#x}-{last:#x}], /proc/{file} names who has it\n"
                );
            }
            return Err(EBUSY);
        }
        // INVARIANT: Reserved above, and nobody else gives it back.
        Ok(Self {
            dev: dev.clone(),
            bar,
            start,
            len,
            is_memory,
        })
    }

    /// Maps it into the kernel, uncached. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn map(&self) -> Result<BarIo> {
        // SAFETY: The device is alive (type invariant of `PciDevice`) and the BAR is there.
        let io = unsafe { bindings::pci_iomap(self.dev.as_ptr(), self.bar as c_int, 0) };
        let io = NonNull::new(io).ok_or(ENOMEM)?;
        // INVARIANT: Mapped above.
        Ok(BarIo {
            dev: self.dev.clone(),
            // SAFETY: Mapped above for the BAR's length, as long as the new `BarIo` lives.
            io: unsafe { IoMem::new(io, self.dev.bar_len(self.bar)) },
        })
    }
}

impl Drop for BarRegion {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, and this is the last use.
        unsafe { bindings::vfio_rs_release_region(self.is_memory, self.start, self.len) }
    }
}

/// A BAR that is mapped into the kernel. It can outlive the [`BarRegion`], which is bad manners
/// only; but not the binding.
///
/// # Invariants
///
/// `io` is a mapping that `pci_iomap()` made of a BAR of `dev`, and belongs to this alone.
pub struct BarIo {
    dev: BoundPci,
    io: IoMem,
}

impl Deref for BarIo {
    type Target = IoMem;

    fn deref(&self) -> &IoMem {
        &self.io
    }
}

impl Drop for BarIo {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; nobody can borrow `io` any more.
        unsafe { bindings::pci_iounmap(self.dev.as_ptr(), self.io.as_ptr()) }
    }
}
