// SPDX-License-Identifier: GPL-2.0

//! What happens on the PCI bus, `struct notifier_block`.

use kernel::{
    bindings as kernel_bindings,
    container_of,
    error::to_result,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};
use vfio_bindings as bindings;

use super::PciDevice;

/// A driver, as whoever holds the lock of its device sees it.
#[derive(Clone, Copy)]
pub struct BusDriver<'a> {
    /// What it is called.
    pub name: &'a CStr,
    /// It declares that it does no DMA for the kernel.
    pub managed_dma: bool,
}

/// Is told of devices on the bus. Callbacks may sleep; but for the first they come with the lock of
/// the device held.
pub trait Watcher: Send + Sync + 'static {
    /// A device was added; no driver has been asked yet.
    fn added(&self, _dev: &PciDevice) {}

    /// `driver` is about to be bound to a device: it has not seen it yet.
    fn binding(&self, _dev: &PciDevice, _driver: BusDriver<'_>) {}

    /// `driver` was bound to a device.
    fn bound(&self, _dev: &PciDevice, _driver: BusDriver<'_>) {}

    /// A device has no driver any more, or its driver refused it.
    fn unbound(&self, _dev: &PciDevice) {}
}

/// A watcher that is told; dropping this waits for the last call.
pub struct BusWatch<T: Watcher>(Pin<KBox<BusWatchInner<T>>>);

#[repr(C)]
struct BusWatchInner<T: Watcher> {
    block: Opaque<bindings::notifier_block>,
    watcher: Arc<T>,
}

// SAFETY: Registration and removal may happen on different threads.
unsafe impl<T: Watcher> Send for BusWatch<T> {}
// SAFETY: `&BusWatch` gives access to nothing.
unsafe impl<T: Watcher> Sync for BusWatch<T> {}

impl<T: Watcher> BusWatch<T> {
    /// Starts to tell `watcher`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. May sleep.
    pub fn new(watcher: Arc<T>) -> Result<Self> {
        let inner = KBox::pin(
            BusWatchInner {
                block: Opaque::new(bindings::notifier_block {
                    notifier_call: Some(notify::<T>),
                    ..pin_init::zeroed()
                }),
                watcher,
            },
            GFP_KERNEL,
        )?;
        // SAFETY: The block is pinned and removed before it is freed.
        to_result(unsafe {
            bindings::bus_register_notifier(&raw const bindings::pci_bus_type, inner.block.get())
        })?;
        Ok(Self(inner))
    }

    /// Tells the watcher of the drivers that were bound before, as of those that are about to be.
    /// Takes the lock of each device in turn.
    pub fn catch_up(&self) {
        let watcher: *const T = &*self.0.watcher;
        // SAFETY: The watcher outlives the call, which hands it to `catch_up` for PCI devices.
        unsafe {
            kernel_bindings::bus_for_each_dev(
                &raw const bindings::pci_bus_type,
                core::ptr::null_mut(),
                watcher.cast_mut().cast(),
                Some(catch_up::<T>),
            )
        };
    }
}

/// # Safety
///
/// Called by `bus_for_each_dev()` for the PCI bus, with the watcher that [`BusWatch::catch_up`]
/// passed.
unsafe extern "C" fn catch_up<T: Watcher>(
    dev: *mut kernel_bindings::device,
    watcher: *mut c_void,
) -> c_int {
    // SAFETY: The device is alive during the call, and a PCI device; the watcher is a `T`.
    unsafe {
        bindings::vfio_rs_device_lock(dev);
        let pci = PciDevice::from_raw(bindings::vfio_rs_to_pci_dev(dev));
        if let Some(driver) = driver(&pci) {
            (*watcher.cast_const().cast::<T>()).binding(&pci, driver);
        }
        bindings::vfio_rs_device_unlock(dev);
    }
    0
}

/// The driver of a device, if it has one.
///
/// # Safety
///
/// The device's lock must be held for as long as the result is used.
unsafe fn driver(dev: &PciDevice) -> Option<BusDriver<'_>> {
    // SAFETY: By the contract of this function the driver stays bound, hence its name stays too.
    unsafe {
        let name = bindings::vfio_rs_pci_driver_name(dev.as_ptr());
        (!name.is_null()).then(|| BusDriver {
            name: CStr::from_char_ptr(name),
            managed_dma: bindings::vfio_rs_pci_driver_managed_dma(dev.as_ptr()),
        })
    }
}

impl<T: Watcher> Drop for BusWatch<T> {
    fn drop(&mut self) {
        // SAFETY: Registered by `new`.
        unsafe {
            bindings::bus_unregister_notifier(&raw const bindings::pci_bus_type, self.0.block.get())
        };
    }
}

/// `notifier_call`.
///
/// # Safety
///
/// Called by the driver core for the PCI bus, with a block that [`BusWatch::new`] registered.
unsafe extern "C" fn notify<T: Watcher>(
    block: *mut bindings::notifier_block,
    action: c_ulong,
    data: *mut c_void,
) -> c_int {
    // SAFETY: The block is a field of a `BusWatchInner` that stays until it is unregistered, and
    // all events of the PCI bus carry one of its devices, alive during the call.
    let (watcher, dev) = unsafe {
        let block = block.cast::<Opaque<bindings::notifier_block>>();
        let pdev = bindings::vfio_rs_to_pci_dev(data.cast());
        (
            &(*container_of!(block, BusWatchInner<T>, block)).watcher,
            PciDevice::from_raw(pdev),
        )
    };
    match u32::try_from(action) {
        Ok(kernel_bindings::bus_notifier_event_BUS_NOTIFY_ADD_DEVICE) => watcher.added(&dev),
        Ok(kernel_bindings::bus_notifier_event_BUS_NOTIFY_BIND_DRIVER) => {
            // SAFETY: This event comes under the device's lock.
            if let Some(driver) = unsafe { driver(&dev) } {
                watcher.binding(&dev, driver);
            }
        }
        Ok(kernel_bindings::bus_notifier_event_BUS_NOTIFY_BOUND_DRIVER) => {
            // SAFETY: As above.
            if let Some(driver) = unsafe { driver(&dev) } {
                watcher.bound(&dev, driver);
            }
        }
        Ok(
            kernel_bindings::bus_notifier_event_BUS_NOTIFY_DRIVER_NOT_BOUND
            | kernel_bindings::bus_notifier_event_BUS_NOTIFY_UNBOUND_DRIVER,
        ) => watcher.unbound(&dev),
        _ => {}
    }
    // NOTIFY_DONE.
    0
}
