// SPDX-License-Identifier: GPL-2.0

//! Files without a name, `include/linux/anon_inodes.h`.

use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    fs::File,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
};
use vfio_bindings as bindings;

use crate::{
    fops::{
        AnonWay,
        FileOps,
        FileOpsTable, //
    },
    mapping::Mapping,
};

/// The way of files that [`create`] opens.
pub struct Anon(());

// SAFETY: Whoever makes such a table says so.
unsafe impl AnonWay for Anon {}

/// Opens a new file, readable and writable at any offset, whose maps belong to `mapping`.
///
/// Closing the file drops `data`, which must keep `mapping` alive: `mapping_of` picks it from
/// there. May sleep.
pub fn create<T: FileOps, K: AnonWay>(
    name: &'static CStr,
    fops: &'static FileOpsTable<T, K>,
    data: Arc<T>,
    mapping_of: fn(&T) -> &Mapping,
) -> Result<ARef<File>> {
    let mapping = mapping_of(&data).as_ptr();
    let data = Arc::into_raw(data).cast_mut();
    // SAFETY: The table serves files that hold an `Arc<T>`, `open` is for other files, and nothing
    // else is put there; the data, and so the address space, lives until the file is released.
    let file = from_err_ptr(unsafe {
        bindings::vfio_rs_anon_file(name.as_char_ptr(), fops.as_ptr(), data.cast(), mapping)
    })
    .inspect_err(|_| {
        // SAFETY: No file took the reference that `into_raw` gave away.
        drop(unsafe { Arc::from_raw(data) });
    })?;
    let file = NonNull::new(file.cast::<File>()).ok_or(ENFILE)?;
    // SAFETY: The call above returned a new reference; no `fdget_pos` section can exist yet.
    Ok(unsafe { ARef::from_raw(file) })
}
