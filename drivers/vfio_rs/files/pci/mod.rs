// SPDX-License-Identifier: GPL-2.0

//! The ioctls of PCI devices: how they do what all devices do, and what only they have.
//!
//! | file           | has                                                        |
//! |----------------|------------------------------------------------------------|
//! | `features.rs`  | what they can do beyond the other ioctls                   |
//! | `low_power.rs` | the features that let a device sleep                       |
//! | `hot_reset.rs` | resets of several devices                                  |

mod features;
mod hot_reset;
mod low_power;

use kernel::{
    fs::File,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    uaccess::UserSlice,
};
use vfio_kernel::{
    argsz::UserArg,
    fops::FileOpsTable,
    kvm::Kvm,
    mapping::Mapping,
    mmap::Mapped,
    pci::{
        Awake,
        IoWidth, //
    },
    uapi,
    user_area::{
        self,
        UserArea, //
    },
};

use super::device::{
    self,
    DeviceFile,
    HasFile, //
};
use crate::{
    backend::p2p::BarPart,
    core::{
        Access,
        Closed,
        Counted,
        DeviceInfo,
        Feature,
        IrqInfo,
        OpenDevice,
        RegionInfo,
        Via, //
    },
    iommu_group::{
        Group,
        GroupedDevice, //
    },
    pci::{
        AwakeAccess,
        Device,
        Open,
        Region, //
    },
    uapi::{
        caps::CapChain,
        device_nr as nr,
        irq_set::IrqSet,
        row, //
    },
};

/// The operations of a PCI device's file.
pub(super) static FILE_OPS: FileOpsTable<DeviceFile<Open>, Mapped> = FileOpsTable::mapped();

impl HasFile for Open {
    fn table() -> &'static FileOpsTable<DeviceFile<Self>, Mapped> {
        &FILE_OPS
    }
}

/// As [`AreaAt`](crate::backend::p2p::AreaAt).
pub(super) fn area_at(vaddr: usize, max: usize, writable: bool) -> Result<UserArea<BarPart>> {
    user_area::at(&FILE_OPS, vaddr, max, writable, |data, part| {
        data.open()?.bar_part(part)
    })
}

impl GroupedDevice for Device {
    fn group(&self) -> &Arc<Group> {
        Device::group(self)
    }

    fn open_through(
        self: Arc<Self>,
        counted: Counted,
        group: Arc<Group>,
        group_file: ARef<File>,
    ) -> Result<isize> {
        device::open::<Open>(self, counted, group, group_file)
    }
}

impl OpenDevice for Open {
    type Device = Device;
    type Awake = Awake;
    type Access = AwakeAccess;

    const FLAGS: u32 = uapi::VFIO_DEVICE_FLAGS_PCI;
    const IRQS: u32 = uapi::VFIO_PCI_NUM_IRQS;

    fn open(device: &Arc<Device>, via: &Via, kvm: &mut Option<Kvm>) -> Result<Arc<Self>> {
        device.open(via, kvm)
    }

    fn close(device: &Device) -> Closed {
        device.close()
    }

    fn access(&self) -> &Access {
        Open::dma_access(self)
    }

    fn mapping(device: &Device) -> &Mapping {
        device.mapping()
    }

    fn awake(&self) -> Result<Awake> {
        Open::awake(self)
    }

    #[inline]
    fn accessed(&self) -> Result<AwakeAccess> {
        Open::access(self)
    }

    fn info(&self, caps: &mut CapChain) -> Result<DeviceInfo> {
        let flags = match self.can_reset() {
            true => uapi::VFIO_DEVICE_FLAGS_RESET,
            false => 0,
        };
        let atomics = self.atomic_completions();
        if atomics != 0 {
            const ID: u32 = uapi::VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP;
            caps.push(ID, 1, &[&atomics.to_ne_bytes(), &[0; 4]])?;
        }
        Ok(DeviceInfo {
            flags,
            regions: self.region_count(),
        })
    }

    fn region(&self, index: u32, caps: &mut CapChain) -> Result<RegionInfo> {
        let info = self.region_info(Region::from_index(index))?;
        if info.msix_mappable {
            caps.push(uapi::VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 1, &[])?;
        }
        if let Some(kind) = info.kind {
            let body = [&kind.ty.to_ne_bytes()[..], &kind.subtype.to_ne_bytes()];
            caps.push(uapi::VFIO_REGION_INFO_CAP_TYPE, 1, &body)?;
        }
        if let Some(offset) = info.write_combining {
            let body = [
                &uapi::VFIO_REGION_MMAP_ALT_WC.to_ne_bytes()[..],
                &uapi::VFIO_REGION_MMAP_ALT_FLAG_EXCLUSIVE.to_ne_bytes(),
                &offset.to_ne_bytes(),
                &info.size.to_ne_bytes(),
            ];
            caps.push(uapi::VFIO_REGION_INFO_CAP_MMAP_ALT, 1, &body)?;
        }
        Ok(RegionInfo {
            flags: info.flags,
            size: info.size,
            offset: info.offset,
        })
    }

    fn irq(&self, index: u32) -> IrqInfo {
        IrqInfo {
            flags: self.irq_flags(index),
            count: self.irq_count(index),
        }
    }

    fn set_irqs(&self, arg: UserArg) -> Result<isize> {
        // Wakes up a device that its user lets sleep, and else costs nothing.
        let _access = self.access()?;
        let set = IrqSet::read(arg, Self::IRQS, |index| self.irq_count(index))?;
        let _awake = match set.only_signals() {
            true => None,
            false => Some(self.awake()?),
        };
        // ERRNO: ENOTTY for an action that is none, as vfio_pci_set_irqs_ioctl().
        let action = set.action.ok_or(ENOTTY)?;
        self.set_irqs(set.index, action, set.start, set.count, &set.data)
    }

    fn reset(&self) -> Result {
        Open::reset(self)
    }

    fn features() -> &'static [Feature<Self>] {
        features::FEATURES
    }

    fn ioctl(this: &Arc<Self>, cmd: u32, arg: UserArg) -> Result<isize> {
        match cmd {
            nr::GET_PCI_HOT_RESET_INFO => hot_reset::get_info(this, arg),
            nr::PCI_HOT_RESET => hot_reset::hot_reset(this, arg),
            nr::IOEVENTFD => ioeventfd(this, arg),
            _ => Err(ENOTTY),
        }
        .map(|()| 0)
    }

    fn read(&self, buf: UserSlice, pos: u64) -> Result<usize> {
        Open::read(self, buf, pos)
    }

    fn write(&self, buf: UserSlice, pos: u64) -> Result<usize> {
        Open::write(self, buf, pos)
    }
}

/// `VFIO_DEVICE_IOEVENTFD`.
fn ioeventfd(open: &Arc<Open>, arg: UserArg) -> Result {
    type Request = uapi::vfio_device_ioeventfd;

    let request: Request = row::read(arg)?;
    let width = match request.flags {
        uapi::VFIO_DEVICE_IOEVENTFD_8 => IoWidth::W1,
        uapi::VFIO_DEVICE_IOEVENTFD_16 => IoWidth::W2,
        uapi::VFIO_DEVICE_IOEVENTFD_32 => IoWidth::W4,
        uapi::VFIO_DEVICE_IOEVENTFD_64 => IoWidth::W8,
        _ => return Err(EINVAL),
    };
    if request.fd < -1 {
        return Err(EINVAL);
    }
    let doorbell = open.doorbell_at(request.offset, width, request.data)?;
    open.set_ioeventfd(doorbell, request.fd)
}
