// SPDX-License-Identifier: GPL-2.0

//! What a group knows of its devices.

use kernel::{
    fs::File,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
};

use super::Group;
use crate::core::{
    Counted,
    Device, //
};

/// A device that users have by its group.
pub(crate) trait GroupedDevice: Device {
    /// Its group.
    fn group(&self) -> &Arc<Group>;

    /// `VFIO_GROUP_GET_DEVICE_FD`: opens it through `group`, which is its own or one that this has
    /// joined, and of which `group_file` is the open file. Returns the new descriptor.
    ///
    /// # Errors
    ///
    /// Those of [`Group::open_device`]; `EMFILE`, `ENOMEM`; what the device says.
    fn open_through(
        self: Arc<Self>,
        counted: Counted,
        group: Arc<Group>,
        group_file: ARef<File>,
    ) -> Result<isize>;
}
