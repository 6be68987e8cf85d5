// SPDX-License-Identifier: GPL-2.0

//! A device by its own node, `/dev/vfio/devices/vfioN`: bound to a context of iommufd, by whose
//! address spaces it does DMA.
//!
//! All that users pass is read, and the places for what they get are made writable, before anything
//! is done; so a bad pointer changes nothing, and nobody waits for user memory with a lock.
//!
//! Lock: `ThroughNode::bound`, which is the file's user's alone.
//!
//! Stands for drivers/vfio/device_cdev.c.

use ::core::mem::offset_of;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};
use vfio_kernel::{
    argsz::UserArg,
    iommufd::{
        self,
        Ctx,
        NO_PASID, //
    },
    mutex::lock_killable,
    uapi,
    user_out::UserOut,
};

use super::device::{
    DeviceFile,
    HasFile,
    Through, //
};
use crate::{
    core::{
        self,
        Claimed,
        VfioDevice,
        Via, //
    },
    iommu_group::{
        ByNode,
        GroupedDevice, //
    },
    uapi::row, //
};

/// What a file that is opened by the device's node keeps.
#[pin_data]
pub(super) struct ThroughNode<O: HasFile> {
    #[pin]
    bound: Mutex<Option<BoundFile<O>>>,
}

/// A device that is bound by its own node. Dropping this closes it, and lets others have it.
struct BoundFile<O: HasFile> {
    device: Arc<O::Device>,
    _claimed: Claimed,
    _by_node: ByNode,
}

impl<O: HasFile> ThroughNode<O> {
    /// Not bound yet.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            bound <- new_mutex!(None, "ThroughNode::bound"),
        })
    }
}

impl<O: HasFile> Drop for BoundFile<O> {
    fn drop(&mut self) {
        drop(O::close(&self.device));
    }
}

/// `VFIO_DEVICE_BIND_IOMMUFD`: from here on the user has the device.
///
/// # Errors
///
/// `ENOTTY` without iommufd; `EINVAL` for too small a struct, unknown flags, a file that comes
/// through a group or is bound, a device that another file is bound to; `E2BIG`; `EBUSY` if the
/// node of the device's group is open; `EPERM` if a driver of the kernel has a device of the group;
/// `EACCES` or `EINVAL` for a token of virtual functions that is missing or wrong; `EBADF`,
/// `EBADFD` for the context; what [`OpenDevice::open`](crate::core::OpenDevice::open) says;
/// `EFAULT`, `EINTR`, `ENOMEM`. Then nothing has changed.
pub(super) fn bind<O: HasFile>(file: &DeviceFile<O>, arg: UserArg) -> Result {
    type Bind = uapi::vfio_device_bind_iommufd;
    const MIN: usize = offset_of!(Bind, token_uuid_ptr);

    if !iommufd::PRESENT {
        return Err(ENOTTY);
    }
    let size: u32 = arg.read_min(size_of::<u32>())?;
    let size = size as usize;
    if size < MIN {
        return Err(EINVAL);
    }
    let bind: Bind = arg.read_sized(size)?;
    if bind.iommufd < 0 || bind.flags & !uapi::VFIO_DEVICE_BIND_FLAG_TOKEN != 0 {
        return Err(EINVAL);
    }
    let Through::Node(node) = &file.held else {
        return Err(EINVAL);
    };
    let id = UserOut::hold(arg.at(offset_of!(Bind, out_devid)))?;
    let token = match bind.flags & uapi::VFIO_DEVICE_BIND_FLAG_TOKEN {
        0 => None,
        _ => Some(UserArg::new(bind.token_uuid_ptr.try_into()?).read_min(size_of::<[u8; 16]>())?),
    };

    let device = &file.device;
    let by_node = device.group().by_node()?;
    let mut bound = lock_killable(&node.bound)?;
    if bound.is_some() {
        return Err(EINVAL);
    }
    device.admits(token)?;
    let via = Via::Iommufd(Ctx::from_fd(bind.iommufd)?, core::Way::Node);
    let claimed = device.users().claim()?;
    // Dropped without a lock of others if it is not needed, as it may be the end of the machine.
    let mut machine = file.kvm.get();
    let open = O::open(device, &via, &mut machine)
        .inspect_err(|err| device.group().log_refusal("refused to iommufd", *err))?;
    let access = open.access().iommufd();
    id.write(&access.map_or(0, |iommufd| iommufd.id()));
    *bound = Some(BoundFile {
        device: device.clone(),
        _claimed: claimed,
        _by_node: by_node,
    });
    file.open.populate(open);
    Ok(())
}

/// `VFIO_DEVICE_ATTACH_IOMMUFD_PT`: lets the device see an address space of its context, instead of
/// the one before.
///
/// # Errors
///
/// `ENOTTY` for a file that comes through a group; `EINVAL` for too small a struct or unknown
/// flags; `EFAULT`; what [`Iommufd::attach`](crate::core::Iommufd::attach) says. Then nothing has
/// changed.
pub(super) fn attach<O: HasFile>(file: &DeviceFile<O>, arg: UserArg) -> Result {
    type Attach = uapi::vfio_device_attach_iommufd_pt;

    let iommufd = of_node(file)?;
    let attach: Attach = row::read(arg)?;
    let pasid = match attach.flags & uapi::VFIO_DEVICE_ATTACH_PASID {
        0 => NO_PASID,
        _ => pasid(arg, attach.argsz, offset_of!(Attach, pasid))?,
    };
    let out = UserOut::hold(arg.at(offset_of!(Attach, pt_id)))?;
    out.write(&iommufd.attach(pasid, attach.pt_id)?);
    Ok(())
}

/// `VFIO_DEVICE_DETACH_IOMMUFD_PT`: the device sees nothing any more; success also where it saw
/// nothing.
///
/// # Errors
///
/// `ENOTTY` for a file that comes through a group; `EINVAL` for too small a struct or unknown
/// flags; `EFAULT`, `EINTR`.
pub(super) fn detach<O: HasFile>(file: &DeviceFile<O>, arg: UserArg) -> Result {
    type Detach = uapi::vfio_device_detach_iommufd_pt;

    let iommufd = of_node(file)?;
    let detach: Detach = row::read(arg)?;
    let pasid = match detach.flags & uapi::VFIO_DEVICE_DETACH_PASID {
        0 => NO_PASID,
        _ => pasid(arg, detach.argsz, offset_of!(Detach, pasid))?,
    };
    iommufd.detach(pasid)
}

/// What the device of a file is bound to that was opened by the device's node.
fn of_node<O: HasFile>(file: &DeviceFile<O>) -> Result<&core::Iommufd> {
    match &file.held {
        Through::Node(_) => Ok(file.open()?.access().iommufd().ok_or(ENOTTY)?),
        Through::Group { .. } => Err(ENOTTY),
    }
}

/// The PASID of a struct that has it at its end, `at` bytes into it.
fn pasid(arg: UserArg, argsz: u32, at: usize) -> Result<u32> {
    if (argsz as usize) < at.saturating_add(size_of::<u32>()) {
        return Err(EINVAL);
    }
    arg.at(at).read_min(size_of::<u32>())
}
