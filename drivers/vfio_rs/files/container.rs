// SPDX-License-Identifier: GPL-2.0

//! `/dev/vfio/vfio`: the ioctls of a container.
//!
//! The first three are answered here; the rest is up to the backend that `SET_IOMMU` chose.

use kernel::{
    fs::File,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
};
use vfio_kernel::{
    argsz::UserArg,
    chardev::Misc,
    fops::{
        FileOps,
        FileOpsTable, //
    },
    owed,
};

use super::pci;
use crate::{
    core::Container,
    uapi::container_nr as nr, //
};

/// The operations of `/dev/vfio/vfio`.
pub(crate) static FILE_OPS: FileOpsTable<Container, Misc> = FileOpsTable::misc();

/// `VFIO_API_VERSION`.
const API_VERSION: isize = 0;

impl FileOps for Container {
    type OwnerModule = crate::VfioRs;
    type Node = ();

    fn open(_node: &()) -> Result<Arc<Self>> {
        Container::new(pci::area_at)
    }

    fn ioctl(this: ArcBorrow<'_, Self>, _file: &File, cmd: u32, arg: UserArg) -> Result<isize> {
        match cmd {
            nr::GET_API_VERSION => Ok(API_VERSION),
            nr::CHECK_EXTENSION => Ok(this.check_extension(arg.value()).into()),
            nr::SET_IOMMU => this.set_iommu(arg.value()).map(|()| 0),
            // ERRNO: EINVAL for all others until SET_IOMMU, as vfio_fops_unl_ioctl().
            _ => {
                let result = this.backend().ok_or(EINVAL)?.ioctl(cmd, arg);
                owed::settle();
                result
            }
        }
    }
}
