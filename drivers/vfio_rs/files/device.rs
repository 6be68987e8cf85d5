// SPDX-License-Identifier: GPL-2.0

//! A device's file: its ioctls, reads, writes and maps.

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
    pci::IoWidth,
    uapi,
    user_area::{
        self,
        UserArea, //
    },
};

use super::{
    feature::feature,
    hot_reset, //
};
use crate::{
    backend::Fence,
    iommu_group::Group,
    pci::{
        BarPart,
        Device,
        Open,
        Region, //
    },
    uapi::{
        caps::CapChain,
        device_nr as nr,
        irq_set::IrqSet,
        offset_of_end, //
    },
};

/// The operations of a device's file.
pub(super) static FILE_OPS: FileOpsTable<DeviceFile, Anon> = FileOpsTable::anon();

/// An open device.
pub(super) struct DeviceFile {
    // Before `held`, so that nothing of this state is left when the device is closed: its BARs are
    // the next user's.
    open: Arc<Open>,
    held: Held,
    /// The virtual machine that the file itself belongs to; that of the group is what counts.
    kvm: Pin<KBox<KvmSlot>>,
}

/// One open of a device. Dropping this closes it, and lets go of the group's file after that.
struct Held {
    device: Counted,
    /// The group that it was opened through: its own, or the one that has joined.
    through: Arc<Group>,
    _group_file: ARef<File>,
}

/// A device that is not unbound as long as this lives.
struct Counted(Arc<Device>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.put();
    }
}

/// Opens `device`, which [`Group::find_device`] of `through` counted, and returns the new
/// descriptor.
pub(crate) fn open(
    device: Arc<Device>,
    through: Arc<Group>,
    group_file: ARef<File>,
) -> Result<isize> {
    let device = Counted(device);
    let fd = FileDescriptorReservation::get_unused_fd_flags(flags::O_CLOEXEC)?;
    let kvm = KBox::pin_init(KvmSlot::new(), GFP_KERNEL)?;
    let (group, pci) = (device.0.group().clone(), device.0.pci().clone());
    // Dropped without a lock if it is not needed, as it may be the end of the machine.
    let mut machine = group.kvm_through(&through);
    let open = through.open_device(&group, |backend| device.0.open(backend, &mut machine))?;
    drop(machine);
    // From here on dropping the file's data closes the device.
    let held = Held {
        device,
        through,
        _group_file: group_file,
    };
    let data = DeviceFile { open, held, kvm };
    let data = Arc::new(data, GFP_KERNEL)?;
    let file = anon_file::create(c"[vfio-device]", &FILE_OPS, data, |data| {
        data.held.device.0.mapping()
    })?;
    if group.fence() == Fence::Missing {
        log::warn_opened_by_user(pci.device());
    }
    let number = fd.reserved_fd();
    fd.fd_install(file);
    Ok(number.try_into()?)
}

/// What the current process has at `vaddr`; see [`user_area::at`]. For a map of a device's file,
/// what memory of the device that is; which does not keep the device open.
pub(crate) fn area_at(vaddr: usize, max: usize, writable: bool) -> Result<UserArea<BarPart>> {
    user_area::at(&FILE_OPS, vaddr, max, writable, |data, part| {
        data.open.bar_part(part)
    })
}

impl Drop for Held {
    fn drop(&mut self) {
        let device = &self.device.0;
        let kvm = self.through.close_device(device.group(), || device.close());
        // Not under a lock, as it may be the end of the machine.
        drop(kvm);
    }
}

impl KvmFile for DeviceFile {
    fn kvm(&self) -> &KvmSlot {
        &self.kvm
    }

    fn enforced_coherent(&self) -> bool {
        self.held.device.0.pci().enforces_cache_coherency()
    }
}

impl Mmap for DeviceFile {
    #[inline]
    fn mmap(&self, request: MapRequest) -> Result<MapKind> {
        self.open.add_map(request)
    }

    fn opened(&self, offset: u64) {
        self.open.add_area(offset);
    }

    fn closed(&self, offset: u64) {
        self.open.remove_area(offset);
    }

    fn placement(&self, offset: u64) -> Option<u64> {
        self.open.placement(offset)
    }

    #[inline(always)]
    fn fault(&self, fault: Fault<'_>) -> FaultResult {
        self.open.fault(fault)
    }
}

impl FileOps for DeviceFile {
    type OwnerModule = crate::VfioRs;
    type Node = ();

    fn ioctl(this: ArcBorrow<'_, Self>, _file: &File, cmd: u32, arg: UserArg) -> Result<isize> {
        let open = &*this.open;
        if cmd == nr::SET_IRQS {
            return set_irqs(open, arg);
        }
        let _awake = open.awake()?;
        match cmd {
            nr::GET_INFO => get_info(open, arg).map(|()| 0),
            nr::GET_REGION_INFO => get_region_info(open, arg).map(|()| 0),
            nr::GET_IRQ_INFO => get_irq_info(open, arg).map(|()| 0),
            nr::RESET => open.reset().map(|()| 0),
            nr::GET_PCI_HOT_RESET_INFO => hot_reset::get_info(open, arg).map(|()| 0),
            nr::PCI_HOT_RESET => hot_reset::hot_reset(open, arg).map(|()| 0),
            nr::IOEVENTFD => ioeventfd(&this.open, arg).map(|()| 0),
            nr::FEATURE => feature(open, arg),
            _ => Err(ENOTTY),
        }
    }

    fn fdinfo_device(&self) -> Option<&device::Device> {
        Some(self.held.device.0.pci().device())
    }

    fn read(&self, buf: UserSlice, pos: u64) -> Result<usize> {
        self.open.read(buf, pos)
    }

    fn write(&self, buf: UserSlice, pos: u64) -> Result<usize> {
        self.open.write(buf, pos)
    }
}

/// `VFIO_DEVICE_GET_INFO`.
fn get_info(open: &Open, arg: UserArg) -> Result {
    type Info = uapi::vfio_device_info;
    const MIN: usize = offset_of_end!(Info, num_irqs);

    let user: Info = arg.read_min(MIN)?;
    if (user.argsz as usize) < MIN {
        return Err(EINVAL);
    }
    let mut flags = uapi::VFIO_DEVICE_FLAGS_PCI;
    if open.can_reset() {
        flags |= uapi::VFIO_DEVICE_FLAGS_RESET;
    }
    let mut caps = CapChain::after(size_of::<Info>());
    let atomics = open.atomic_completions();
    if atomics != 0 {
        const ID: u32 = uapi::VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP;
        caps.push(ID, 1, &[&atomics.to_ne_bytes(), &[0; 4]])?;
        flags |= uapi::VFIO_DEVICE_FLAGS_CAPS;
    }
    caps.write(arg, user.argsz, user.argsz as usize, |argsz, cap_offset| {
        Info {
            argsz,
            flags,
            num_regions: open.region_count(),
            num_irqs: uapi::VFIO_PCI_NUM_IRQS,
            cap_offset,
            pad: 0,
        }
    })
}

/// `VFIO_DEVICE_GET_REGION_INFO`.
fn get_region_info(open: &Open, arg: UserArg) -> Result {
    type Info = uapi::vfio_region_info;
    const MIN: usize = offset_of_end!(Info, offset);

    let user: Info = arg.read_min(MIN)?;
    if (user.argsz as usize) < MIN {
        return Err(EINVAL);
    }
    let info = open.region_info(Region::from_index(user.index))?;
    let mut caps = CapChain::after(size_of::<Info>());
    let mut flags = info.flags;
    if info.msix_mappable {
        caps.push(uapi::VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 1, &[])?;
        flags |= uapi::VFIO_REGION_INFO_FLAG_CAPS;
    }
    if let Some(kind) = info.kind {
        let body = [&kind.ty.to_ne_bytes()[..], &kind.subtype.to_ne_bytes()];
        caps.push(uapi::VFIO_REGION_INFO_CAP_TYPE, 1, &body)?;
        flags |= uapi::VFIO_REGION_INFO_FLAG_CAPS;
    }
    if let Some(offset) = info.write_combining {
        let body = [
            &uapi::VFIO_REGION_MMAP_ALT_WC.to_ne_bytes()[..],
            &uapi::VFIO_REGION_MMAP_ALT_FLAG_EXCLUSIVE.to_ne_bytes(),
            &offset.to_ne_bytes(),
            &info.size.to_ne_bytes(),
        ];
        caps.push(uapi::VFIO_REGION_INFO_CAP_MMAP_ALT, 1, &body)?;
        flags |= uapi::VFIO_REGION_INFO_FLAG_CAPS;
    }
    caps.write(arg, user.argsz, MIN, |argsz, cap_offset| Info {
        argsz,
        flags,
        index: user.index,
        cap_offset,
        size: info.size,
        offset: info.offset,
    })
}

/// `VFIO_DEVICE_GET_IRQ_INFO`.
fn get_irq_info(open: &Open, arg: UserArg) -> Result {
    type Info = uapi::vfio_irq_info;
    const MIN: usize = offset_of_end!(Info, count);

    let user: Info = arg.read_min(MIN)?;
    if (user.argsz as usize) < MIN || user.index >= uapi::VFIO_PCI_NUM_IRQS {
        return Err(EINVAL);
    }
    let info = Info {
        flags: open.irq_flags(user.index),
        count: open.irq_count(user.index),
        ..user
    };
    arg.write_prefix(&info, MIN)
}

/// `VFIO_DEVICE_IOEVENTFD`.
fn ioeventfd(open: &Arc<Open>, arg: UserArg) -> Result {
    type Request = uapi::vfio_device_ioeventfd;
    const MIN: usize = offset_of_end!(Request, fd);

    let request: Request = arg.read_min(MIN)?;
    if (request.argsz as usize) < MIN {
        return Err(EINVAL);
    }
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

/// `VFIO_DEVICE_SET_IRQS`.
fn set_irqs(open: &Open, arg: UserArg) -> Result<isize> {
    // Wakes up a device that its user lets sleep, and else costs nothing.
    let _access = open.access()?;
    let set = IrqSet::read(arg, |index| open.irq_count(index))?;
    let _awake = match set.only_signals() {
        true => None,
        false => Some(open.awake()?),
    };
    // ERRNO: ENOTTY for an action that is none, as vfio_pci_set_irqs_ioctl().
    let action = set.action.ok_or(ENOTTY)?;
    open.set_irqs(set.index, action, set.start, set.count, &set.data)
}
