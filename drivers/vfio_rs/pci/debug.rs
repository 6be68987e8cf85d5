// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/vfio`, as C VFIO with `VFIO_DEBUGFS` has it.
//!
//! | file                  | shows                                                        |
//! |-----------------------|--------------------------------------------------------------|
//! | `wc_downgraded`       | pages of write-combining maps that came out as something else |
//! | `BDF/pci/nointxmask`, | what these parameters were when the device was bound, `Y` or |
//! | `BDF/pci/disable_idle_d3` | `N`: they can be written at any time                     |
//!
//! Takes no lock.

use kernel::{
    prelude::*,
    seq_file::{
        seq_print,
        SeqFile, //
    },
    sync::Arc,
};
use vfio_kernel::{
    debugfs::{
        Folder,
        Show,
        ShowFile, //
    },
    memtype, //
};

use super::Device;

/// The folder, and what is not of one device, until dropped.
pub(super) struct DebugRoot {
    folder: Arc<Folder>,
    _wc_downgraded: ShowFile<WcDowngraded>,
}

/// The files of a device, until dropped.
pub(super) struct DebugDevice {
    _nointxmask: ShowFile<Flag>,
    _disable_idle_d3: ShowFile<Flag>,
}

impl DebugRoot {
    /// Makes it. Without debugfs there is none.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Self> {
        let folder = Folder::new(c"vfio")?;
        let wc_downgraded = Arc::new(WcDowngraded, GFP_KERNEL)?;
        Ok(Self {
            _wc_downgraded: ShowFile::new(&folder, c"wc_downgraded", READABLE, wc_downgraded),
            folder,
        })
    }

    /// Makes the files of a device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn add(&self, device: &Device) -> Result<DebugDevice> {
        let folder = Folder::within(&self.folder, device.pci().name())?;
        let folder = Folder::within(&folder, c"pci")?;
        let flag = |name, on| -> Result<_> {
            Ok(ShowFile::new(
                &folder,
                name,
                READABLE,
                Arc::new(Flag(on), GFP_KERNEL)?,
            ))
        };
        Ok(DebugDevice {
            _nointxmask: flag(c"nointxmask", device.params.nointxmask)?,
            _disable_idle_d3: flag(c"disable_idle_d3", device.params.disable_idle_d3)?,
        })
    }
}

/// As C VFIO's files.
const READABLE: u16 = 0o444;

struct WcDowngraded;

impl Show for WcDowngraded {
    type OwnerModule = crate::VfioRs;

    fn show(&self, out: &SeqFile) {
        seq_print!(out, "{}\n", memtype::wc_downgraded());
    }
}

struct Flag(bool);

impl Show for Flag {
    type OwnerModule = crate::VfioRs;

    fn show(&self, out: &SeqFile) {
        let text = match self.0 {
            true => "Y",
            false => "N",
        };
        seq_print!(out, "{text}\n");
    }
}
