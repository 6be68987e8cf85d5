// SPDX-License-Identifier: GPL-2.0
//! Devices without an IOMMU: only where the administrator says so, only for who may do anything.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::path::Path;

use nix::errno::Errno;
use vfio_client::config::{COMMAND_MASTER, COMMAND_MEMORY};
use vfio_client::group::bare_node;
use vfio_client::iommufd::{self, Ioas, Iommufd};
use vfio_client::sysfs::{self, PciDevice};
use vfio_client::uapi::*;
use vfio_client::{Container, Device, DmaBuf, Edu, Event, Group};
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::modules::Set;
use vfio_rs_selftests::nobody::{self, NOBODY};
use vfio_rs_selftests::node;
use vfio_rs_selftests::setup::{Bound, EDU, PATIENCE, is_rust_stack, read_trimmed, slowness};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite};

const NOIOMMU: u32 = VFIO_NOIOMMU_IOMMU;

/// An edu device that no IOMMU fences.
fn find() -> Result<PciDevice> {
    let all = sysfs::find_all(EDU.id.0, EDU.id.1)?;
    match all.into_iter().find(|pci| pci.group().is_none()) {
        Some(pci) => Ok(pci),
        None => skip!("every edu has an IOMMU"),
    }
}

fn allow() -> Result<Set> {
    Set::new("vfio", "enable_unsafe_noiommu_mode", "1")
}

/// One that an IOMMU fences, bound.
fn fenced() -> Result<Bound> {
    let pci = EDU.find()?;
    if pci.group().is_none() {
        skip!("no edu has an IOMMU");
    }
    EDU.bind()
}

/// A device without an IOMMU, bound. Dropping this unbinds it.
struct Bare {
    pci: PciDevice,
    group: u32,
    _allowed: Set,
}

impl Bare {
    fn bind(pci: PciDevice) -> Result<Self> {
        let allowed = allow()?;
        pci.bind_vfio().context("bind")?;
        let group = pci.group().context("no group")?;
        Ok(Self {
            pci,
            group,
            _allowed: allowed,
        })
    }

    fn new() -> Result<Self> {
        Self::bind(find()?)
    }

    fn join(&self) -> Result<(Container, Group)> {
        let container = Container::open()?;
        let group = Group::open_bare(self.group).context("open the group")?;
        group.set_container(&container).context("SET_CONTAINER")?;
        Ok((container, group))
    }

    fn open(&self) -> Result<(Container, Group, Device)> {
        let (container, group) = self.join()?;
        container.set_iommu(NOIOMMU).context("SET_IOMMU")?;
        let device = group.device(&self.pci.address).context("GET_DEVICE_FD")?;
        Ok((container, group, device))
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.pci.release();
    }
}

fn extension(container: &Container, extension: u32) -> Result<i32> {
    Ok(container.check_extension(extension)?)
}

/// Takes CAP_SYS_RAWIO from this process, for good.
fn drop_rawio() -> Outcome {
    const VERSION_3: u32 = 0x2008_0522;
    const CAP_SYS_RAWIO: u32 = 17;
    let mut header = [VERSION_3, 0];
    let mut data = [0u32; 6];
    // SAFETY: the two structs have the layout of linux/capability.h.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) };
    ensure!(got == 0, "capget: {}", std::io::Error::last_os_error());
    data[0] &= !(1 << CAP_SYS_RAWIO);
    // SAFETY: as above.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_ptr()) };
    ensure!(set == 0, "capset: {}", std::io::Error::last_os_error());
    Ok(())
}

fn not_without_the_parameter() -> Outcome {
    let pci = find()?;
    pci.set_override(Some("vfio-pci"))?;
    let mut log = Kmsg::now()?;
    pci.probe().ok();
    log.expect(&format!(
        "vfio-pci {}: probe with driver vfio-pci failed with error -22",
        pci.address
    ))?;
    same("driver", pci.driver(), None)?;
    same("group", pci.group(), None)
}

/// Why a device is not bound is one line in the log, which names the parameter.
fn the_log_says_why_not() -> Outcome {
    if !is_rust_stack() {
        skip!("C says an error number and no reason");
    }
    let pci = find()?;
    pci.set_override(Some("vfio-pci"))?;
    let mut log = Kmsg::now()?;
    pci.probe().ok();
    log.expect(&format!(
        "vfio-pci {}: Cannot bind: no IOMMU group, as no IOMMU is on for it, and enable_unsafe_noiommu_mode of vfio is off",
        pci.address
    ))?;
    pci.release()?;
    // A bridge, with an IOMMU or without, that no driver has.
    let is_free = |d: &PciDevice| {
        let header = fs::read(d.path().join("config")).unwrap_or_default();
        header.get(0xe).is_some_and(|kind| kind & 0x7f == 1) && d.driver().is_none()
    };
    let Some(bridge) = sysfs::all()?.into_iter().find(is_free) else {
        skip!("no bridge without a driver");
    };
    bridge.set_override(Some("vfio-pci"))?;
    bridge.probe().ok();
    let driver = bridge.driver();
    bridge.release()?;
    same("driver of the bridge", driver, None)?;
    log.expect(&format!(
        "vfio-pci {}: Cannot bind to a bridge, only to endpoints",
        bridge.address
    ))
}

fn names() -> Outcome {
    let mut log = Kmsg::now()?;
    let bare = Bare::new()?;
    let node = bare_node(bare.group);
    same("mode", fs::metadata(&node)?.mode(), libc::S_IFCHR | 0o600)?;
    let class = format!("/sys/class/vfio/noiommu-{}", bare.group);
    ensure!(Path::new(&class).exists(), "no {class}");
    let usual = vfio_client::group::node(bare.group);
    ensure!(!Path::new(&usual).exists(), "{usual} is there as well");
    let group = format!("/sys/kernel/iommu_groups/{}", bare.group);
    let name = read_trimmed(&format!("{group}/name"))?;
    same("name of the group", name.as_str(), "vfio-noiommu")?;
    same("members", bare.pci.group_members(), vec![bare.pci.clone()])?;
    log.expect(&format!(
        "vfio-pci {}: Adding kernel taint for vfio-noiommu group on device",
        bare.pci.address
    ))?;
    let taint: u64 = read_trimmed("/proc/sys/kernel/tainted")?.parse()?;
    same("TAINT_USER", taint & 1 << 6, 1 << 6)?;
    bare.pci.release()?;
    for path in [node, class, group] {
        ensure!(!Path::new(&path).exists(), "{path} stays");
    }
    same("group after", bare.pci.group(), None)
}

fn extensions() -> Outcome {
    let bare = Bare::new()?;
    let container = Container::open()?;
    // An empty container can become anything.
    same("at first", extension(&container, NOIOMMU)?, 1)?;
    same("type1", extension(&container, VFIO_TYPE1_IOMMU)?, 1)?;
    errno(
        "SET_IOMMU before",
        container.set_iommu(NOIOMMU),
        Errno::EINVAL,
    )?;
    let group = Group::open_bare(bare.group)?;
    same("before", group.status()?, VFIO_GROUP_FLAGS_VIABLE)?;
    group.set_container(&container)?;
    same("status", group.status()?, 3)?;
    same("with the group", extension(&container, NOIOMMU)?, 1)?;
    for other in [VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_UNMAP_ALL] {
        same("another", extension(&container, other)?, 0)?;
        errno("SET_IOMMU", container.set_iommu(other), Errno::ENODEV)?;
    }
    errno(
        "GET_DEVICE_FD",
        group.device(&bare.pci.address),
        Errno::EINVAL,
    )?;
    container.set_iommu(NOIOMMU)?;
    errno("again", container.set_iommu(NOIOMMU), Errno::EINVAL)?;
    same("once set", extension(&container, NOIOMMU)?, 1)?;
    same(
        "type1, once set",
        extension(&container, VFIO_TYPE1_IOMMU)?,
        0,
    )?;
    errno(
        "MAP_DMA",
        container.map(VFIO_DMA_MAP_FLAG_READ, 0, 0, 4096),
        Errno::ENOTTY,
    )?;
    group.unset_container()?;
    same("without the group", extension(&container, NOIOMMU)?, 1)?;
    let _withdrawn = Set::new("vfio", "enable_unsafe_noiommu_mode", "0")?;
    same("unwanted", extension(&container, NOIOMMU)?, 0)
}

fn parameter_withdrawn() -> Outcome {
    let bare = Bare::new()?;
    let (container, group) = bare.join()?;
    let withdrawn = Set::new("vfio", "enable_unsafe_noiommu_mode", "0")?;
    same("extension", extension(&container, NOIOMMU)?, 0)?;
    errno("SET_IOMMU", container.set_iommu(NOIOMMU), Errno::ENODEV)?;
    drop(withdrawn);
    container.set_iommu(NOIOMMU)?;
    // A device in use stays so.
    let _withdrawn = Set::new("vfio", "enable_unsafe_noiommu_mode", "0")?;
    same("extension, once set", extension(&container, NOIOMMU)?, 0)?;
    group.device(&bare.pci.address)?;
    Ok(())
}

fn two_groups_in_a_container() -> Outcome {
    let first = Bare::new()?;
    let Ok(second) = find() else {
        skip!("only one device without an IOMMU");
    };
    let second = Bare::bind(second)?;
    let (container, group, _device) = first.open()?;
    let other = Group::open_bare(second.group)?;
    other.set_container(&container)?;
    let device = other.device(&second.pci.address)?;
    drop(group);
    same("liveness", Edu::new(&device)?.liveness(5)?, !5)
}

fn no_mixing() -> Outcome {
    let fenced = fenced()?;
    let bare = Bare::new()?;
    let (container, group) = bare.join()?;
    let other = fenced.open_group()?;
    errno(
        "among those without",
        other.set_container(&container),
        Errno::EPERM,
    )?;
    group.unset_container()?;
    // Empty, it takes either.
    other.set_container(&container)?;
    same("extension", extension(&container, NOIOMMU)?, 0)?;
    same("type1", extension(&container, VFIO_TYPE1_IOMMU)?, 1)?;
    errno("SET_IOMMU", container.set_iommu(NOIOMMU), Errno::ENODEV)?;
    errno(
        "among those with",
        group.set_container(&container),
        Errno::EPERM,
    )?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    errno("once set", group.set_container(&container), Errno::EPERM)
}

fn fenced_devices_stay_so() -> Outcome {
    let _allowed = allow()?;
    let bound = fenced()?;
    let (container, _group) = bound.join()?;
    errno("SET_IOMMU", container.set_iommu(NOIOMMU), Errno::ENODEV)?;
    container.set_iommu(VFIO_TYPE1_IOMMU)?;
    Ok(())
}

fn takes_a_capability() -> Outcome {
    let bare = Bare::new()?;
    let (container, group) = bare.join()?;
    let spare = Container::open()?;
    drop_rawio()?;
    errno("SET_IOMMU", container.set_iommu(NOIOMMU), Errno::EPERM)?;
    group.unset_container()?;
    errno("SET_CONTAINER", group.set_container(&spare), Errno::EPERM)?;
    drop(group);
    errno("open", Group::open_bare(bare.group), Errno::EPERM)
}

fn first_open_takes_a_capability() -> Outcome {
    let bare = Bare::new()?;
    let (container, group) = bare.join()?;
    container.set_iommu(NOIOMMU)?;
    let device = group.device(&bare.pci.address)?;
    drop_rawio()?;
    // A device that somebody has open already is shared.
    drop(group.device(&bare.pci.address)?);
    drop(device);
    errno(
        "GET_DEVICE_FD",
        group.device(&bare.pci.address),
        Errno::EPERM,
    )?;
    // The capability comes first.
    drop(group);
    errno("open", Group::open_bare(bare.group), Errno::EPERM)
}

fn device_works() -> Outcome {
    let bare = Bare::new()?;
    let mut log = Kmsg::now()?;
    let (_container, group, device) = bare.open()?;
    log.expect(&format!(
        "vfio-pci {}: vfio-noiommu device opened by user (",
        bare.pci.address
    ))?;
    errno(
        "a second opener",
        Group::open_bare(bare.group),
        Errno::EBUSY,
    )?;
    errno("UNSET_CONTAINER", group.unset_container(), Errno::EBUSY)?;
    device
        .config()?
        .update_command(0, COMMAND_MEMORY | COMMAND_MASTER)?;
    let edu = Edu::new(&device)?;
    same("factorial", edu.factorial(10)?, 3_628_800)?;
    if Path::new("/sys/class/iommu/dmar0").exists() {
        // Beside an IOMMU that remaps interrupts, Linux has none for devices that it does not
        // serve.
        return Ok(());
    }
    let event = Event::new()?;
    device.enable_irqs(VFIO_PCI_MSI_IRQ_INDEX, &[event.as_raw_fd()])?;
    edu.raise_irq(1)?;
    ensure!(event.wait(PATIENCE * slowness())?.is_some(), "no interrupt");
    edu.ack_irq(1).context("acknowledge the interrupt")
}

/// Where a page of this process is in the machine's memory.
fn physical(addr: u64) -> Result<u64> {
    let mut entry = [0; 8];
    File::open("/proc/self/pagemap")?.read_exact_at(&mut entry, addr / 4096 * 8)?;
    let entry = u64::from_ne_bytes(entry);
    ensure!(entry >> 63 == 1, "the page is not in memory");
    Ok((entry & ((1 << 55) - 1)) * 4096)
}

fn dma_to_physical_memory() -> Outcome {
    let bare = Bare::new()?;
    let (_container, _group, device) = bare.open()?;
    device
        .config()?
        .update_command(0, COMMAND_MEMORY | COMMAND_MASTER)?;
    let buf = DmaBuf::new(4096)?;
    buf.put(0, b"by its physical address");
    // SAFETY: our own page, locked so that it stays where it is.
    let locked = unsafe { libc::mlock(buf.addr() as *const _, 4096) };
    same("mlock", locked, 0)?;
    let at = physical(buf.addr())?;
    let edu = Edu::new(&device)?;
    edu.fetch(at, 64)?;
    edu.store(at + 2048, 64)?;
    let got = buf.copy(2048, 23);
    if got != b"by its physical address" && at >> 28 != 0 {
        skip!("this edu reaches the first 256 MiB only");
    }
    same(
        "copy",
        got.as_slice(),
        b"by its physical address".as_slice(),
    )
}

/// Its own node, too, is for who may do anything.
fn by_its_own_node() -> Outcome {
    node::prepare()?;
    let bare = Bare::new()?;
    let Ok(path) = iommufd::node(&bare.pci) else {
        skip!("iommufd serves none of these");
    };
    let name = path.file_name().and_then(|name| name.to_str());
    ensure!(
        name.is_some_and(|name| name.starts_with("noiommu-vfio")),
        "{name:?}"
    );
    chown(&path, Some(NOBODY), Some(NOBODY))?;
    let mut other = nobody::spawn(|| {
        let open = File::options().read(true).write(true).open(&path);
        errno("as nobody", open, Errno::EPERM)
    })?;
    other.ended_well("nobody")?;
    let device = Device::open_node(&bare.pci)?;
    let ioas = Ioas::new()?;
    ensure!(device.bind_iommufd(&ioas)? != 0, "no number");
    device.info()?;
    device.attach_pt(ioas.id())?;
    same("liveness", Edu::new(&device)?.liveness(5)?, !5)?;
    let group = Group::open_bare(bare.group).map(drop);
    errno("its group", group, Errno::EBUSY)
}

/// A group that has an iommufd in place of a container: one that has no address spaces for others.
fn by_group_and_iommufd() -> Outcome {
    node::prepare()?;
    let bare = Bare::new()?;
    let group = Group::open_bare(bare.group)?;
    let used = Iommufd::open()?;
    let fenced = fenced()?.open_group()?;
    fenced.set_container_fd(used.as_raw_fd())?;
    let refused = group.set_container_fd(used.as_raw_fd());
    errno("one with an address space", refused, Errno::EINVAL)?;
    let iommufd = Iommufd::open()?;
    group.set_container_fd(iommufd.as_raw_fd())?;
    errno("its address space", iommufd.compat_ioas(), Errno::ENODEV)?;
    let device = group.device(&bare.pci.address)?;
    same("liveness", Edu::new(&device)?.liveness(5)?, !5)?;
    drop(device);
    let refused = fenced.unset_container().and_then(|()| {
        let other = &iommufd;
        fenced.set_container_fd(other.as_raw_fd())
    });
    errno("a group with an IOMMU", refused, Errno::EINVAL)
}

suite!(
    iommus: All, debug: Answers;
    not_without_the_parameter,
    the_log_says_why_not,
    names,
    extensions,
    parameter_withdrawn,
    two_groups_in_a_container,
    no_mixing,
    fenced_devices_stay_so,
    takes_a_capability,
    first_open_takes_a_capability,
    device_works,
    dma_to_physical_memory,
    by_its_own_node,
    by_group_and_iommufd,
);
