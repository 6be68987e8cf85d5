// SPDX-License-Identifier: GPL-2.0
//! The container: extensions, SET_IOMMU, and calls that come too early.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use vfio_client::sys;
use vfio_client::uapi::*;
use vfio_client::{Container, DmaBuf, Edu};
use vfio_rs_selftests::setup::{E1000E, EDU, IOVA, PAGE, read_trimmed};
use vfio_rs_selftests::{Outcome, Result, ensure, errno, same, suite};

fn api_version() -> Outcome {
    let container = Container::open()?;
    same("version", container.api_version()?, 0)?;
    // The argument is not looked at.
    same(
        "with an argument",
        sys::with_value(&container, GET_API_VERSION, usize::MAX)?,
        0,
    )
}

fn extensions_without_iommu() -> Outcome {
    let container = Container::open()?;
    let want = [
        (0, 0),
        (1, 1),
        (2, 0),
        (3, 1),
        (4, 0),
        (5, 0),
        (6, 0),
        (7, 0),
        (8, 0),
        (9, 1),
        (10, 0),
        (11, 0),
    ];
    for (extension, result) in want.into_iter().chain([(99, 0), (u32::MAX, 0)]) {
        same(
            &format!("extension {extension}"),
            container.check_extension(extension)?,
            result,
        )?;
    }
    let big = sys::with_value(&container, CHECK_EXTENSION, usize::MAX)?;
    same("an extension of 64 bits", big, 0)
}

fn extensions_with_iommu() -> Outcome {
    let (container, _group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let want = [
        (0, 0),
        (1, 1),
        (2, 0),
        (3, 1),
        (6, 0),
        (7, 0),
        (8, 0),
        (9, 1),
        (99, 0),
    ];
    for (extension, result) in want {
        same(
            &format!("extension {extension}"),
            container.check_extension(extension)?,
            result,
        )?;
    }
    same(
        "UPDATE_VADDR",
        container.check_extension(EXT_UPDATE_VADDR)?,
        1,
    )?;
    // This one depends on the machine.
    let offered = container.check_extension(EXT_DMA_CC)?;
    match can_snoop()? {
        Some(can) => same("DMA_CC", offered, i32::from(can)),
        None => {
            ensure!(matches!(offered, 0 | 1), "DMA_CC is {offered}");
            Ok(())
        }
    }
}

/// Whether the IOMMU can have all DMA snoop the caches, if it is VT-d, which tells.
fn can_snoop() -> Result<Option<bool>> {
    /// Snoop Control of the extended capability register.
    const SNOOP_CONTROL: u64 = 1 << 7;
    let path = "/sys/class/iommu/dmar0/intel-iommu/ecap";
    if !Path::new(path).exists() {
        return Ok(None);
    }
    let ecap = u64::from_str_radix(&read_trimmed(path)?, 16)?;
    Ok(Some(ecap & SNOOP_CONTROL != 0))
}

fn too_early() -> Outcome {
    let lone = Container::open()?;
    let (joined, _group) = EDU.bind()?.join()?;
    let buf = DmaBuf::new(PAGE as usize)?;
    for (what, container) in [("without a group", &lone), ("before SET_IOMMU", &joined)] {
        let is = |call: &str| format!("{call} {what}");
        errno(&is("GET_INFO"), container.iommu_info(), Errno::EINVAL)?;
        errno(&is("MAP_DMA"), container.map_buf(&buf, IOVA), Errno::EINVAL)?;
        errno(&is("UNMAP_DMA"), container.unmap(IOVA, PAGE), Errno::EINVAL)?;
        errno(
            &is("DIRTY_PAGES"),
            sys::with_value(container, IOMMU_DIRTY_PAGES, 0),
            Errno::EINVAL,
        )?;
        // Until a backend is chosen, the container knows no better.
        errno(
            &is("an unknown ioctl"),
            sys::with_value(container, UNKNOWN_IOCTL, 0),
            Errno::EINVAL,
        )?;
        errno(
            &is("a group's ioctl"),
            sys::with_value(container, GROUP_GET_STATUS, 0),
            Errno::EINVAL,
        )?;
    }
    Ok(())
}

fn unknown_ioctls() -> Outcome {
    let (container, _group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    for nr in [
        UNKNOWN_IOCTL,
        GROUP_GET_STATUS,
        DEVICE_GET_INFO,
        DEVICE_RESET,
        0,
        u32::MAX,
    ] {
        errno(
            &format!("ioctl {nr:#x}"),
            sys::with_value(&container, nr, 0),
            Errno::ENOTTY,
        )?;
    }
    Ok(())
}

fn set_iommu() -> Outcome {
    let lone = Container::open()?;
    errno(
        "without a group",
        lone.set_iommu(VFIO_TYPE1v2_IOMMU),
        Errno::EINVAL,
    )?;
    errno(
        "unknown, without a group",
        lone.set_iommu(99),
        Errno::EINVAL,
    )?;
    let (container, _group) = EDU.bind()?.join()?;
    for kind in [0, 2, 4, 6, 7, 8, 10, 99, u32::MAX] {
        errno(
            &format!("of type {kind}"),
            container.set_iommu(kind),
            Errno::ENODEV,
        )?;
    }
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    errno(
        "a second time",
        container.set_iommu(VFIO_TYPE1v2_IOMMU),
        Errno::EINVAL,
    )?;
    errno(
        "of another type",
        container.set_iommu(VFIO_TYPE1_IOMMU),
        Errno::EINVAL,
    )?;
    errno("of an unknown type", container.set_iommu(99), Errno::EINVAL)
}

fn set_iommu_of_an_extension() -> Outcome {
    // UNMAP_ALL is an extension and no type of IOMMU.
    let (container, _group) = EDU.bind()?.join()?;
    errno(
        "SET_IOMMU",
        container.set_iommu(EXT_UNMAP_ALL),
        Errno::EINVAL,
    )?;
    Ok(container.set_iommu(VFIO_TYPE1v2_IOMMU)?)
}

fn info_null_pointer() -> Outcome {
    let (container, _group) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let calls = [
        IOMMU_GET_INFO,
        IOMMU_MAP_DMA,
        IOMMU_UNMAP_DMA,
        IOMMU_DIRTY_PAGES,
    ];
    for nr in calls {
        errno(
            &format!("ioctl {nr:#x} of NULL"),
            sys::with_value(&container, nr, 0),
            Errno::EFAULT,
        )?;
        errno(
            &format!("ioctl {nr:#x} of -1"),
            sys::with_value(&container, nr, usize::MAX),
            Errno::EFAULT,
        )?;
    }
    Ok(())
}

fn last_group_takes_the_iommu_along() -> Outcome {
    let bound = EDU.bind()?;
    let (container, group) = bound.attach(VFIO_TYPE1v2_IOMMU)?;
    let buf = DmaBuf::new(PAGE as usize)?;
    container.map_buf(&buf, IOVA)?;
    group.unset_container()?;
    same("locked memory", vfio_client::counters::locked_kib()?, 0)?;
    errno(
        "MAP_DMA in the empty container",
        container.map_buf(&buf, IOVA),
        Errno::EINVAL,
    )?;
    errno(
        "SET_IOMMU in it",
        container.set_iommu(VFIO_TYPE1v2_IOMMU),
        Errno::EINVAL,
    )?;
    group.set_container(&container)?;
    container.set_iommu(VFIO_TYPE1v2_IOMMU)?;
    // A new address space: nothing of the old one is in it.
    same("unmapped", container.unmap_all()?, 0)?;
    Ok(container.map_buf(&buf, IOVA)?)
}

fn containers_are_apart() -> Outcome {
    let (one, _edu) = EDU.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let (two, _nic) = E1000E.bind()?.attach(VFIO_TYPE1v2_IOMMU)?;
    let buf = DmaBuf::new(PAGE as usize)?;
    one.map_buf(&buf, IOVA)?;
    two.map_buf(&buf, IOVA)?;
    same("unmapped in one", one.unmap_all()?, PAGE)?;
    same("unmapped in the other", two.unmap_all()?, PAGE)
}

fn two_groups() -> Outcome {
    let (edu, nic) = (EDU.bind()?, E1000E.bind()?);
    // The mapping is older than edu's membership: it must be there for edu all the same.
    let (container, nic_group) = nic.attach(VFIO_TYPE1v2_IOMMU)?;
    let buf = DmaBuf::new(2 * PAGE as usize)?;
    container.map_buf(&buf, IOVA)?;
    let edu_group = edu.open_group()?;
    edu_group.set_container(&container)?;
    errno(
        "SET_IOMMU",
        container.set_iommu(VFIO_TYPE1v2_IOMMU),
        Errno::EINVAL,
    )?;
    let device = edu_group.device(&edu.pci.address)?;
    let edu_device = Edu::new(&device)?;
    buf.fill_pattern(1);
    edu_device.fetch(IOVA, 512)?;
    edu_device.store(IOVA + PAGE, 512)?;
    same(
        "what arrived",
        buf.copy(PAGE as usize, 512),
        buf.copy(0, 512),
    )?;
    // The other group leaves: nothing changes for edu.
    nic_group.unset_container()?;
    edu_device.store(IOVA + PAGE + 512, 512)?;
    same(
        "what arrived then",
        buf.copy(PAGE as usize + 512, 512),
        buf.copy(0, 512),
    )?;
    same("unmapped", container.unmap_all()?, 2 * PAGE)
}

fn read_write_and_mmap() -> Outcome {
    let container = Container::open()?;
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(vfio_client::container::NODE)?;
    errno("read", file.read(&mut [0; 4]), Errno::EINVAL)?;
    errno("write", file.write(&[0; 4]), Errno::EINVAL)?;
    let prot = nix::sys::mman::ProtFlags::PROT_READ;
    let flags = nix::sys::mman::MapFlags::MAP_SHARED;
    // SAFETY: a new mapping at an address of the kernel's choice, and it is refused.
    let map = unsafe {
        nix::sys::mman::mmap(None, std::num::NonZero::<usize>::MIN, prot, flags, &file, 0)
    };
    errno("mmap", map.map_err(Into::into), Errno::ENODEV)?;
    ensure!(
        container.as_raw_fd() != file.as_raw_fd(),
        "the same descriptor twice"
    );
    Ok(())
}

suite!(
    iommus: All, debug: Answers;
    api_version,
    extensions_without_iommu,
    extensions_with_iommu,
    too_early,
    unknown_ioctls,
    set_iommu,
    set_iommu_of_an_extension,
    info_null_pointer,
    last_group_takes_the_iommu_along,
    containers_are_apart,
    two_groups,
    read_write_and_mmap,
);
