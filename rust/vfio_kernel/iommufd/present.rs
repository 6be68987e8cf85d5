// SPDX-License-Identifier: GPL-2.0

//! A kernel with iommufd.

use core::ptr::NonNull;
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    fs::LocalFile,
    prelude::*,
    rbtree::RBTree, //
};
use vfio_bindings as bindings;

use super::BoundDevice;
use crate::iommu::IommuGroup;

/// A user's I/O address spaces: a reference to an open `/dev/iommu`.
///
/// # Invariants
///
/// The pointer is a context of which `self` owns a reference.
pub struct Ctx(NonNull<bindings::iommufd_ctx>);

// SAFETY: All functions of a context may be called from any thread.
unsafe impl Send for Ctx {}
// SAFETY: As above.
unsafe impl Sync for Ctx {}

impl Clone for Ctx {
    fn clone(&self) -> Self {
        // SAFETY: By the type's invariant.
        unsafe { bindings::iommufd_ctx_get(self.as_ptr()) };
        // INVARIANT: The reference was taken just now.
        Self(self.0)
    }
}

impl Drop for Ctx {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant.
        unsafe { bindings::iommufd_ctx_put(self.as_ptr()) }
    }
}

impl Ctx {
    fn as_ptr(&self) -> *mut bindings::iommufd_ctx {
        self.0.as_ptr()
    }

    fn new(ctx: *mut bindings::iommufd_ctx) -> Result<Self> {
        let ctx = from_err_ptr(ctx)?;
        // INVARIANT: Callers pass what a function returned that took a reference.
        Ok(Self(NonNull::new(ctx).ok_or(EBADFD)?))
    }

    /// That of a descriptor of the current process.
    ///
    /// # Errors
    ///
    /// `EBADF` if there is no such descriptor, `EBADFD` if it is another file.
    pub fn from_fd(fd: i32) -> Result<Self> {
        // SAFETY: Any number may be asked for.
        Self::new(unsafe { bindings::iommufd_ctx_from_fd(fd) })
    }

    /// That of a file.
    ///
    /// # Errors
    ///
    /// `EBADFD` if it is another one.
    pub fn from_file(file: &LocalFile) -> Result<Self> {
        // SAFETY: The file is open, as the reference proves.
        Self::new(unsafe { bindings::iommufd_ctx_from_file(file.as_ptr().cast()) })
    }

    /// Whether both are the same.
    pub fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// Whether a device of `group` is bound to it. Takes a spinlock of the context.
    pub fn has_group(&self, group: &IommuGroup) -> bool {
        // SAFETY: By the type's invariant; the group is alive.
        unsafe { bindings::iommufd_ctx_has_group(self.as_ptr(), group.as_ptr().cast()) }
    }

    /// Makes sure that there is the I/O address space which ioctls of containers mean,
    /// `IOMMU_VFIO_IOAS`. May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` after [`set_no_iommu`](Self::set_no_iommu), `ENOMEM`.
    pub fn create_compat_ioas(&self) -> Result {
        // SAFETY: By the type's invariant.
        to_result(unsafe { bindings::iommufd_vfio_compat_ioas_create(self.as_ptr()) })
    }

    /// The number of that address space.
    ///
    /// # Errors
    ///
    /// `ENODEV` if there is none.
    pub fn compat_ioas(&self) -> Result<u32> {
        let mut id = 0;
        // SAFETY: By the type's invariant; `id` may be written.
        to_result(unsafe { bindings::iommufd_vfio_compat_ioas_get_id(self.as_ptr(), &mut id) })?;
        Ok(id)
    }

    /// From here on it serves devices without an IOMMU.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is an address space for [`create_compat_ioas`](Self::create_compat_ioas).
    pub fn set_no_iommu(&self) -> Result {
        // SAFETY: By the type's invariant.
        to_result(unsafe { bindings::iommufd_vfio_compat_set_no_iommu(self.as_ptr()) })
    }
}

/// A device that is bound to a context, until dropped. It owns the DMA of its group: no driver of
/// the kernel gets a device of it.
///
/// # Invariants
///
/// `idev` is what `iommufd_device_bind()` returned for `_bound`, and not unbound. Of the PASIDs
/// that are attached, [`NO_PASID`](super::NO_PASID) for DMA without one, each is in `attached`, and
/// no other is there.
pub struct IommufdDevice {
    idev: NonNull<bindings::iommufd_device>,
    id: u32,
    attached: RBTree<u32, ()>,
    _ctx: Ctx,
    /// Iommufd looks at it until it is unbound.
    _bound: KBox<dyn BoundDevice>,
}

// SAFETY: Functions of a bound device may be called from any thread.
unsafe impl Send for IommufdDevice {}

impl IommufdDevice {
    /// Binds a device to a context. It can do no DMA until it is attached.
    ///
    /// # Errors
    ///
    /// `EPERM` if a driver of the kernel or another context has a device of its group, or others
    /// could not be kept from its interrupts; `EBUSY` if the kernel itself uses it; `EINVAL` if its
    /// DMA cannot be coherent with the CPU's caches; `ENOMEM`. May sleep, and waits for no user.
    pub fn bind(ctx: &Ctx, bound: impl BoundDevice) -> Result<Self> {
        let mut id = 0;
        let bound: KBox<dyn BoundDevice> = KBox::new(bound, GFP_KERNEL_ACCOUNT)?;
        let raw = core::ptr::from_ref(bound.device()).cast_mut().cast();
        // SAFETY: The context is alive, by its invariant; the device is, and has its driver, until
        // `bound` is dropped, which outlives the binding; `id` may be written.
        let idev = unsafe { bindings::iommufd_device_bind(ctx.as_ptr(), raw, &mut id) };
        let idev = NonNull::new(from_err_ptr(idev)?).ok_or(ENODEV)?;
        // INVARIANT: Bound just now, and nothing is attached.
        Ok(Self {
            idev,
            id,
            attached: RBTree::new(),
            _ctx: ctx.clone(),
            _bound: bound,
        })
    }

    /// The number by which ioctls of the context know the device.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether DMA with `pasid` sees an address space.
    pub fn is_attached(&self, pasid: u32) -> bool {
        self.attached.get(&pasid).is_some()
    }

    /// Lets DMA with `pasid` see the address space `pt`, an IOAS or a HWPT, instead of another one
    /// if it sees one. Returns the number of what it sees then, a HWPT maybe that was made for it.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is no such thing, `EINVAL` if it is no address space or one that the
    /// device cannot have; `ENOSPC` or `EINVAL` for a PASID that cannot be; `EBUSY` while the
    /// device is being reset; `EADDRINUSE` if something is mapped where the device has reserved
    /// regions; `ENOMEM`. Then nothing has changed. Waits for whoever maps something in the
    /// context, and for that one's memory.
    pub fn attach(&mut self, pasid: u32, pt: u32) -> Result<u32> {
        let mut pt = pt;
        if self.is_attached(pasid) {
            // SAFETY: By the type's invariant; `pt` may be written.
            to_result(unsafe {
                bindings::iommufd_device_replace(self.idev.as_ptr(), pasid, &mut pt)
            })?;
            return Ok(pt);
        }
        // ERRNO: ENOSPC, as vfio_iommufd_physical_pasid_attach_ioas().
        if i32::try_from(pasid).is_err() {
            return Err(ENOSPC);
        }
        self.attached
            .try_create_and_insert(pasid, (), GFP_KERNEL_ACCOUNT)?;
        // SAFETY: As above.
        let attached = to_result(unsafe {
            bindings::iommufd_device_attach(self.idev.as_ptr(), pasid, &mut pt)
        });
        if let Err(err) = attached {
            self.attached.remove(&pasid);
            return Err(err);
        }
        // INVARIANT: Attached, and in `attached`.
        Ok(pt)
    }

    /// DMA with `pasid` sees nothing any more. Waits as [`attach`](Self::attach) does.
    pub fn detach(&mut self, pasid: u32) {
        if self.attached.remove(&pasid).is_some() {
            // INVARIANT: Neither attached any more nor in `attached`.
            // SAFETY: By the type's invariant the PASID was attached.
            unsafe { bindings::iommufd_device_detach(self.idev.as_ptr(), pasid) }
        }
    }

    /// The device can do no DMA any more. Waits as [`attach`](Self::attach) does.
    pub fn detach_all(&mut self) {
        // Those with a PASID first, as C does.
        while let Some(last) = self.attached.cursor_back() {
            let pasid = *last.current().0;
            self.detach(pasid);
        }
    }
}

impl Drop for IommufdDevice {
    fn drop(&mut self) {
        self.detach_all();
        // SAFETY: By the type's invariant; nothing is attached.
        unsafe { bindings::iommufd_device_unbind(self.idev.as_ptr()) }
    }
}
