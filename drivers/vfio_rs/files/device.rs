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
        ArcBorrow,
        SetOnce, //
    },
    uaccess::UserSlice,
};
use vfio_kernel::{
    anon_file,
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
    mapping::Mapping,
    mmap::{
        FaultResult,
        MapKind,
        MapRequest,
        Mapped,
        MappedFile,
        Mmap,
        PageFault, //
    },
    uapi,
};

use super::{
    feature::{
        self,
        feature, //
    },
    iommufd::{
        self,
        ThroughNode, //
    },
};
use crate::{
    backend::Fence,
    core::{
        Counted,
        OpenDevice,
        VfioDevice, //
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
    fn table() -> &'static FileOpsTable<DeviceFile<Self>, Mapped>;
}

/// A file of a device.
pub(super) struct DeviceFile<O: HasFile> {
    /// There from the start if the file comes through a group, else from `VFIO_DEVICE_BIND_IOMMUFD`
    /// on. Before `held`, so that nothing of this state is left when the device is closed: its
    /// memory is the next user's.
    pub(super) open: SetOnce<Arc<O>>,
    pub(super) held: Through<O>,
    pub(super) device: Arc<O::Device>,
    /// The virtual machine that the file itself belongs to. If it comes through a group, that of
    /// the group is what counts.
    pub(super) kvm: Pin<KBox<KvmSlot>>,
    _counted: Counted,
}

/// How its user came to a device.
pub(super) enum Through<O: HasFile> {
    /// Through a group.
    Group { _open: ThroughGroup<O> },
    /// By its own node.
    Node(Pin<KBox<ThroughNode<O>>>),
}

/// A device that is open through a group. Dropping this closes it, and lets go of the group's file
/// after that.
pub(super) struct ThroughGroup<O: HasFile> {
    device: Arc<O::Device>,
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
    let opened = through.open_device(group, |via| {
        let open = O::open(&device, via, &mut machine)?;
        let settled = match open.access().iommufd() {
            Some(iommufd) => iommufd
                .attach_compat()
                .and_then(|()| group.check_not_cut_off()),
            None => Ok(()),
        };
        match settled {
            Ok(()) => Ok(open),
            Err(err) => {
                drop(open);
                drop(O::close(&device));
                Err(err)
            }
        }
    })?;
    drop(machine);
    let unfenced = (group.fence() == Fence::Missing).then(|| device.clone());
    // From here on dropping the file's data closes the device.
    let held = ThroughGroup {
        device: device.clone(),
        through,
        _group_file: group_file,
    };
    let open = SetOnce::new();
    open.populate(opened);
    let data = DeviceFile {
        open,
        held: Through::Group { _open: held },
        device,
        kvm,
        _counted: counted,
    };
    let data = Arc::new(data, GFP_KERNEL)?;
    let file = anon_file::create(c"[vfio-device]", O::table(), data, MappedFile::mapping)?;
    if let Some(device) = unfenced {
        log::warn_opened_by_user(device.dev());
    }
    let number = fd.reserved_fd();
    fd.fd_install(file);
    Ok(number.try_into()?)
}

impl<O: HasFile> DeviceFile<O> {
    /// The device, if its user may have it by now.
    ///
    /// # Errors
    ///
    /// `EINVAL` if not.
    #[inline(always)]
    pub(super) fn open(&self) -> Result<&Arc<O>> {
        self.open.as_ref().ok_or(EINVAL)
    }
}

impl<O: HasFile> Drop for ThroughGroup<O> {
    fn drop(&mut self) {
        let device = &*self.device;
        self.through
            .close_device(device.group(), || drop(O::close(device)));
    }
}

impl<O: HasFile> KvmFile for DeviceFile<O> {
    fn kvm(&self) -> &KvmSlot {
        &self.kvm
    }

    fn enforced_coherent(&self) -> bool {
        self.device.enforces_coherency()
    }

    // An address space goes by the files of groups.
    fn kvm_changed(&self) {}
}

impl<O: HasFile> Mmap for DeviceFile<O> {
    #[inline]
    fn mmap(&self, request: MapRequest) -> Result<MapKind> {
        self.open()?.mmap(request)
    }

    fn opened(&self, offset: u64) {
        if let Ok(open) = self.open() {
            open.opened(offset);
        }
    }

    fn closed(&self, offset: u64) {
        if let Ok(open) = self.open() {
            open.closed(offset);
        }
    }

    fn placement(&self, offset: u64) -> Option<u64> {
        self.open().ok()?.placement(offset)
    }

    #[inline(always)]
    fn fault(&self, fault: PageFault<'_>) -> FaultResult {
        match self.open() {
            Ok(open) => open.fault(fault),
            Err(_) => FaultResult::SIGBUS,
        }
    }
}

impl<O: HasFile> MappedFile for DeviceFile<O> {
    fn mapping(&self) -> &Mapping {
        O::mapping(&self.device)
    }
}

impl<O: HasFile> FileOps for DeviceFile<O> {
    type OwnerModule = crate::VfioRs;
    type Node = Arc<O::Device>;

    fn open(device: &Arc<O::Device>) -> Result<Arc<Self>> {
        let counted = device.users().count()?;
        device.group().check_rawio()?;
        let file = Self {
            open: SetOnce::new(),
            held: Through::Node(KBox::pin_init(ThroughNode::new(), GFP_KERNEL_ACCOUNT)?),
            device: device.clone(),
            kvm: KBox::pin_init(KvmSlot::new(), GFP_KERNEL_ACCOUNT)?,
            _counted: counted,
        };
        Ok(Arc::new(file, GFP_KERNEL_ACCOUNT)?)
    }

    fn ioctl(this: ArcBorrow<'_, Self>, _file: &File, cmd: u32, arg: UserArg) -> Result<isize> {
        let Some(open) = this.open.as_ref() else {
            return unopened(&this, cmd, arg);
        };
        if cmd == nr::SET_IRQS {
            return open.set_irqs(arg);
        }
        if cmd == nr::BIND_IOMMUFD {
            return iommufd::bind(&this, arg).map(|()| 0);
        }
        // These wake up a device that sleeps, but do not reach it, or keep it awake themselves.
        if let nr::GET_INFO | nr::GET_REGION_INFO | nr::GET_IRQ_INFO | nr::RESET = cmd {
            let _access = open.accessed()?;
            return match cmd {
                nr::GET_INFO => get_info(&**open, arg),
                nr::GET_REGION_INFO => get_region_info(&**open, arg),
                nr::GET_IRQ_INFO => get_irq_info(&**open, arg),
                _ => open.reset(),
            }
            .map(|()| 0);
        }
        let _awake = open.awake()?;
        match cmd {
            nr::FEATURE => feature(&**open, arg),
            nr::ATTACH_IOMMUFD_PT => iommufd::attach(&this, arg).map(|()| 0),
            nr::DETACH_IOMMUFD_PT => iommufd::detach(&this, arg).map(|()| 0),
            _ => O::ioctl(open, cmd, arg),
        }
    }

    fn fdinfo_device(&self) -> Option<&device::Device> {
        Some(self.device.dev())
    }

    fn read(&self, buf: UserSlice, pos: u64) -> Result<usize> {
        self.open()?.read(buf, pos)
    }

    fn write(&self, buf: UserSlice, pos: u64) -> Result<usize> {
        self.open()?.write(buf, pos)
    }
}

/// An ioctl of a file that is not bound yet.
#[cold]
fn unopened<O: HasFile>(file: &DeviceFile<O>, cmd: u32, arg: UserArg) -> Result<isize> {
    match cmd {
        nr::BIND_IOMMUFD => iommufd::bind(file, arg).map(|()| 0),
        nr::FEATURE => feature::before_bind(file.device.group(), arg),
        _ => Err(EINVAL),
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
