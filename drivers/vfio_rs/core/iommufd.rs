// SPDX-License-Identifier: GPL-2.0

//! A device that does DMA by address spaces of iommufd.
//!
//! Lock: `Iommufd::device`, which is the device's user's alone: held while a map of theirs may wait
//! for user memory, so whatever else happens to the device, its set or its group does without it.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
};
use vfio_kernel::{
    iommufd::{
        BoundDevice,
        Ctx,
        IommufdDevice,
        NO_PASID, //
    },
    mutex::lock_killable, //
};

/// See the module's documentation.
#[pin_data]
pub(crate) struct Iommufd {
    ctx: Ctx,
    id: u32,
    way: Way,
    /// A driver of the kernel has a device of the group: nothing is attached any more.
    cut_off: Atomic<bool>,
    /// Until it is unbound.
    #[pin]
    device: Mutex<Option<IommufdDevice>>,
}

/// How its user came to a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By its own node: its user attaches what it sees.
    Node,
    /// Through a group, which has the context in place of a container: it sees what ioctls of
    /// containers map.
    Group,
}

impl Iommufd {
    /// Binds a device to `ctx`; see [`IommufdDevice::bind`].
    pub(crate) fn bind(ctx: &Ctx, bound: impl BoundDevice, way: Way) -> Result<Arc<Self>> {
        let device = IommufdDevice::bind(ctx, bound)?;
        Arc::pin_init(
            pin_init!(Self {
                ctx: ctx.clone(),
                id: device.id(),
                way,
                cut_off: Atomic::new(false),
                device <- new_mutex!(Some(device), "Iommufd::device"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The context.
    pub(crate) fn ctx(&self) -> &Ctx {
        &self.ctx
    }

    /// Whether its user came to the device by its own node.
    pub(crate) fn by_node(&self) -> bool {
        self.way == Way::Node
    }

    /// By which number the context knows the device.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Lets DMA with `pasid` see the address space `pt`; see [`IommufdDevice::attach`].
    ///
    /// # Errors
    ///
    /// `EPERM` if the device was cut off; `EINTR` if the task is being killed, `ENODEV` if the
    /// device was unbound meanwhile.
    pub(crate) fn attach(&self, pasid: u32, pt: u32) -> Result<u32> {
        self.with_device(|device| device.attach(pasid, pt))
    }

    /// Lets a device whose user came through a group see what ioctls of containers map, if it does
    /// not yet.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the context has no such address space; as [`attach`](Self::attach).
    pub(crate) fn attach_compat(&self) -> Result {
        if self.by_node() {
            return Ok(());
        }
        self.with_device(|device| match device.is_attached(NO_PASID) {
            true => Ok(()),
            false => device.attach(NO_PASID, self.ctx.compat_ioas()?).map(|_| ()),
        })
    }

    /// Runs `attach`, if the device was not cut off, and nothing stays attached if it is meanwhile.
    fn with_device<T>(&self, attach: impl FnOnce(&mut IommufdDevice) -> Result<T>) -> Result<T> {
        let mut device = lock_killable(&self.device)?;
        let Some(device) = &mut *device else {
            return Err(ENODEV);
        };
        if self.cut_off.load(Relaxed) {
            return Err(EPERM);
        }
        let attached = attach(device)?;
        if self.cut_off.load(Relaxed) {
            device.detach_all();
            return Err(EPERM);
        }
        Ok(attached)
    }

    /// From here on nothing is attached; what is has to be [detached](Self::detach_all). Any
    /// context.
    pub(crate) fn cut_off(&self) {
        self.cut_off.store(true, Relaxed);
    }

    /// DMA sees nothing any more.
    pub(crate) fn detach_all(&self) {
        if let Some(device) = &mut *self.device.lock() {
            device.detach_all();
        }
    }

    /// DMA with `pasid` sees nothing any more.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task is being killed.
    pub(crate) fn detach(&self, pasid: u32) -> Result {
        if let Some(device) = &mut *lock_killable(&self.device)? {
            device.detach(pasid);
        }
        Ok(())
    }

    /// Takes the device from the context.
    pub(crate) fn unbind(&self) {
        let device = self.device.lock().take();
        drop(device);
    }
}
