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

/// Is told of devices on the bus. Callbacks may sleep.
pub trait Watcher: Send + Sync + 'static {
    /// A device was added; no driver has been asked yet.
    fn added(&self, dev: &PciDevice);

    /// `driver` was bound to a device, whose lock is held.
    fn bound(&self, dev: &PciDevice, driver: &CStr);
}

/// A watcher that is told; dropping this waits for the last call.
pub struct BusWatch<T: Watcher>(Pin<KBox<Inner<T>>>);

#[repr(C)]
struct Inner<T: Watcher> {
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
            Inner {
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
    // SAFETY: The block is a field of an `Inner` that stays until it is unregistered, and all
    // events of the PCI bus carry one of its devices, alive during the call.
    let (watcher, dev) = unsafe {
        let block = block.cast::<Opaque<bindings::notifier_block>>();
        let pdev = bindings::vfio_rs_to_pci_dev(data.cast());
        (
            &(*container_of!(block, Inner<T>, block)).watcher,
            PciDevice::from_raw(pdev),
        )
    };
    match u32::try_from(action) {
        Ok(kernel_bindings::bus_notifier_event_BUS_NOTIFY_ADD_DEVICE) => watcher.added(&dev),
        Ok(kernel_bindings::bus_notifier_event_BUS_NOTIFY_BOUND_DRIVER) => {
            // SAFETY: This event comes under the device's lock, so the driver stays bound.
            let name = unsafe { bindings::vfio_rs_pci_driver_name(dev.as_ptr()) };
            if !name.is_null() {
                // SAFETY: As above, so the name stays too.
                watcher.bound(&dev, unsafe { CStr::from_char_ptr(name) });
            }
        }
        _ => {}
    }
    // NOTIFY_DONE.
    0
}
