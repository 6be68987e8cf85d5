// SPDX-License-Identifier: GPL-2.0

//! The ioctls of a group that another one joins or leaves; see `include/uapi/linux/vfio_rs.h`.

use kernel::{
    fs::{
        File,
        LocalFile, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
};
use vfio_kernel::{
    argsz::UserArg,
    iommu::Sharing,
    uapi, //
};

use super::group;
use crate::{
    iommu_group::Group,
    uapi::row, //
};

type MergeRequest = uapi::vfio_group_merge;

/// `group_fd` of who leaves by its own descriptor.
const OWN: i32 = -1;

/// The group's file behind `fd`.
///
/// # Errors
///
/// `EBADF` if there is none, `EBADFD` if it is no group's.
fn group_file(fd: i32) -> Result<(Arc<Group>, ARef<File>)> {
    let file = LocalFile::fget(fd.try_into().map_err(|_| EBADF)?)?;
    let file = group::FILE_OPS.shared(file).ok_or(EBADFD)?;
    let group = group::FILE_OPS.data_of(&file).ok_or(EBADFD)?;
    Ok((group.group().clone(), file))
}

/// `VFIO_GROUP_MERGE`.
///
/// # Errors
///
/// `EINVAL` for a malformed struct; `EBADF`, `EBADFD`, `EFAULT`; what [`Group::merge`] says.
pub(super) fn merge(leader: &Arc<Group>, arg: UserArg) -> Result {
    let request: MergeRequest = row::read_flags(arg, uapi::VFIO_GROUP_MERGE_SAME_DOMAIN)?;
    let sharing = match request.flags {
        0 => Sharing::Optional,
        _ => Sharing::Required,
    };
    let (other, file) = group_file(request.group_fd)?;
    leader.merge(&other, file, sharing)
}

/// `VFIO_GROUP_SPLIT`.
///
/// # Errors
///
/// `EINVAL` for a malformed struct; `EBADF`, `EBADFD`, `EFAULT`; what [`Group::split`] or
/// [`Group::leave`] say.
pub(super) fn split(group: &Group, arg: UserArg) -> Result {
    let request: MergeRequest = row::read_flags(arg, 0)?;
    if request.group_fd == OWN {
        return group.leave();
    }
    let (other, _file) = group_file(request.group_fd)?;
    group.split(&other)
}
