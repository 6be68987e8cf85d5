// SPDX-License-Identifier: GPL-2.0

//! A PCI driver that gives devices to users, `struct pci_driver`.
//!
//! `kernel::pci::Driver` cannot be used: it sets neither `driver_managed_dma`, without which the
//! PCI core takes the group for the kernel's own DMA, nor `override_only` ids.

use kernel::{
    bindings,
    container_of,
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

use super::{
    bound::LastUse,
    BoundPci,
    DriverOwner,
    PciDevice, //
};
use crate::params::PerDevice;

/// What a driver has of a device that is bound to it, and does. Dropped when the device is unbound,
/// which must wait until nobody uses it any more. That and the callbacks run with the device's lock
/// held and may sleep.
pub trait Driver: Send + Sync + Sized + 'static {
    /// What all devices of the driver share.
    type Shared: Clone + Send + Sync + 'static;

    /// Called when the driver is bound to a device. Keeps `params`, and holds the module that is
    /// the `owner` while the device is in use.
    fn probe(
        dev: BoundPci,
        params: PerDevice,
        owner: &Arc<DriverOwner>,
        shared: &Self::Shared,
    ) -> Result<Self>;

    /// Called to make `count` virtual functions, or to remove all if that is 0; returns how many
    /// there are then.
    fn sriov_configure(&self, count: u16) -> Result<u16>;

    /// Whether the device may sleep while nobody keeps it awake.
    fn sleeps(&self) -> bool;

    /// Called before the device falls asleep, by the PM core: without the device's lock.
    fn suspend(&self);

    /// Called after the device woke up, by the PM core: without the device's lock.
    fn resume(&self);

    /// Called when the device reported an uncorrectable error.
    fn error_detected(&self);

    /// Called before the PCI core resets the device, whoever asks for that; users' accesses to the
    /// configuration space are blocked already, most often. When it returns nobody touches the
    /// device.
    fn reset_prepare(&self);

    /// Called after each [`reset_prepare`](Self::reset_prepare), by the same thread, whether the
    /// device was reset or not. Its configuration is restored.
    fn reset_done(&self);
}

/// Binds by `driver_override` only, to any device; the modalias starts with `vfio_pci:`.
struct IdTable([bindings::pci_device_id; 2]);

// SAFETY: Never written.
unsafe impl Sync for IdTable {}

static ANY_BY_OVERRIDE: IdTable = IdTable([
    bindings::pci_device_id {
        vendor: PCI_ANY_ID,
        device: PCI_ANY_ID,
        subvendor: PCI_ANY_ID,
        subdevice: PCI_ANY_ID,
        override_only: 1 << 0,
        ..pin_init::zeroed()
    },
    pin_init::zeroed(),
]);

/// `PCI_ANY_ID` of `include/linux/mod_devicetable.h`.
const PCI_ANY_ID: u32 = !0;

/// A registered driver; dropping it unbinds all devices.
pub(super) struct Registration<T: Driver>(Pin<KBox<RegistrationInner<T>>>);

#[repr(C)]
struct RegistrationInner<T: Driver> {
    driver: Opaque<bindings::pci_driver>,
    handlers: Opaque<bindings::pci_error_handlers>,
    pm: Opaque<bindings::dev_pm_ops>,
    shared: T::Shared,
    owner: Arc<DriverOwner>,
}

// SAFETY: Registration and removal may happen on different threads.
unsafe impl<T: Driver> Send for Registration<T> {}
// SAFETY: `&Registration` gives access to nothing.
unsafe impl<T: Driver> Sync for Registration<T> {}

impl<T: Driver> Registration<T> {
    /// Registers the driver `name` for a module, `owner`. May sleep.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is a driver of that name; `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `module` must be null or a module. It, and the text `mod_name`, must stay until this is
    /// dropped.
    pub(super) unsafe fn new(
        name: &'static CStr,
        shared: T::Shared,
        module: *mut bindings::module,
        mod_name: *const c_char,
        owner: Arc<DriverOwner>,
    ) -> Result<Self> {
        let inner = KBox::pin(
            RegistrationInner {
                driver: Opaque::zeroed(),
                handlers: Opaque::new(bindings::pci_error_handlers {
                    error_detected: Some(error_detected::<T>),
                    reset_prepare: Some(reset_prepare::<T>),
                    reset_done: Some(reset_done::<T>),
                    ..pin_init::zeroed()
                }),
                pm: Opaque::new(bindings::dev_pm_ops {
                    runtime_suspend: Some(runtime_suspend::<T>),
                    runtime_resume: Some(runtime_resume::<T>),
                    ..pin_init::zeroed()
                }),
                shared,
                owner,
            },
            GFP_KERNEL,
        )?;
        let driver = inner.driver.get();
        // SAFETY: The struct is ours until it is registered, and all zeroes are a valid one.
        unsafe {
            (*driver).name = name.as_char_ptr();
            (*driver).id_table = ANY_BY_OVERRIDE.0.as_ptr();
            (*driver).probe = Some(probe::<T>);
            (*driver).remove = Some(remove::<T>);
            (*driver).sriov_configure = Some(sriov_configure::<T>);
            (*driver).err_handler = inner.handlers.get();
            (*driver).driver.pm = inner.pm.get();
            (*driver).driver_managed_dma = true;
        }
        // SAFETY: The struct is filled in, pinned, and unregistered before it is freed. The rest is
        // the contract of this function.
        to_result(unsafe { bindings::__pci_register_driver(driver, module, mod_name) })?;
        Ok(Self(inner))
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::pci_driver {
        self.0.driver.get()
    }
}

impl<T: Driver> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: Registered by `new`.
        unsafe { bindings::pci_unregister_driver(self.0.driver.get()) }
    }
}

/// `probe`.
///
/// # Safety
///
/// Called by the PCI core, with a device and a driver that [`Registration::new`] registered.
unsafe extern "C" fn probe<T: Driver>(
    pdev: *mut bindings::pci_dev,
    _id: *const bindings::pci_device_id,
) -> c_int {
    from_result(|| {
        // SAFETY: The PCI core passes a live device and the driver that it probes, which is the
        // field of a `RegistrationInner` that stays until all devices are unbound.
        let (dev, inner) = unsafe {
            let driver = (*pdev).driver.cast::<Opaque<bindings::pci_driver>>();
            (
                PciDevice::from_raw(pdev),
                &*container_of!(driver, RegistrationInner<T>, driver),
            )
        };
        let params = PerDevice::now();
        dev.join_vga(params.disable_vga).inspect_err(|_| {
            dev_warn!(
                dev.device(),
                "Cannot bind: the console or the VGA arbiter keeps the display\n"
            )
        })?;
        let probed = bind(&dev, |bound| {
            T::probe(bound, params, &inner.owner, &inner.shared)
        });
        let data = probed.inspect_err(|_| dev.leave_vga())?;
        let sleeps = data.data.sleeps();
        // SAFETY: As above; the driver core leaves the data to us while we are bound.
        unsafe { bindings::dev_set_drvdata(&raw mut (*pdev).dev, KBox::into_raw(data).cast()) };
        dev.start_runtime_pm(sleeps);
        Ok(0)
    })
}

/// What a device has while it is bound.
struct Data<T> {
    data: T,
    last_use: LastUse,
}

/// Has `probe` make the driver's data of a device, which is being bound and told so.
fn bind<T>(dev: &PciDevice, probe: impl FnOnce(BoundPci) -> Result<T>) -> Result<KBox<Data<T>>> {
    let slot = KBox::<Data<T>>::new_uninit(GFP_KERNEL)?;
    // SAFETY: The device is being bound. Unless `remove` does, this waits.
    let (bound, last_use) = unsafe { BoundPci::new(dev) }?;
    match probe(bound) {
        Ok(data) => Ok(KBox::write(slot, Data { data, last_use })),
        Err(err) => {
            last_use.wait();
            Err(err)
        }
    }
}

/// `remove`.
///
/// # Safety
///
/// Called by the PCI core, once, with a device that [`probe`] was successful for.
unsafe extern "C" fn remove<T: Driver>(pdev: *mut bindings::pci_dev) {
    // SAFETY: `probe` stored a `KBox<Data<T>>`, which is taken back here, once.
    let data = unsafe {
        KBox::<Data<T>>::from_raw(bindings::dev_get_drvdata(&raw const (*pdev).dev).cast())
    };
    let sleeps = data.data.sleeps();
    let Data { data, last_use } = KBox::into_inner(data);
    drop(data);
    last_use.wait();
    // SAFETY: The device is alive.
    let dev = unsafe { PciDevice::from_raw(pdev) };
    dev.leave_vga();
    dev.stop_runtime_pm(sleeps);
    // SAFETY: The device is alive and still ours.
    unsafe { bindings::dev_set_drvdata(&raw mut (*pdev).dev, core::ptr::null_mut()) };
}

/// `error_detected`.
///
/// # Safety
///
/// Called by the PCI core under the device's lock, with a device that is bound.
unsafe extern "C" fn error_detected<T: Driver>(
    pdev: *mut bindings::pci_dev,
    _state: bindings::pci_channel_state_t,
) -> bindings::pci_ers_result_t {
    // SAFETY: The same contract.
    unsafe { bound_data::<T>(pdev) }.error_detected();
    bindings::pci_ers_result_PCI_ERS_RESULT_CAN_RECOVER
}

/// `reset_prepare`.
///
/// # Safety
///
/// Called by the PCI core under the device's lock, with a device that is bound.
unsafe extern "C" fn reset_prepare<T: Driver>(pdev: *mut bindings::pci_dev) {
    // SAFETY: The same contract.
    unsafe { bound_data::<T>(pdev) }.reset_prepare();
}

/// `reset_done`.
///
/// # Safety
///
/// Called by the PCI core under the device's lock, with a device that is bound.
unsafe extern "C" fn reset_done<T: Driver>(pdev: *mut bindings::pci_dev) {
    // SAFETY: The same contract.
    unsafe { bound_data::<T>(pdev) }.reset_done();
}

/// The driver's data of a device.
///
/// # Safety
///
/// `pdev` must be a device of a driver for `T` that is bound, and its lock held while the result is
/// used.
unsafe fn bound_data<'a, T: Driver>(pdev: *mut bindings::pci_dev) -> &'a T {
    // SAFETY: By the contract of this function `probe` stored a `KBox<Data<T>>`, and `remove`,
    // which runs under the same lock, has not taken it back.
    let data: &Data<T> = unsafe { &*bindings::dev_get_drvdata(&raw const (*pdev).dev).cast() };
    &data.data
}

/// `sriov_configure`.
///
/// # Safety
///
/// Called by the PCI core under the device's lock, with a device that is bound.
unsafe extern "C" fn sriov_configure<T: Driver>(
    pdev: *mut bindings::pci_dev,
    count: c_int,
) -> c_int {
    from_result(|| {
        // SAFETY: The same contract.
        let data = unsafe { bound_data::<T>(pdev) };
        data.sriov_configure(count.try_into()?).map(c_int::from)
    })
}

/// The driver's data of a device, to be used by the PM core's callbacks.
///
/// # Safety
///
/// `dev` must be a device of a driver for `T` that is bound. The PM core calls no callback while
/// somebody keeps the device awake, as the PCI core does during `probe` and `remove`, so the data
/// is there until the callback returns.
unsafe fn pm_data<'a, T: Driver>(dev: *mut bindings::device) -> Option<&'a T> {
    // SAFETY: By the contract of this function.
    let data = unsafe { bindings::dev_get_drvdata(dev) };
    // SAFETY: As above, it is a `KBox<Data<T>>` that `probe` stored and `remove` has not taken
    // back, if any.
    unsafe { data.cast::<Data<T>>().as_ref() }.map(|data| &data.data)
}

/// `runtime_suspend`.
///
/// # Safety
///
/// Called by the PM core, with a device that is bound.
unsafe extern "C" fn runtime_suspend<T: Driver>(dev: *mut bindings::device) -> c_int {
    // SAFETY: The same contract.
    if let Some(data) = unsafe { pm_data::<T>(dev) } {
        data.suspend();
    }
    0
}

/// `runtime_resume`.
///
/// # Safety
///
/// Called by the PM core, with a device that is bound.
unsafe extern "C" fn runtime_resume<T: Driver>(dev: *mut bindings::device) -> c_int {
    // SAFETY: The same contract.
    if let Some(data) = unsafe { pm_data::<T>(dev) } {
        data.resume();
    }
    0
}
