// SPDX-License-Identifier: GPL-2.0

//! A device's file: its ioctls, reads, writes and maps. What only one kind of device has is in a
//! folder of its own, such as `pci/`.

use kernel::{
    device,
    fs::{
        file::{
            flags,
            FileDescriptorReservation, //
        },
        File,
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        ArcBorrow, //
    },
    uaccess::UserSlice,
};
use vfio_kernel::{
    anon_file::{
        self,
        Anon, //
    },
    argsz::UserArg,
    fops::{
        FileOps,
        FileOpsTable, //
    },
    kvm::{
        KvmFile,
        KvmSlot, //
    },
    log,
    mmap::{
        Fault,
        FaultResult,
        MapKind,
        MapRequest,
        Mmap, //
    },
    uapi,
};

use super::feature::feature;
use crate::{
    backend::Fence,
    core::{
        Counted,
        Device,
        OpenDevice, //
    },
    iommu_group::{
        Group,
        GroupedDevice, //
    },
    uapi::{
        caps::CapChain,
        device_nr as nr,
        row::{
            self,
            Row, //
        },
    },
};

/// A kind of device that has files.
pub(super) trait HasFile: OpenDevice<Device: GroupedDevice> {
    /// The operations of its files.
    fn table() -> &'static FileOpsTable<DeviceFile<Self>, Anon>;
}

/// An open device.
pub(super) struct DeviceFile<O: HasFile> {
    // Before `held`, so that nothing of this state is left when the device is closed: its memory is
    // the next user's.
    open: Arc<O>,
    held: Opened<O>,
    /// The virtual machine that the file itself belongs to; that of the group is what counts.
    kvm: Pin<KBox<KvmSlot>>,
}

/// One open of a device. Dropping this closes it, and lets go of the group's file after that.
struct Opened<O: HasFile> {
    device: Arc<O::Device>,
    _counted: Counted,
    /// The group that it was opened through: its own, or the one that has joined.
    through: Arc<Group>,
    _group_file: ARef<File>,
}

/// Opens `device` through a group, of which `group_file` is the open file, and returns the new
/// descriptor.
pub(super) fn open<O: HasFile>(
    device: Arc<O::Device>,
    counted: Counted,
    through: Arc<Group>,
    group_file: ARef<File>,
) -> Result<isize> {
    let fd = FileDescriptorReservation::get_unused_fd_flags(flags::O_CLOEXEC)?;
    let kvm = KBox::pin_init(KvmSlot::new(), GFP_KERNEL)?;
    let group = device.group();
    // Dropped without a lock if it is not needed, as it may be the end of the machine.
    let mut machine = group.kvm_through(&through);
    let open = through.open_device(group, |access| O::open(&device, access, &mut machine))?;
    drop(machine);
    let unfenced = (group.fence() == Fence::Missing).then(|| device.clone());
    // From here on dropping the file's data closes the device.
    let held = Opened {
        device,
        _counted: counted,
        through,
        _group_file: group_file,
    };
    let data = DeviceFile { open, held, kvm };
    let data = Arc::new(data, GFP_KERNEL)?;
    let file = anon_file::create(c"[vfio-device]", O::table(), data, |data| {
        O::mapping(&data.held.device)
    })?;
    if let Some(device) = unfenced {
        log::warn_opened_by_user(device.dev());
    }
    let number = fd.reserved_fd();
    fd.fd_install(file);
    Ok(number.try_into()?)
}

impl<O: HasFile> DeviceFile<O> {
    /// The device.
    pub(super) fn device(&self) -> &O {
        &self.open
    }
}

impl<O: HasFile> Drop for Opened<O> {
    fn drop(&mut self) {
        let device = &*self.device;
        let kvm = self
            .through
            .close_device(device.group(), || O::close(device));
        // Not under a lock, as it may be the end of the machine.
        drop(kvm);
    }
}

impl<O: HasFile> KvmFile for DeviceFile<O> {
    fn kvm(&self) -> &KvmSlot {
        &self.kvm
    }

    fn enforced_coherent(&self) -> bool {
        self.held.device.enforces_coherency()
    }

    // An address space goes by the files of groups.
    fn kvm_changed(&self) {}
}

impl<O: HasFile> Mmap for DeviceFile<O> {
    #[inline]
    fn mmap(&self, request: MapRequest) -> Result<MapKind> {
        self.open.mmap(request)
    }

    fn opened(&self, offset: u64) {
        self.open.opened(offset);
    }

    fn closed(&self, offset: u64) {
        self.open.closed(offset);
    }

    fn placement(&self, offset: u64) -> Option<u64> {
        self.open.placement(offset)
    }

    #[inline(always)]
    fn fault(&self, fault: Fault<'_>) -> FaultResult {
        self.open.fault(fault)
    }
}

impl<O: HasFile> FileOps for DeviceFile<O> {
    type OwnerModule = crate::VfioRs;
    type Node = ();

    fn ioctl(this: ArcBorrow<'_, Self>, _file: &File, cmd: u32, arg: UserArg) -> Result<isize> {
        let open = &*this.open;
        if cmd == nr::SET_IRQS {
            return open.set_irqs(arg);
        }
        let _awake = open.awake()?;
        match cmd {
            nr::GET_INFO => get_info(open, arg).map(|()| 0),
            nr::GET_REGION_INFO => get_region_info(open, arg).map(|()| 0),
            nr::GET_IRQ_INFO => get_irq_info(open, arg).map(|()| 0),
            nr::RESET => open.reset().map(|()| 0),
            nr::FEATURE => feature(open, arg),
            _ => O::ioctl(&this.open, cmd, arg),
        }
    }

    fn fdinfo_device(&self) -> Option<&device::Device> {
        Some(self.held.device.dev())
    }

    fn read(&self, buf: UserSlice, pos: u64) -> Result<usize> {
        self.open.read(buf, pos)
    }

    fn write(&self, buf: UserSlice, pos: u64) -> Result<usize> {
        self.open.write(buf, pos)
    }
}

/// `VFIO_DEVICE_GET_INFO`.
fn get_info<O: OpenDevice>(open: &O, arg: UserArg) -> Result {
    type Info = uapi::vfio_device_info;
    let user: Info = row::read(arg)?;
    let mut caps = CapChain::after(size_of::<Info>());
    let info = open.info(&mut caps)?;
    let mut flags = O::FLAGS | info.flags;
    if !caps.is_empty() {
        flags |= uapi::VFIO_DEVICE_FLAGS_CAPS;
    }
    caps.write(arg, user.argsz, user.argsz as usize, |argsz, cap_offset| {
        Info {
            argsz,
            flags,
            num_regions: info.regions,
            num_irqs: O::IRQS,
            cap_offset,
            pad: 0,
        }
    })
}

/// `VFIO_DEVICE_GET_REGION_INFO`.
fn get_region_info<O: OpenDevice>(open: &O, arg: UserArg) -> Result {
    type Info = uapi::vfio_region_info;
    let user: Info = row::read(arg)?;
    let mut caps = CapChain::after(size_of::<Info>());
    let info = open.region(user.index, &mut caps)?;
    let mut flags = info.flags;
    if !caps.is_empty() {
        flags |= uapi::VFIO_REGION_INFO_FLAG_CAPS;
    }
    caps.write(arg, user.argsz, Info::MIN, |argsz, cap_offset| Info {
        argsz,
        flags,
        index: user.index,
        cap_offset,
        size: info.size,
        offset: info.offset,
    })
}

/// `VFIO_DEVICE_GET_IRQ_INFO`.
fn get_irq_info<O: OpenDevice>(open: &O, arg: UserArg) -> Result {
    type Info = uapi::vfio_irq_info;
    let user: Info = row::read(arg)?;
    if user.index >= O::IRQS {
        return Err(EINVAL);
    }
    let info = open.irq(user.index);
    let info = Info {
        flags: info.flags,
        count: info.count,
        ..user
    };
    arg.write_prefix(&info, Info::MIN)
}
