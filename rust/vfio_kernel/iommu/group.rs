// SPDX-License-Identifier: GPL-2.0

//! IOMMU groups and DMA ownership, `drivers/iommu/iommu.c`.

use core::ptr::NonNull;
use kernel::{
    bindings,
    device,
    error::to_result,
    prelude::*,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        Arc,
        UniqueArc, //
    },
    types::Opaque, //
};

use vfio_bindings as ours;

/// The smallest set of devices that the IOMMU can isolate, `struct iommu_group`.
///
/// # Invariants
///
/// A reference to this is one to a `struct iommu_group` whose count is not zero while it lives.
#[repr(transparent)]
pub struct IommuGroup(Opaque<bindings::iommu_group>);

// SAFETY: The C object is reference-counted and locks itself.
unsafe impl Send for IommuGroup {}
// SAFETY: As above.
unsafe impl Sync for IommuGroup {}

// SAFETY: The count is that of the group's kobject, raised and lowered by the two calls; the group
// is there while it is not zero.
unsafe impl AlwaysRefCounted for IommuGroup {
    fn inc_ref(&self) {
        // SAFETY: By the type invariant the group is alive.
        unsafe { bindings::iommu_group_ref_get(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller owns a reference.
        unsafe { bindings::iommu_group_put(obj.cast().as_ptr()) };
    }
}

/// What a range of I/O virtual addresses is reserved for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ResvKind {
    /// Mapped one to one, but may be given up for assigned devices.
    DirectRelaxable,
    /// Mapped one to one, at all times.
    Direct,
    /// The interrupt doorbell, which the IOMMU does not translate.
    Msi,
    /// A window for doorbells, which the kernel maps.
    SwMsi,
    /// Anything else that no user may map.
    Other,
}

/// A range of I/O virtual addresses that has a meaning of its own.
#[derive(Clone, Copy)]
pub struct ResvRegion {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// What for.
    pub kind: ResvKind,
}

impl IommuGroup {
    /// The group of a device, if it is behind an IOMMU.
    pub fn of(dev: &device::Device) -> Option<ARef<Self>> {
        // SAFETY: A device is alive while there is a reference to it.
        let group =
            unsafe { bindings::iommu_group_get(core::ptr::from_ref(dev).cast_mut().cast()) };
        // SAFETY: The call above returned a reference, which is now ours, or null.
        // INVARIANT: It is counted.
        NonNull::new(group.cast::<Self>()).map(|group| unsafe { ARef::from_raw(group) })
    }

    pub(crate) fn as_ptr(&self) -> *mut bindings::iommu_group {
        self.0.get()
    }

    /// The number users know the group by.
    pub fn id(&self) -> i32 {
        // SAFETY: By the type invariant the group is alive.
        unsafe { bindings::iommu_group_id(self.as_ptr()) }
    }

    /// Whether a kernel driver or a user already does DMA with a device of the group. Takes the
    /// group's mutex.
    pub fn dma_owner_claimed(&self) -> bool {
        // SAFETY: By the type invariant the group is alive.
        unsafe { bindings::iommu_group_dma_owner_claimed(self.as_ptr()) }
    }

    /// Whether no device of the group can raise an interrupt that is not its own.
    pub fn has_isolated_msi(&self) -> bool {
        // SAFETY: By the type invariant the group is alive.
        unsafe { bindings::iommu_group_has_isolated_msi(self.as_ptr()) }
    }

    /// The reserved ranges of all devices of the group. May sleep.
    pub fn resv_regions(&self) -> Result<KVec<ResvRegion>> {
        // SAFETY: By the type invariant the group is alive; `head` is an empty list; the regions
        // were allocated with kmalloc().
        unsafe {
            resv_list(
                |head| to_result(bindings::iommu_get_group_resv_regions(self.as_ptr(), head)),
                |head| free_regions(head),
            )
        }
    }

    /// A device that stands for the group in calls that want one.
    pub(super) fn with_any_device<R, F>(&self, f: F) -> Option<R>
    where
        F: FnOnce(*mut bindings::device) -> R,
    {
        let mut state = (Some(f), None::<R>);
        // SAFETY: By the type invariant the group is alive; `visit` gets `state` back, which
        // outlives the call.
        unsafe {
            bindings::iommu_group_for_each_dev(
                self.as_ptr(),
                core::ptr::from_mut(&mut state).cast(),
                Some(visit::<R, F>),
            )
        };
        state.1
    }
}

/// The reserved ranges of a device; none if it has no IOMMU.
///
/// # Safety
///
/// The device must be alive and its IOMMU stay, as it does with the mutex of its group held.
pub(super) unsafe fn device_resv_regions(dev: *mut bindings::device) -> Result<KVec<ResvRegion>> {
    // SAFETY: By the contract of this function; `head` is an empty list, and what is in it then
    // goes back where it came from.
    unsafe {
        resv_list(
            |head| {
                if ours::vfio_rs_dev_has_iommu(dev) {
                    bindings::iommu_get_resv_regions(dev, head);
                }
                Ok(())
            },
            |head| bindings::iommu_put_resv_regions(dev, head),
        )
    }
}

/// What `fill` puts into an empty list of `struct iommu_resv_region`; `free` frees it.
///
/// # Safety
///
/// `fill` must leave a list of regions, linked by their first field, whatever it returns.
unsafe fn resv_list(
    fill: impl FnOnce(*mut bindings::list_head) -> Result,
    free: impl FnOnce(*mut bindings::list_head),
) -> Result<KVec<ResvRegion>> {
    let mut head = bindings::list_head::default();
    let head = &raw mut head;
    // SAFETY: `head` is a fresh list head.
    unsafe {
        (*head).next = head;
        (*head).prev = head;
    }
    let mut copied = fill(head);
    let mut regions = KVec::new();
    if copied.is_ok() {
        // Two on most PCs.
        copied = regions.reserve(4, GFP_KERNEL).map_err(Error::from);
    }
    // SAFETY: By the contract of this function.
    unsafe {
        let mut at = (*head).next;
        while copied.is_ok() && !core::ptr::eq(at, head) {
            let region = ResvRegion::copied(at.cast());
            copied = regions.push(region, GFP_KERNEL).map_err(Error::from);
            at = (*at).next;
        }
    }
    free(head);
    copied.map(|()| regions)
}

/// Frees the regions of a list.
///
/// # Safety
///
/// They must be allocated with `kmalloc()`, linked by their first field, and nobody else's.
unsafe fn free_regions(head: *mut bindings::list_head) {
    // SAFETY: By the contract of this function; each link is read before it is freed.
    unsafe {
        let mut at = (*head).next;
        while !core::ptr::eq(at, head) {
            let next = (*at).next;
            bindings::kfree(at.cast());
            at = next;
        }
    }
}

/// Hands the first device to the closure.
///
/// # Safety
///
/// Called by `iommu_group_for_each_dev()`, with the state that [`IommuGroup::with_any_device`]
/// passed.
unsafe extern "C" fn visit<R, F: FnOnce(*mut bindings::device) -> R>(
    dev: *mut bindings::device,
    state: *mut c_void,
) -> c_int {
    // SAFETY: `with_any_device` passes its own state.
    let (f, result) = unsafe { &mut *state.cast::<(Option<F>, Option<R>)>() };
    *result = f.take().map(|f| f(dev));
    // One is enough.
    1
}

impl ResvRegion {
    /// What C says.
    ///
    /// # Safety
    ///
    /// `region` must be valid for reads, and nobody may write to it.
    unsafe fn copied(region: *const bindings::iommu_resv_region) -> Self {
        // SAFETY: By the contract of this function.
        let (start, len, kind) = unsafe { ((*region).start, (*region).length, (*region).type_) };
        Self {
            start,
            len: len as u64,
            kind: match kind {
                bindings::iommu_resv_type_IOMMU_RESV_DIRECT_RELAXABLE => ResvKind::DirectRelaxable,
                bindings::iommu_resv_type_IOMMU_RESV_DIRECT => ResvKind::Direct,
                bindings::iommu_resv_type_IOMMU_RESV_MSI => ResvKind::Msi,
                bindings::iommu_resv_type_IOMMU_RESV_SW_MSI => ResvKind::SwMsi,
                _ => ResvKind::Other,
            },
        }
    }
}

/// The right to let a user do DMA with the devices of a group.
///
/// While it exists no driver that does DMA for the kernel can be bound to any of them, and until a
/// domain is attached they reach no memory at all.
///
/// # Invariants
///
/// The group is owned by the address of `_cookie`, which is this one's.
pub struct DmaOwner {
    group: ARef<IommuGroup>,
    /// Its address is the owner's name for the IOMMU core.
    _cookie: KBox<u8>,
}

impl DmaOwner {
    /// Claims `group`.
    ///
    /// # Errors
    ///
    /// `EPERM` if a driver or another owner uses a device of the group, `EBUSY` while one is being
    /// reset, `EINVAL` if one has memory that must stay mapped one to one. May sleep.
    pub fn claim(group: &ARef<IommuGroup>) -> Result<Arc<Self>> {
        let owner = UniqueArc::new_uninit(GFP_KERNEL)?;
        let cookie = KBox::new(0u8, GFP_KERNEL)?;
        // SAFETY: By its type invariant the group is alive; the cookie is never read, only compared
        // by its address.
        to_result(unsafe {
            bindings::iommu_group_claim_dma_owner(
                group.as_ptr(),
                core::ptr::from_ref(&*cookie).cast_mut().cast(),
            )
        })?;
        // INVARIANT: Claimed above.
        Ok(owner
            .write(Self {
                group: group.clone(),
                _cookie: cookie,
            })
            .into())
    }

    /// The group that is owned.
    pub fn group(&self) -> &ARef<IommuGroup> {
        &self.group
    }
}

impl Drop for DmaOwner {
    fn drop(&mut self) {
        // SAFETY: Claimed for this (type invariant); attachments hold a reference to `self`, so
        // there are none.
        unsafe { bindings::iommu_group_release_dma_owner(self.group.as_ptr()) }
    }
}
