// SPDX-License-Identifier: GPL-2.0

//! What the rest of the module knows of a device, whatever bus it is on.

use kernel::{
    device,
    prelude::*,
    sync::Arc,
    uaccess::UserSlice, //
};
use vfio_kernel::{
    argsz::UserArg,
    kvm::Kvm,
    mapping::Mapping,
    mmap::Mmap, //
};

use super::{
    Access,
    Closed,
    DeviceUsers,
    Feature,
    Via, //
};
use crate::uapi::caps::CapChain;

/// A device that is bound to a driver of ours. Groups hold it as a `dyn VfioDevice`. All calls may
/// sleep.
pub(crate) trait VfioDevice: Send + Sync {
    /// The device of the driver core.
    fn dev(&self) -> &device::Device;

    /// Who uses it.
    fn users(&self) -> &Arc<DeviceUsers>;

    /// Whether `name` of `VFIO_GROUP_GET_DEVICE_FD` means this device, and whoever says so may open
    /// it.
    ///
    /// # Errors
    ///
    /// `EINVAL` for options behind the name that are malformed or not wanted, `EACCES` if the
    /// token of the virtual functions is missing or wrong.
    fn matches(&self, name: &[u8]) -> Result<bool>;

    /// Whether whoever shows `token` may open the device by its own node.
    ///
    /// # Errors
    ///
    /// As [`matches`](Self::matches), for the token of the virtual functions.
    fn admits(&self, token: Option<[u8; 16]>) -> Result;

    /// Whether the IOMMU keeps all DMA of the device coherent with the CPU's caches.
    fn enforces_coherency(&self) -> bool;

    /// Keeps the device from DMA until it is closed, as a driver of the kernel has a device of its
    /// group; if it is open and does DMA by iommufd. Waits for no user.
    fn cut_off(&self);

    /// Asks its users to close it; they were asked `count` times before.
    fn request(&self, count: u32);
}

/// A device from its first open to its last close. Never a `dyn`: reads, writes and page faults
/// know what they deal with.
///
/// Ioctls are decoded by whoever calls this, `files/device.rs`; except those that only one kind of
/// device has.
pub(crate) trait OpenDevice: Mmap + Sized {
    /// The device that is bound.
    type Device: VfioDevice + 'static;

    /// Keeps the device awake.
    type Awake;

    /// Says that the device was awake when an access began.
    type Access;

    /// `VFIO_DEVICE_FLAGS_*` of its kind.
    const FLAGS: u32;

    /// How many indices of interrupts there are.
    const IRQS: u32;

    /// Opens a device, which does DMA by what `via` says and belongs to the virtual machine `kvm`,
    /// if any; that is taken out if it is kept. Further users share what the first one has opened.
    fn open(device: &Arc<Self::Device>, via: &Via, kvm: &mut Option<Kvm>) -> Result<Arc<Self>>;

    /// Undoes an [`open`](Self::open). Returns what the caller must let go of when it holds no
    /// locks.
    fn close(device: &Self::Device) -> Closed;

    /// By what it does DMA.
    fn access(&self) -> &Access;

    /// The address space of the device's files.
    fn mapping(device: &Self::Device) -> &Mapping;

    /// Wakes the device up and keeps it awake as long as the result lives.
    ///
    /// # Errors
    ///
    /// `EIO` if it does not wake up.
    fn awake(&self) -> Result<Self::Awake>;

    /// Wakes the device up if its user lets it sleep, for an access that does not reach it, or
    /// looks itself whether it is awake. Costs less than [`awake`](Self::awake).
    ///
    /// # Errors
    ///
    /// As there.
    fn accessed(&self) -> Result<Self::Access>;

    /// `VFIO_DEVICE_GET_INFO`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn info(&self, caps: &mut CapChain) -> Result<DeviceInfo>;

    /// `VFIO_DEVICE_GET_REGION_INFO`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no region of that number; `EIO` if it has to be woken up for that and
    /// does not; `ENOMEM`.
    fn region(&self, index: u32, caps: &mut CapChain) -> Result<RegionInfo>;

    /// `VFIO_DEVICE_GET_IRQ_INFO`; `index` is less than [`IRQS`](Self::IRQS).
    fn irq(&self, index: u32) -> IrqInfo;

    /// `VFIO_DEVICE_SET_IRQS`, see [`IrqSet`](crate::uapi::irq_set::IrqSet). The device may be
    /// asleep.
    fn set_irqs(&self, arg: UserArg) -> Result<isize>;

    /// `VFIO_DEVICE_RESET`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the device has no reset, `EIO` if it does not wake up, `EAGAIN` if it is locked.
    fn reset(&self) -> Result;

    /// What `VFIO_DEVICE_FEATURE` knows, in any order.
    fn features() -> &'static [Feature<Self>];

    /// An ioctl that only devices of this kind have.
    ///
    /// # Errors
    ///
    /// `ENOTTY` if they do not.
    fn ioctl(this: &Arc<Self>, cmd: u32, arg: UserArg) -> Result<isize>;

    /// `pread(2)` at `pos`; returns the bytes read.
    fn read(&self, buf: UserSlice, pos: u64) -> Result<usize>;

    /// `pwrite(2)` at `pos`; returns the bytes written.
    fn write(&self, buf: UserSlice, pos: u64) -> Result<usize>;
}

/// What `VFIO_DEVICE_GET_INFO` tells of one device.
pub(crate) struct DeviceInfo {
    /// `VFIO_DEVICE_FLAGS_*` beyond those of its kind.
    pub(crate) flags: u32,
    /// How many indices of regions there are.
    pub(crate) regions: u32,
}

/// What `VFIO_DEVICE_GET_REGION_INFO` tells.
pub(crate) struct RegionInfo {
    /// `VFIO_REGION_INFO_FLAG_*`.
    pub(crate) flags: u32,
    /// Bytes.
    pub(crate) size: u64,
    /// Where the region is in the device's file.
    pub(crate) offset: u64,
}

/// What `VFIO_DEVICE_GET_IRQ_INFO` tells.
pub(crate) struct IrqInfo {
    /// `VFIO_IRQ_INFO_*`.
    pub(crate) flags: u32,
    /// How many interrupts the index has.
    pub(crate) count: u32,
}
