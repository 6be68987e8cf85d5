// SPDX-License-Identifier: GPL-2.0

//! The ioctls of a device that reset it together with others. Stands for
//! vfio_pci_ioctl_get_pci_hot_reset_info() and vfio_pci_ioctl_pci_hot_reset().

use kernel::{
    fs::LocalFile,
    prelude::*, //
};
use vfio_kernel::{
    argsz::UserArg,
    uapi, //
};
use zerocopy::IntoBytes;

use crate::{
    files::group,
    pci::{
        Dependent,
        DevId,
        Open,
        ResetOwner, //
    },
    uapi::row::{
        self,
        Row as _, //
    },
};

/// `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`.
///
/// # Errors
///
/// `EINVAL` for too small a struct; `ENODEV` if there is no such reset; `ENOSPC` if there are more
/// devices than the user has room for, who then learns how many; `EPERM` if one of them has no
/// group; `EAGAIN` if devices came while they were counted; `EFAULT`, `ENOMEM`.
pub(super) fn get_info(open: &Open, arg: UserArg) -> Result {
    type Info = uapi::vfio_pci_hot_reset_info_header;
    type Row = uapi::vfio_pci_dependent_device_in_group;
    const IDS: u32 = uapi::VFIO_PCI_HOT_RESET_FLAG_DEV_ID;
    const ALL_OWNED: u32 = uapi::VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;

    let user: Info = row::read(arg)?;
    let room = row::room(&user);
    let scope = open.reset_scope()?;
    let count = open.count_reset_with(scope)?;
    let mut info = Info {
        argsz: user.argsz,
        flags: 0,
        count: count.try_into()?,
    };
    if count.saturating_mul(size_of::<Row>()) > room {
        arg.write_prefix(&info, Info::MIN)?;
        return Err(ENOSPC);
    }
    let mut devices = KVec::with_capacity(count, GFP_KERNEL)?;
    if open.by_node().is_some() {
        info.flags = IDS | ALL_OWNED;
    }
    open.for_each_reset_with(scope, |address, who| {
        let who = match who {
            Dependent::Group(group) => group.try_into()?,
            Dependent::Id(DevId::Bound(id)) => id,
            Dependent::Id(DevId::Owned) => uapi::VFIO_PCI_DEVID_OWNED,
            Dependent::Id(DevId::NotOwned) => {
                info.flags &= !ALL_OWNED;
                // CAST: -1, as all bits of the field.
                uapi::VFIO_PCI_DEVID_NOT_OWNED as u32
            }
        };
        let dependent = Row {
            group_id: who,
            segment: address.segment,
            bus: address.bus,
            devfn: address.devfn,
        };
        // ERRNO: EAGAIN if devices were added since they were counted, as vfio_pci_fill_devs().
        devices.push_within_capacity(dependent).map_err(|_| EAGAIN)
    })?;
    let bytes = devices.as_slice().as_bytes();
    arg.slice(Info::MIN, bytes.len())
        .writer()
        .write_slice(bytes)?;
    info.count = devices.len().try_into()?;
    arg.write_prefix(&info, Info::MIN)
}

/// `VFIO_DEVICE_PCI_HOT_RESET`: all devices that are reset must be in groups that the user shows to
/// have open; or, if the user came by the device's own node, belong to the same context.
///
/// # Errors
///
/// `EINVAL` for a malformed struct, without a group where one is wanted or the other way round,
/// with more groups than devices, for a file that is no group; `ENODEV` if there is no such reset;
/// `EBADF`, `EFAULT`, `ENOMEM`; what [`Open::hot_reset`] says.
pub(super) fn hot_reset(open: &Open, arg: UserArg) -> Result {
    type Header = uapi::vfio_pci_hot_reset_header;

    let header: Header = row::read(arg)?;
    // Who came by the device's own node shows no groups: their context says what they have.
    let by_node = open.by_node();
    if (header.count == 0) != by_node.is_some() {
        return Err(EINVAL);
    }
    let scope = open.reset_scope()?;
    if let Some(iommufd) = by_node {
        return open.hot_reset(ResetOwner::Iommufd(iommufd));
    }
    let count = header.count as usize;
    // There is one group for each device at most, which bounds what is copied.
    if count > open.count_reset_with(scope)? {
        return Err(EINVAL);
    }
    let mut fds = KVec::from_elem(0i32, count, GFP_KERNEL)?;
    arg.slice(Header::MIN, size_of_val(fds.as_slice()))
        .reader()
        .read_slice(fds.as_mut_slice().as_mut_bytes())?;

    // The files keep the groups with their user until the reset is over.
    let mut files = KVec::with_capacity(count, GFP_KERNEL)?;
    let mut groups = KVec::with_capacity(count, GFP_KERNEL)?;
    for fd in fds {
        let file = LocalFile::fget(fd.try_into().map_err(|_| EBADF)?)?;
        let file = group::FILE_OPS.shared(file).ok_or(EINVAL)?;
        let group = group::FILE_OPS.data_of(&file).ok_or(EINVAL)?;
        group.group().owned(&mut groups, &mut files)?;
        files.push(file, GFP_KERNEL)?;
    }
    open.hot_reset(ResetOwner::Groups(&groups))
}
