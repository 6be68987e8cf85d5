// SPDX-License-Identifier: GPL-2.0

//! The name that each device that is bound has in sysfs: `vfio-dev/vfioN` in its own folder.
//!
//! By that folder libvirt tells drivers of VFIO from others. There is no node to it.
//!
//! Lock: `DeviceNames::numbers`, innermost.

use kernel::{
    device,
    id_pool::IdPool,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};
use vfio_kernel::class_device::{
    ClassDevice,
    DeviceClass, //
};

use crate::backend::Fence;

/// The names of all devices.
#[pin_data]
pub(crate) struct DeviceNames {
    class: Arc<DeviceClass>,
    #[pin]
    numbers: Mutex<IdPool>,
}

/// The name of a device, until dropped, which may sleep.
pub(crate) struct DeviceName {
    // Before the number, which is another's from then on.
    _device: ClassDevice,
    _number: Number,
}

struct Number {
    names: Arc<DeviceNames>,
    number: usize,
}

impl DeviceNames {
    /// Names for so many devices need no more memory.
    const FEW: usize = 64;

    /// No names yet; makes the class `vfio-dev`.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is such a class, `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let class = DeviceClass::register(c"vfio-dev")?;
        let numbers = IdPool::with_capacity(Self::FEW, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                class,
                numbers <- new_mutex!(numbers, "DeviceNames::numbers"),
            }),
            GFP_KERNEL,
        )
    }

    /// Names a device, whose DMA goes through `fence`, by the lowest number that is free.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there are too many, `ENOMEM`.
    pub(crate) fn name(self: &Arc<Self>, dev: &device::Device, fence: Fence) -> Result<DeviceName> {
        let number = self.number()?;
        let prefix = match fence {
            // As Linux calls its node, where the kernel can have one.
            Fence::Missing if cfg!(CONFIG_IOMMUFD_NOIOMMU) => "noiommu-",
            Fence::Missing | Fence::Iommu => "",
        };
        let index = number.number;
        Ok(DeviceName {
            _device: ClassDevice::new(&self.class, dev, fmt!("{prefix}vfio{index}"))?,
            _number: number,
        })
    }

    fn number(self: &Arc<Self>) -> Result<Number> {
        let mut numbers = self.numbers.lock();
        if numbers.find_unused_id(0).is_none() {
            let room = numbers.grow_request().ok_or(ENOSPC)?;
            numbers.grow(room.realloc(GFP_KERNEL)?);
        }
        let number = numbers.find_unused_id(0).ok_or(ENOSPC)?.acquire();
        Ok(Number {
            names: self.clone(),
            number,
        })
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        self.names.numbers.lock().release_id(self.number);
    }
}
