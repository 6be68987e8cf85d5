// SPDX-License-Identifier: GPL-2.0
//! Devices by their own nodes, and groups that have an iommufd in place of a container: what they
//! do.

use std::any::Any;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::mman::{MmapAdvise, madvise};
use vfio_client::counters::locked_kib;
use vfio_client::edu::{BUFFER_SIZE, Edu};
use vfio_client::iommufd::{self, Iommufd};
use vfio_client::kvm::FileAction;
use vfio_client::uapi::*;
use vfio_client::{Device, DmaBuf, sys};
use vfio_rs_selftests::kmsg::Kmsg;
use vfio_rs_selftests::machine::machine;
use vfio_rs_selftests::modules::{Set, TestModule, parameter};
use vfio_rs_selftests::node::{self, ByNode};
use vfio_rs_selftests::order::permutations;
use vfio_rs_selftests::reset::{bridged, raw_reset};
use vfio_rs_selftests::setup::{
    E1000E, EDU, Freed, IGB, IOVA, PAGE, PATIENCE, is_rust_stack, read_trimmed, shared_group,
    slowness,
};
use vfio_rs_selftests::{Context, Outcome, Result, ensure, errno, same, skip, suite, until};

/// Has edu take what is at [`IOVA`], and put it to the page behind.
fn carry(edu: &Edu<'_>, buf: &DmaBuf) -> Result<bool> {
    let page = PAGE as usize;
    buf.put(0, &vec![0xa5; page]);
    buf.put(page, &vec![0; page]);
    edu.fetch(IOVA, BUFFER_SIZE)?;
    edu.store(IOVA + PAGE, BUFFER_SIZE)?;
    Ok(buf.is_filled(page, page, 0xa5))
}

fn moves_data() -> Outcome {
    let edu = node::attach(&EDU)?;
    let buf = edu.map_new(IOVA, 2)?;
    let device = Edu::new(&edu.device)?;
    ensure!(carry(&device, &buf)?, "the data did not come");
    edu.device.detach_pt()?;
    ensure!(!carry(&device, &buf)?, "DMA of a device that is detached");
    edu.device.attach_pt(edu.ioas.id())?;
    ensure!(carry(&device, &buf)?, "the data did not come again");
    Ok(())
}

/// Another address space instead of the one that the device sees.
fn replaces() -> Outcome {
    let edu = node::attach(&EDU)?;
    let iommufd = edu.ioas.iommufd();
    let first = edu.map_new(IOVA, 2)?;
    let other = iommufd.alloc_ioas()?;
    let second = DmaBuf::new(2 * PAGE as usize)?;
    iommufd.map(other, second.addr(), IOVA, 2 * PAGE)?;
    let device = Edu::new(&edu.device)?;
    for _ in 0..3 {
        edu.device.attach_pt(other)?;
        ensure!(carry(&device, &second)?, "the other one");
        edu.device.attach_pt(edu.ioas.id())?;
        ensure!(carry(&device, &first)?, "the first one");
    }
    errno("a bad one", edu.device.attach_pt(12345), Errno::ENOENT)?;
    ensure!(carry(&device, &first)?, "the first one after a bad one");
    Ok(())
}

/// In whatever order things are closed.
fn iommufd_closed_first() -> Outcome {
    let ByNode {
        device,
        ioas,
        bound,
    } = node::attach(&EDU)?;
    let buf = DmaBuf::new(2 * PAGE as usize)?;
    ioas.map(buf.addr(), IOVA, 2 * PAGE)?;
    drop(ioas);
    let edu = Edu::new(&device)?;
    ensure!(carry(&edu, &buf)?, "the data did not come");
    drop(device);
    drop(bound.open_group()?);
    Ok(())
}

/// A device, its address space, a map of its BAR and a virtual machine that knows it, in whatever
/// order they go.
fn closed_in_each_order() -> Outcome {
    let bound = node::open(&EDU)?.0;
    for (round, order) in (0..).zip(permutations(4)) {
        // A sample on a slow kernel.
        if slowness() > 1 && round % 5 != 0 {
            continue;
        }
        let ByNode { device, ioas, .. } = node::attach(&EDU)?;
        let buf = DmaBuf::new(PAGE as usize)?;
        ioas.map(buf.addr(), IOVA, PAGE)?;
        let region = device.region(VFIO_PCI_BAR0_REGION_INDEX)?;
        let map = device.mmap(&region, 0, PAGE as usize)?;
        same("register", map.read32(0) & 0xff, 0xed)?;
        let (vm, kvm) = machine()?;
        kvm.file(FileAction::Add, device.as_raw_fd())?;
        let mut things: [Option<Box<dyn Any>>; 4] = [
            Some(Box::new(device)),
            Some(Box::new(ioas)),
            Some(Box::new(map)),
            Some(Box::new((kvm, vm))),
        ];
        for thing in order {
            things[thing] = None;
        }
        same("locked", locked_kib()?, 0)?;
        drop(bound.open_group()?);
    }
    Ok(())
}

/// A device that has mappings in its regions' file is closed with its last one.
fn maps_keep_it_open() -> Outcome {
    let edu = node::attach(&EDU)?;
    let region = edu.device.region(VFIO_PCI_BAR0_REGION_INDEX)?;
    let map = edu.device.mmap(&region, 0, PAGE as usize)?;
    same("register", map.read32(0) & 0xff, 0xed)?;
    let ByNode { device, bound, .. } = edu;
    drop(device);
    errno(
        "the group while it is mapped",
        vfio_client::Group::open(bound.group).map(drop),
        Errno::EBUSY,
    )?;
    same("register", map.read32(0) & 0xff, 0xed)?;
    drop(map);
    drop(bound.open_group()?);
    Ok(())
}

/// Devices of one group belong to one context.
fn two_contexts_for_a_group() -> Outcome {
    node::prepare()?;
    let devices = shared_group()?;
    let [first, second, ..] = &devices[..] else {
        skip!("needs two devices of a group");
    };
    let _freed = Freed::around(first)?;
    first.bind_vfio()?;
    second.bind_vfio()?;
    let (one, other) = (Iommufd::open()?, Iommufd::open()?);
    let (a, b) = (Device::open_node(first)?, Device::open_node(second)?);
    a.bind_iommufd(&one)?;
    errno("another context", b.bind_iommufd(&other), Errno::EPERM)?;
    errno("still unbound", b.info(), Errno::EINVAL)?;
    b.bind_iommufd(&one)?;
    b.info()?;
    drop(a);
    errno(
        "the group with one open",
        vfio_client::Group::open(first.group().context("no group")?).map(drop),
        Errno::EBUSY,
    )
}

fn hot_reset_info(device: &Device) -> io::Result<(u32, Vec<u32>)> {
    let mut words = [0u32; 3 + 2 * 64];
    words[0] = 4 * words.len() as u32;
    let mut bytes = vec![0u64; words.len().div_ceil(2)];
    sys::bytes_mut(&mut bytes)[..4].copy_from_slice(&words[0].to_ne_bytes());
    sys::with_buffer(device, DEVICE_GET_PCI_HOT_RESET_INFO, &mut bytes)?;
    let word = |at: usize| {
        let bytes = sys::bytes(&bytes);
        u32::from_ne_bytes(bytes[4 * at..4 * at + 4].try_into().unwrap_or_default())
    };
    let count = word(2) as usize;
    Ok((word(1), (0..count).map(|at| word(3 + 2 * at)).collect()))
}

/// `VFIO_PCI_DEVID_OWNED`: the id of a device that is the context's and not bound.
const OWNED: u32 = 0;

/// A context owns all devices of its groups, and those of them that it has bound have numbers.
fn hot_reset_of_several() -> Outcome {
    node::prepare()?;
    let devices = bridged()?;
    let [first, second, ..] = &devices[..] else {
        skip!("needs two devices of a bus");
    };
    first.bind_vfio()?;
    second.bind_vfio()?;
    let iommufd = Iommufd::open()?;
    let (a, b) = (Device::open_node(first)?, Device::open_node(second)?);
    let own = a.bind_iommufd(&iommufd)?;
    let told = |what: &str, want: &[u32]| -> Outcome {
        let (flags, mut ids) = hot_reset_info(&a)?;
        let owned = VFIO_PCI_HOT_RESET_FLAG_DEV_ID | VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
        same(what, flags, owned)?;
        ids.sort_unstable();
        // The bus has no more functions, but the bridge's group may have more members.
        ids.retain(|id| *id != OWNED || want.contains(&OWNED));
        ids.dedup();
        same(what, ids.as_slice(), want)
    };
    told("one bound", &[OWNED, own])?;
    raw_reset(&a, 12, 0, 0, &[]).context("one bound")?;
    let other = b.bind_iommufd(&iommufd)?;
    let mut both = [own, other];
    both.sort_unstable();
    told("both bound", &both)?;
    for device in [&a, &b] {
        raw_reset(device, 12, 0, 0, &[]).context("both bound")?;
        a.info()?;
        b.info()?;
    }
    // Not by showing what is no group.
    errno(
        "a device for a group",
        raw_reset(&a, 16, 0, 1, &[b.as_raw_fd()]),
        Errno::EINVAL,
    )?;
    drop(b);
    told("one closed", &[OWNED, own])?;
    raw_reset(&a, 12, 0, 0, &[]).context("one closed")?;
    Ok(())
}

/// Address spaces are exchanged: at no moment is the device attached to anything else.
fn replaces_leave_no_gap() -> Outcome {
    const ROUNDS: u32 = 100;
    let (bound, device) = node::open(&EDU)?;
    let iommufd = Iommufd::open()?;
    let dev = device.bind_iommufd(&iommufd)?;
    let bufs = [PAGE as usize; 2].map(DmaBuf::new);
    let mut tables = Vec::new();
    for buf in &bufs {
        let buf = buf.as_ref().map_err(|e| anyhow::anyhow!("memory: {e}"))?;
        let ioas = iommufd.alloc_ioas()?;
        iommufd.map(ioas, buf.addr(), IOVA, PAGE)?;
        tables.push(iommufd.alloc_hwpt(dev, ioas)?);
    }
    device.attach_pt(tables[0])?;
    let arguments = [
        format!("device={}", bound.pci.address),
        format!("iova={IOVA}"),
    ];
    let arguments = arguments.each_ref().map(String::as_str);
    let watch = TestModule::load("vfio_rs_domain", &arguments)?;
    let count = |name| -> Result<u64> { Ok(parameter("vfio_rs_domain", name)?.parse()?) };
    // Looks that began after this was called have ended when it returns.
    let looked = || -> Outcome {
        let seen = count("looks")?;
        until("it looks", PATIENCE * slowness(), || {
            Ok(count("looks")? > seen + 1)
        })
    };
    for round in 1..=ROUNDS {
        device.attach_pt(tables[round as usize % 2])?;
        if round % 10 == 0 {
            looked()?;
        }
    }
    same("gaps", count("gaps")?, 0)?;
    // And it would have seen one.
    device.detach_pt()?;
    looked()?;
    ensure!(count("gaps")? > 0, "no gap while detached");
    drop(watch);
    Ok(())
}

/// Without groups to show, the context says what its user may reset.
fn hot_reset() -> Outcome {
    let igb = node::attach(&IGB)?;
    let (flags, ids) = match hot_reset_info(&igb.device) {
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => skip!("no hot reset"),
        info => info?,
    };
    let iommufd = igb.ioas.iommufd();
    ensure!(
        flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID != 0,
        "flags {flags:#x}"
    );
    let owned = flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED != 0;
    let others = ids.contains(&u32::MAX);
    same("owned", owned, !others)?;
    let own = ids.iter().find(|id| **id != u32::MAX && **id != 0);
    let own = *own.context("the device is not among them")?;
    errno(
        "the id is a device's",
        igb.device.attach_pt(own),
        Errno::EINVAL,
    )?;
    let group = |fds: &[i32]| {
        let mut head = vec![12 + 4 * fds.len() as u32, 0, fds.len() as u32];
        head.extend(fds.iter().map(|fd| *fd as u32));
        let mut bytes = vec![0u64; head.len().div_ceil(2)];
        for (at, word) in head.iter().enumerate() {
            sys::bytes_mut(&mut bytes)[4 * at..4 * at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        sys::with_buffer(&igb.device, DEVICE_PCI_HOT_RESET, &mut bytes)
    };
    errno(
        "with a descriptor",
        group(&[iommufd.as_raw_fd()]),
        Errno::EINVAL,
    )?;
    match owned {
        true => group(&[]).map(drop)?,
        false => errno("others' devices", group(&[]), Errno::EINVAL)?,
    }
    igb.device.info()?;
    Ok(())
}

/// A group that has an iommufd in place of a container.
fn group_with_iommufd() -> Outcome {
    node::prepare()?;
    let bound = EDU.bind()?;
    let group = bound.open_group()?;
    let iommufd = Iommufd::open()?;
    errno(
        "no container yet",
        group.device(&bound.pci.address).map(drop),
        Errno::EINVAL,
    )?;
    group.set_container_fd(iommufd.as_raw_fd())?;
    errno(
        "twice",
        group.set_container_fd(iommufd.as_raw_fd()),
        Errno::EINVAL,
    )?;
    let flags = VFIO_GROUP_FLAGS_CONTAINER_SET | VFIO_GROUP_FLAGS_VIABLE;
    same("status", group.status()?, flags)?;
    let container = vfio_client::Container::open_at(iommufd::NODE)?;
    // Another context: that of the group is what counts.
    drop(container);
    let ioas = iommufd.compat_ioas()?;
    let ioctl = |nr, value| sys::with_value(&iommufd, nr, value);
    same("version", ioctl(GET_API_VERSION, 0)?, 0)?;
    same(
        "type1v2",
        ioctl(CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU as usize)?,
        1,
    )?;
    ioctl(SET_IOMMU, VFIO_TYPE1v2_IOMMU as usize)?;
    let device = group.device(&bound.pci.address)?;
    let again = group.device(&bound.pci.address)?;
    if is_rust_stack() {
        // C lets it go, and the devices stay open.
        errno("in use", group.unset_container(), Errno::EBUSY)?;
    }
    let buf = DmaBuf::new(2 * PAGE as usize)?;
    let mut map = vfio_iommu_type1_dma_map {
        argsz: argsz::<vfio_iommu_type1_dma_map>(),
        flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        vaddr: buf.addr(),
        iova: IOVA,
        size: 2 * PAGE,
    };
    sys::with_struct(&iommufd, IOMMU_MAP_DMA, &mut map)?;
    let edu = Edu::new(&device)?;
    ensure!(carry(&edu, &buf)?, "the data did not come");
    iommufd.unmap(ioas, IOVA, 2 * PAGE)?;
    ensure!(!carry(&edu, &buf)?, "DMA of what is unmapped");
    if is_rust_stack() {
        let other = E1000E.bind()?.open_group()?;
        errno("MERGE", group.merge(&other), Errno::EINVAL)?;
        errno("MERGE of it", other.merge(&group), Errno::EINVAL)?;
        errno("SPLIT", group.split(&other), Errno::EINVAL)?;
    }
    drop(device);
    if is_rust_stack() {
        errno("in use still", group.unset_container(), Errno::EBUSY)?;
    }
    drop(again);
    group.unset_container()?;
    same("status", group.status()?, VFIO_GROUP_FLAGS_VIABLE)?;
    // And by a container, as ever.
    let container = vfio_client::Container::open()?;
    group.set_container(&container)?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    drop(group.device(&bound.pci.address)?);
    Ok(())
}

/// Nothing is locked or pinned when the memory has gone before the device.
fn memory_that_goes() -> Outcome {
    let edu = node::attach(&EDU)?;
    let buf = edu.map_new(IOVA, 2)?;
    let at = std::ptr::NonNull::new(buf.addr() as *mut _).context("null")?;
    // SAFETY: the memory is the buffer's, of which nobody has a reference.
    unsafe { madvise(at, 2 * PAGE as usize, MmapAdvise::MADV_DONTNEED) }?;
    let device = Edu::new(&edu.device)?;
    device.fetch(IOVA, BUFFER_SIZE)?;
    edu.ioas.unmap(IOVA, 2 * PAGE)?;
    Ok(())
}

/// Only devices that are alone in their group have nodes, if an administrator wants it so.
fn nodes_of_singletons() -> Outcome {
    if !is_rust_stack() {
        skip!("only here");
    }
    node::prepare()?;
    let devices = shared_group()?;
    let [first, second, ..] = &devices[..] else {
        skip!("needs two devices of a group");
    };
    let _freed = Freed::around(first)?;
    second.bind_vfio()?;
    iommufd::node(second).context("a node by default")?;
    let file = "/sys/module/vfio/parameters/cdev_groups";
    errno("another word", fs::write(file, "some"), Errno::EINVAL)?;
    same("default", read_trimmed(file)?.as_str(), "all")?;
    let policy = Set::new("vfio", "cdev_groups", "singleton")?;
    same("now", read_trimmed(file)?.as_str(), "singleton")?;
    first.bind_vfio()?;
    ensure!(iommufd::node(first).is_err(), "a node of one of several");
    let name = fs::read_dir(first.path().join("vfio-dev"))?.count();
    same("its name", name, 1)?;
    let iommufd = Iommufd::open()?;
    let mut log = Kmsg::now()?;
    let early = Device::open_node(second)?;
    errno(
        "BIND of one with a node",
        early.bind_iommufd(&iommufd),
        Errno::EBUSY,
    )?;
    log.expect("not to be had one by one")?;
    let alone = EDU.bind()?;
    let device = Device::open_node(&alone.pci)?;
    device.bind_iommufd(&iommufd)?;
    drop(policy);
    early.bind_iommufd(&iommufd).context("by default again")?;
    Ok(())
}

suite!(
    iommus: All, debug: Lifetimes;
    moves_data,
    replaces,
    iommufd_closed_first,
    closed_in_each_order,
    maps_keep_it_open,
    two_contexts_for_a_group,
    hot_reset,
    hot_reset_of_several,
    replaces_leave_no_gap,
    group_with_iommufd,
    memory_that_goes,
    nodes_of_singletons,
);
