// SPDX-License-Identifier: GPL-2.0

//! `/dev/vfio/N`: the ioctls of a group.

use kernel::{
    fs::{
        File,
        LocalFile, //
    },
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
};
use vfio_kernel::{
    argsz::UserArg,
    chardev::Node,
    fops::{
        FileOps,
        FileOpsTable, //
    },
    iommufd::Ctx,
    uapi,
};

use super::{
    container,
    merge,
    msi_fd,
    viability, //
};
use crate::{
    iommu_group::{
        Asker,
        Group,
        GroupFile,
        Place, //
    },
    uapi::{
        group_nr as nr,
        row, //
    },
};

/// The operations of `/dev/vfio/N`.
pub(crate) static FILE_OPS: FileOpsTable<GroupFile, Node> = FileOpsTable::node();

/// How long a device's name may be, with the zero that ends it.
const MAX_NAME: usize = kernel::page::PAGE_SIZE;
/// Names shorter than this, which nearly all are, need no allocation.
const SMALL_NAME: usize = 64;

impl FileOps for GroupFile {
    type OwnerModule = crate::VfioRs;
    type Node = Arc<Group>;

    fn open(group: &Arc<Group>) -> Result<Arc<Self>> {
        GroupFile::open(group)
    }

    fn ioctl(this: ArcBorrow<'_, Self>, file: &File, cmd: u32, arg: UserArg) -> Result<isize> {
        let group = this.group();
        match cmd {
            nr::GET_STATUS => get_status(group, arg).map(|()| 0),
            nr::SET_CONTAINER => set_container(group, arg).map(|()| 0),
            nr::UNSET_CONTAINER => group.unset_container().map(|()| 0),
            nr::GET_DEVICE_FD => get_device_fd(group, file, arg),
            nr::MERGE => merge::merge(group, arg).map(|()| 0),
            nr::SPLIT => merge::split(group, arg).map(|()| 0),
            nr::GET_MSI_FD => msi_fd::open(group, file, arg),
            nr::GET_VIABILITY => viability::get(group, Asker::Other, arg, usize::MAX).map(|()| 0),
            _ => Err(ENOTTY),
        }
    }
}

/// `VFIO_GROUP_GET_STATUS`.
fn get_status(group: &Group, arg: UserArg) -> Result {
    let mut status: uapi::vfio_group_status = row::read(arg)?;
    let now = group.status()?;
    status.flags = 0;
    if now.viable {
        status.flags |= uapi::VFIO_GROUP_FLAGS_VIABLE;
    }
    if now.container_set {
        status.flags |= uapi::VFIO_GROUP_FLAGS_CONTAINER_SET;
    }
    if now.merged {
        status.flags |= uapi::VFIO_GROUP_FLAGS_MERGED;
    }
    arg.write_prefix(&status, size_of_val(&status))
}

/// `VFIO_GROUP_SET_CONTAINER`.
fn set_container(group: &Group, arg: UserArg) -> Result {
    let fd: i32 = arg.slice(0, size_of::<i32>()).reader().read()?;
    let file = LocalFile::fget(fd.try_into().map_err(|_| EBADF)?)?;
    group.set_container(|| {
        if let Some(container) = container::FILE_OPS.data_of(&file) {
            return Ok(Place::Container(container.into()));
        }
        // ERRNO: EBADFD for an open file of another kind, as vfio_group_ioctl_set_container().
        Ok(Place::Iommufd(Ctx::from_file(&file)?))
    })
}

/// `VFIO_GROUP_GET_DEVICE_FD`.
fn get_device_fd(group: &Arc<Group>, file: &File, arg: UserArg) -> Result<isize> {
    let mut small = [0; SMALL_NAME];
    let name = arg.slice(0, SMALL_NAME).reader();
    let name = name.strcpy_into_buf(&mut small)?;
    if name.to_bytes_with_nul().len() < SMALL_NAME {
        return open_device(group, file, name.to_bytes());
    }
    // It may go on: read again, all of it.
    let mut buf = KVec::from_elem(0, MAX_NAME, GFP_KERNEL)?;
    let name = arg.slice(0, MAX_NAME).reader().strcpy_into_buf(&mut buf)?;
    // ERRNO: EINVAL for a name of a page or more, as strndup_user(), which reads no further. It was
    // cut.
    let last = MAX_NAME.saturating_sub(1);
    if name.to_bytes().len() == last && arg.slice(last, 1).reader().read::<u8>()? != 0 {
        return Err(EINVAL);
    }
    open_device(group, file, name.to_bytes())
}

fn open_device(group: &Arc<Group>, file: &File, name: &[u8]) -> Result<isize> {
    let (device, counted) = group.find_device(name)?;
    device.open_through(counted, group.clone(), file.into())
}
