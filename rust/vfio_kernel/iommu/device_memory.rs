// SPDX-License-Identifier: GPL-2.0

//! Device memory in an I/O address space, so that devices can reach each other's BARs.
//!
//! It is not the kernel's, so it is not pinned. (A [`SharedPage`] is, and goes along here as what it
//! stands for is a register of a device.) Instead it can be switched off, when the device
//! stops answering or goes away, and on again: a [`DeviceMapping`] then is there or is not, in all
//! domains of its [`IoSpace`] alike.
//!
//! Lock: `DeviceMapping::on`, before `IoSpace::domains`.

use kernel::{
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

use super::{
    domain::Prot,
    space::IoSpace, //
};
use crate::shared_page::SharedPage;

/// Physically contiguous memory of a device.
#[derive(Clone, Copy)]
pub struct DeviceMemory {
    phys: u64,
    len: usize,
}

impl DeviceMemory {
    /// The caller has made sure that it is not memory that the kernel manages.
    pub(crate) fn new(phys: u64, len: usize) -> Self {
        Self { phys, len }
    }

    /// Bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Appends `next`, if it begins where `self` ends.
    pub fn join(&mut self, next: Self) -> bool {
        let adjacent = self.phys.checked_add(self.len as u64) == Some(next.phys);
        if adjacent {
            self.len += next.len;
        }
        adjacent
    }
}

/// See the module's documentation. Dropping it unmaps; may sleep.
#[pin_data(PinnedDrop)]
pub struct DeviceMapping {
    space: Arc<IoSpace>,
    iova: u64,
    memory: DeviceMemory,
    /// Whose the memory is, if it is the kernel's after all.
    page: Option<Arc<SharedPage>>,
    prot: Prot,
    /// Whether devices reach it.
    #[pin]
    on: Mutex<bool>,
}

impl DeviceMapping {
    /// Puts `memory` at `iova`, where nothing else may be; switched off at first.
    pub fn new(
        space: &Arc<IoSpace>,
        iova: u64,
        memory: DeviceMemory,
        prot: Prot,
    ) -> Result<Arc<Self>> {
        Self::with(space, iova, memory, None, prot)
    }

    /// As [`new`](Self::new), for a page of the kernel's.
    pub fn of_page(
        space: &Arc<IoSpace>,
        iova: u64,
        page: Arc<SharedPage>,
        prot: Prot,
    ) -> Result<Arc<Self>> {
        let memory = DeviceMemory::new(page.phys(), PAGE_SIZE);
        Self::with(space, iova, memory, Some(page), prot)
    }

    fn with(
        space: &Arc<IoSpace>,
        iova: u64,
        memory: DeviceMemory,
        page: Option<Arc<SharedPage>>,
        prot: Prot,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                space: space.clone(),
                iova,
                memory,
                page,
                prot,
                on <- new_mutex!(false, "DeviceMapping::on"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Lets devices reach the memory. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what the IOMMU driver says; then it stays off.
    pub fn switch_on(&self) -> Result {
        let mut on = self.on.lock();
        if !*on {
            self.map()?;
            *on = true;
        }
        Ok(())
    }

    /// Keeps devices from the memory. When this returns no access is under way. May sleep.
    pub fn switch_off(&self) {
        let mut on = self.on.lock();
        if *on {
            self.space.unmap_device(self.iova, self.memory.len);
            *on = false;
        }
    }

    /// Maps the memory in domains that the space got since; on failure nothing has changed for
    /// the others. May sleep.
    pub fn refill(&self) -> Result {
        let on = self.on.lock();
        if *on {
            self.map()?;
        }
        Ok(())
    }

    fn map(&self) -> Result {
        let DeviceMemory { phys, len } = self.memory;
        let of_kernel = self.page.is_some();
        self.space
            .map_device(self.iova, phys, len, self.prot, of_kernel)
    }
}

#[pinned_drop]
impl PinnedDrop for DeviceMapping {
    fn drop(self: Pin<&mut Self>) {
        self.switch_off();
    }
}
