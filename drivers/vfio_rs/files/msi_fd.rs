// SPDX-License-Identifier: GPL-2.0

//! `VFIO_GROUP_GET_MSI_FD`: a file whose map shows a bank of MSI registers.
//!
//! It holds the group's file. When the group leaves its container the map is taken away.

use kernel::{
    fs::{
        file::{
            flags,
            FileDescriptorReservation, //
        },
        File,
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        ArcBorrow, //
    },
};
use vfio_kernel::{
    anon_file::{
        self,
        Anon, //
    },
    argsz::UserArg,
    fops::{
        FileOps,
        FileOpsTable, //
    },
    shared_page::{
        PageMap,
        ShowsPage, //
    },
    uapi,
};

use crate::{
    iommu_group::Group,
    uapi::row, //
};

type MsiFd = uapi::vfio_group_msi_fd;

/// The operations of such a file.
static FILE_OPS: FileOpsTable<BankFile, Anon> = FileOpsTable::page();

/// An open bank.
struct BankFile {
    map: Arc<PageMap>,
    _group_file: ARef<File>,
}

impl FileOps for BankFile {
    type OwnerModule = crate::VfioRs;
    type Node = ();

    fn ioctl(_this: ArcBorrow<'_, Self>, _file: &File, _cmd: u32, _arg: UserArg) -> Result<isize> {
        Err(ENOTTY)
    }
}

impl ShowsPage for BankFile {
    fn page_map(&self) -> &PageMap {
        &self.map
    }
}

/// The ioctl; returns the new descriptor.
///
/// # Errors
///
/// In this order: `EFAULT`, `EINVAL` (size of the struct, flags, no container or no backend),
/// `ENODEV` (no bank to map), `EINVAL` (no such bank), `EMFILE`, `ENOMEM`.
pub(super) fn open(group: &Group, group_file: &File, arg: UserArg) -> Result<isize> {
    let mut user: MsiFd = row::read(arg)?;
    let map = group.msi_bank(user.bank)?;
    let fd = FileDescriptorReservation::get_unused_fd_flags(flags::O_CLOEXEC)?;
    let data = BankFile {
        map,
        _group_file: group_file.into(),
    };
    let data = Arc::new(data, GFP_KERNEL)?;
    let file = anon_file::create(c"[vfio-msi]", &FILE_OPS, data, |data| data.map.mapping())?;
    // CAST: A page.
    user.size = PAGE_SIZE as u32;
    arg.write_prefix(&user, size_of::<MsiFd>())?;
    let number = fd.reserved_fd();
    fd.fd_install(file);
    Ok(number.try_into()?)
}
